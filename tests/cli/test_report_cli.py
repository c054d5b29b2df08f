"""``rushkit report``, on a real run of every stage, and ``rushkit runs compare``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import contents, only, sets

from rushkit.run.checkpoint import load_checkpoint, save_checkpoint

ATTACK = ("attack.0.steps=1", "attack.0.restarts=1", "attack.0.loss=nll")


def test_a_report_on_every_stage_shows_images_and_figures(cli, runs):
    assert cli("evaluate", "--samples", "1,4", "-q").code == 0
    said = cli("attack", "--limit", "4", "--samples", "2", "--save", "-q", *sets(*ATTACK))
    assert said.code == 0, said.err
    said = cli("certify", "--norm", "l1", "--samples", "20", "--limit", "4", "-q")
    assert said.code == 0, said.err
    model = only(runs, "finetune")
    said = cli("report")
    assert said.code == 0, said.err
    assert f"the newest model: {model.relative_to(runs.parent)}" in said.out
    assert {"report.html", "report.md", "report.json"} <= set(contents(model))
    page = (model / "report.html").read_text()
    document = json.loads((model / "report.json").read_text())["models"][0]
    assert {run["stage"] for run in document["runs"]} == {"pretrain", "finetune", "evaluate", "attack", "certify"}
    assert [row["protocol"] for row in document["attacks"]] == ["paper", "weaker"]
    # Clean, attacked, what was changed, one noisy look.
    assert page.count('src="data:image/png;base64,') == 4 * 4
    assert "change × " in page
    assert cli("report", str(only(runs, "attack")), "--out", "elsewhere", "-q").code == 0
    # Elsewhere it is the same page, but for the links to the folders of its runs.
    pages = [
        re.sub('href="[^#"]*"', "", text) for text in (page, (runs.parent / "elsewhere" / "report.html").read_text())
    ]
    assert pages[0] == pages[1]


def saved_attack(cli, runs) -> Path:
    """Attack, and keep the images: the checkpoint that holds them."""
    said = cli("attack", "--limit", "4", "--samples", "2", "--protocol", "strict", "--save", "-q", *sets(*ATTACK))
    assert said.code == 0, said.err
    run = only(runs, "attack")
    (row,) = json.loads((run / "results.json").read_text())["attacks"]
    return run / row["saved"]


def test_images_that_lie_outside_the_ball_are_those_of_another_data_set(cli, runs):
    path = saved_attack(cli, runs)
    kept = load_checkpoint(path)
    page = only(runs, "finetune") / "report.html"
    save_checkpoint(path, kept.tensors | {"images": kept.tensors["images"].flip(3)}, kept.meta)
    assert cli("report").code == 0
    assert "No attacked images were kept" in page.read_text()
    save_checkpoint(path, kept.tensors, kept.meta)
    assert cli("report").code == 0
    assert "Attacked by pgd" in page.read_text()


def test_each_image_says_what_the_attack_did_to_it(cli, runs):
    saved_attack(cli, runs)
    assert cli("report").code == 0
    page = (only(runs, "finetune") / "report.html").read_text()
    fates = re.findall(r'<p class="outcome"><b>[^<]*</b> <span[^>]*>([^<]*)</span>', page)
    assert len(fates) == 4
    assert set(fates) <= {"broken", "still right", "wrong before"}


def test_a_report_after_a_probe_and_of_what_transfers(cli, runs):
    encoder, model = only(runs, "pretrain"), only(runs, "finetune")
    said = cli("probe", "--from", str(encoder), "--limit", "4", "--steps", "2", "-q")
    assert said.code == 0, said.err
    words = ("--limit", "4", "--samples", "2", "--protocol", "strict", "--transfer-to", str(model))
    said = cli("attack", "-q", *words, *sets(*ATTACK))
    assert said.code == 0, said.err
    said = cli("report", str(only(runs, "probe")))
    assert said.code == 0, said.err
    page = (model / "report.html").read_text()
    assert "Feature distance per image distance, l-inf 8/255, digits/test" in page
    assert "<h3>Transfer</h3>" in page
    found = json.loads((model / "report.json").read_text())["models"][0]
    assert [row["images"] for row in found["probe"][0]["rows"]] == [4] * 4


def test_a_report_after_fine_tuning_has_images_but_no_attack(cli, runs):
    said = cli("report", "digits", "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["models"][0]["attacks"] == []
    page = Path(document["files"]["html"]).read_text()
    assert "No attacked images were kept" in page
    assert page.count('src="data:image/png;base64,') == 6 * 2


def test_a_report_after_pretraining(cli, runs, folder):
    alone = folder / "alone"
    alone.mkdir()
    only(runs, "pretrain").rename(alone / only(runs, "pretrain").name)
    assert cli("report", "--set", "system.runs_dir=alone").code == 0
    assert "Pre-training" in (only(alone, "pretrain") / "report.html").read_text()


def test_without_a_recipe_there_is_a_sentence_instead_of_images(cli, runs):
    model = only(runs, "finetune")
    (model / "recipe.toml").unlink()
    assert cli("report").code == 0
    assert "No images of digits: its recipe is gone" in (model / "report.html").read_text()
    assert cli("report", "--no-images").code == 0
    assert "No images" not in (model / "report.html").read_text()


def test_two_models_are_compared(cli, runs):
    first = only(runs, "finetune")
    assert cli("finetune", "-q", "--from", str(only(runs, "pretrain")), *sets("finetune.bn=eval")).code == 0
    second = only(runs, "finetune")
    for model in (first, second):
        assert cli("evaluate", "-q", "--from", str(model), "--samples", "1").code == 0
    said = cli("report", first.name, second.name, "--json", "--no-images")
    assert said.code == 0, said.err
    found = json.loads(said.out)["comparison"]
    assert found["recipes"] == {"finetune.bn": ["train", "eval"]}
    assert [row["images"] for row in found["significance"]] == [32]
    assert (first / "comparison.html").exists()
    said = cli("runs", "compare", first.name, second.name, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["significance"][0]["p_value"] == found["significance"][0]["p_value"]
    assert "finetune.bn" in cli("runs", "compare", first.name, second.name).out


@pytest.mark.parametrize("arguments", [(), ("nothing-of-this-name",)])
def test_no_run_is_a_usage_error(fails, arguments):
    assert "there is no run" in fails(2, "report", *arguments).err


def test_one_run_cannot_be_compared(fails, runs):
    fails(2, "runs", "compare", only(runs, "finetune").name)


def test_a_folder_that_cannot_be_written_is_one_error(fails, runs, folder):
    (folder / "file").write_text("")
    fails(1, "report", "--no-images", "--out", "file/report")
