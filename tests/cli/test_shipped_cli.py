"""Every verb takes a model that comes with rushkit, and writes to the user's folder of runs, never to the package."""

from __future__ import annotations

import json

import pytest
from commands import contents, only, sets
from PIL import Image

from rushkit.cli.complete import complete_runs
from rushkit.run.shipped import shipped_folder, shipped_run

NAME = "shipped/digits"
LIMIT = sets("data.limit=8")


@pytest.fixture(autouse=True)
def _untouched():
    before = contents(shipped_folder())
    yield
    assert contents(shipped_folder()) == before


def facts(run):
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", *LIMIT, "--samples", "1"),
        ("attack", "--type", "pgd", "--limit", "2", "--samples", "1", *sets("attack.0.steps=2")),
        ("audit", "--limit", "4", "--samples", "2", "--steps", "2", "--eot", "1", "--queries", "4"),
        ("certify", "--norm", "l1", "--samples", "100", "--limit", "2"),
        ("probe", "--limit", "4", "--steps", "1"),
        ("cluster", "--clusters", "2", *sets("data.limit=32")),
        ("finetune", "--to", "digits", *sets("data.limit=32", "finetune.epochs=1", "finetune.batch_size=8")),
    ],
    ids=lambda words: words[0],
)
def test_a_verb_takes_it_and_notes_where_the_model_came_from(cli, folder, words):
    verb, *options = words
    said = cli(verb, "--from", NAME, *options)
    # A check of the audit may fail: that is a verdict on so few draws.
    assert said.code in ((0, 1) if verb == "audit" else (0,)), said.err
    assert "error:" not in said.err or verb == "audit"
    run = only(folder / "runs", verb)
    model = shipped_run(NAME)
    assert model.path.name in facts(run)["parent"]
    assert facts(run)["hashes"]["parent"] == model.store().load_latest().hash


def test_predict_and_export_take_it(cli, folder):
    Image.new("RGB", (16, 16), "grey").save("digit.png")
    assert cli("predict", "digit.png", "--from", NAME, "--samples", "100").code == 0
    said = cli("export", "--from", NAME, "--to", "digits.safetensors")
    assert said.code == 0, said.err


def test_a_report_joins_what_came_with_it_and_what_was_measured_here(cli, folder):
    assert cli("certify", "--from", NAME, "--norm", "l1", "--samples", "100", "--limit", "2").code == 0
    said = cli("report", NAME)
    assert said.code == 0, said.err
    report = json.loads((folder / "runs" / NAME / "report.json").read_text())
    (model,) = report["models"]
    assert model["accuracy"]
    assert {row["protocol"] for row in model["attacks"]} == {"paper", "strict"}
    assert [row["run"] for row in model["certified"]] == [only(folder / "runs", "certify").name]
    assert (folder / "runs" / NAME / "report.html").stat().st_size > 10_000
    # What is left to measure is said in commands that work.
    assert f"rushkit audit --from {NAME}" in said.out
    # From the other end: a measurement leads to its model.
    there = cli("report", str(only(folder / "runs", "certify")))
    assert there.code == 0, there.err
    assert f"written: runs/{NAME}/report.html" in there.out


def test_a_model_on_its_encoder_is_not_credited_with_its_figures(cli, folder):
    changes = sets("data.limit=32", "finetune.epochs=1", "finetune.batch_size=8", "name=other")
    assert cli("finetune", "--from", NAME, *changes).code == 0
    said = cli("report", "other", "--no-images")
    assert said.code == 0, said.err
    report = json.loads((only(folder / "runs", "finetune") / "report.json").read_text())
    assert (report["models"][0]["accuracy"], report["models"][0]["attacks"]) == ([], [])


def test_show_begins_with_its_card(cli):
    said = cli("runs", "show", NAME)
    assert said.code == 0, said.err
    assert said.out.startswith(f"# {NAME}\n")
    assert "Licence of the weights" in said.out
    assert f"measure it: rushkit evaluate --from {NAME}" in said.out
    assert "Licence" in json.loads(cli("runs", "show", NAME, "--json").out)["card"]


def test_an_unknown_one_is_one_message_and_the_names_there_are(fails):
    for words in (("evaluate", "--from"), ("report",), ("runs", "show")):
        said = fails(2, *words, "shipped/nothing")
        assert "there are: " in said.err
        assert NAME in said.err


def test_it_is_not_removed(fails):
    assert "comes with rushkit and stays" in fails(2, "runs", "remove", NAME, "--yes", "--force").err


def test_the_shell_offers_them_and_the_list_of_runs_does_not(cli):
    assert (NAME, "comes with rushkit") in complete_runs("shi")
    assert "shipped" not in cli("runs", "list").out


def test_without_its_images_the_command_says_how_to_get_them_and_what_needs_none(fails):
    said = fails(1, "attack", "--from", "shipped/cifar10-cpu", "--type", "pgd", "--limit", "2")
    assert "rushkit data fetch cifar10" in said.err
    assert "RUSHKIT_DATA" in said.err
    assert "--from shipped/digits" in said.err
