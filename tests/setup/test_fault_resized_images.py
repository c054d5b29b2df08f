"""Where images were resized, whoever reads a radius or an eps is told in which pixels it is."""

from __future__ import annotations

import pytest
from tiny_runs import QUIET, checkpoint_of, finetuned, folder_of_images

from rushkit.auditing.audit import audit, audit_settings
from rushkit.certification.certify import certify
from rushkit.certification.predict import predict
from rushkit.evaluation.probe import Ball, probe
from rushkit.report.content import build_report
from rushkit.report.families import gather
from rushkit.robustness.attack import attack
from rushkit.run.named import run_named
from rushkit.setup.start import start_run

WORDS = "resized from 8x8 to 16x16"
CHANGES = ("data.image_size=16", "attack.0.steps=1", "attack.0.samples=[2]", "attack.0.limit=2", "certify.limit=2")
FEW = ("certify.samples=20", "certify.selection=5")


@pytest.fixture
def model(tiny):
    recipe = tiny(*CHANGES, *FEW, "finetune.freeze=none", "finetune.epochs=1")
    return recipe, checkpoint_of(finetuned(recipe, None))


def log(run) -> str:
    return (run.path / "log.txt").read_text(encoding="utf-8")


def test_an_attack_says_it_at_the_start_and_beside_its_figures(model):
    recipe, source = model
    with start_run("attack", recipe, QUIET, parent=str(source.path)) as run:
        results = attack(recipe, source, run, ["paper"]).to_json()
    assert WORDS in log(run)
    assert any(WORDS in note["text"] for note in results["attacks"][0]["notes"])


def test_a_certification_says_it_at_the_start_and_of_what_is_covered(model):
    recipe, source = model
    with start_run("certify", recipe, QUIET, parent=str(source.path)) as run:
        results = certify(recipe, source, run).to_json()
    assert WORDS in log(run)
    assert WORDS in results["covers"]


def test_an_audit_and_a_probe_say_it_at_the_start_and_the_report_beside_their_figures(model):
    recipe, source = model
    budgets = audit_settings("linf", 8 / 255, seed=0, steps=1, eot=1, queries=2, planted=1)
    with start_run("audit", recipe, QUIET, parent=str(source.path)) as run:
        audit(recipe, source, budgets, run, images=2, samples=2)
    assert WORDS in log(run)
    with start_run("probe", recipe, QUIET, parent=str(source.path)) as other:
        probe(recipe, source, Ball(steps=1), other, images=2)
    assert WORDS in log(other)
    (model,) = build_report([gather(run_named(str(source.path.parents[1]), recipe.system.runs_dir)[0])]).models
    assert {run.path.name, other.path.name} <= {note.partition(":")[0] for note in model.notes if WORDS in note}


def test_a_folder_whose_images_are_resized_says_so(tiny, tmp_path):
    folder = folder_of_images(tmp_path / "pictures", size=12)
    of_folder = ("data.name=folder", f"data.path={folder}", "data.image_size=8", "data.limit=0")
    recipe = tiny(*CHANGES, *FEW, *of_folder, "finetune.freeze=none", "finetune.epochs=1")
    source = checkpoint_of(finetuned(recipe, None))
    assert "resized from 12x12 to 8x8" in certify(recipe, source).covers


def test_a_prediction_says_whose_pixels_its_radius_counts(model, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    assert "16x16" in predict(*model, [tmp_path / "photo.png"], QUIET).explanation
