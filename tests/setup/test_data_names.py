"""A data set has one name in the results of every stage: that of the folder of images that it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import QUIET, checkpoint_of, finetuned, folder_of_images

from rushkit.auditing.audit import audit
from rushkit.auditing.plan import Settings
from rushkit.certification.certify import certify, recertify
from rushkit.evaluation.evaluate import evaluate
from rushkit.evaluation.probe import Ball, probe
from rushkit.recipe.schema import Recipe
from rushkit.report.content import build_report
from rushkit.report.families import gather
from rushkit.robustness.attack import attack
from rushkit.run.info import find_runs
from rushkit.setup.components import build_dataset, load_split
from rushkit.setup.start import start_run
from rushkit.training.cluster import cluster

SMALL = (
    "data.validation=6",
    "finetune.batch_size=5",
    "evaluate.samples=[1]",
    "attack.0.samples=[1]",
    "attack.0.type=pgd",
    "attack.0.steps=1",
)


@pytest.fixture
def pets(tiny, tmp_path) -> Recipe:
    folder_of_images(tmp_path / "pets", classes=2)
    return tiny(
        "data.name=folder", f"data.path={tmp_path / 'pets'}", "finetune.freeze=none", "certify.samples=20", *SMALL
    )


def test_every_stage_names_a_folder_of_images_alike(pets, tmp_path):
    model = checkpoint_of(finetuned(pets, None))
    attacked = attack(pets, model, protocols=["paper"])
    with start_run("certify", pets, QUIET, str(model.path)) as run:
        certified = certify(pets, model, run)
    with start_run("cluster", pets, QUIET, str(model.path)) as run:
        clustered = cluster(pets, model, [2], "train", 1, run)
    named = {
        "evaluate": evaluate(pets, model).data,
        "attack": attacked.attacks[0].split,
        "certify": certified.data,
        "from counts": recertify(pets, Path(certified.run)).data,
        "audit": audit(pets, model, Settings("linf", 0.1, steps=1, eot=1, queries=1), images=4).data,
        "probe": probe(pets, model, Ball("linf", 0.1, 1), images=4).data,
    }
    assert named == dict.fromkeys(named, "pets/test")
    assert (attacked.data, clustered.data) == ("pets", "pets/train")
    described = build_report([gather(info) for info in find_runs(tmp_path / "runs") if info.verb == "finetune"])
    assert "on pets/train" in described.models[0].about["fine-tuning"]


def test_images_held_out_are_those_of_validation(pets):
    assert load_split(pets, build_dataset(pets), "validation").name == "pets/validation"
    assert load_split(pets, build_dataset(pets), "train").name == "pets/train"


def test_the_data_folder_itself_has_a_name(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "pets")
    here = pets.model_copy(update={"data": pets.data.model_copy(update={"path": "."})})
    here = here.model_copy(update={"system": here.system.model_copy(update={"data_dir": "."})})
    assert build_dataset(here).name == "pets"
