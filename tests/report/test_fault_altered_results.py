"""Results and facts of runs that were altered: named as damaged, never printed and never an error inside rushkit."""

from __future__ import annotations

import json

import pytest

from rushkit.cli.app import main


def put(*place):
    """An alteration: ``put("attacks", 0, "eps", 7)``."""

    def alter(results):
        *keys, last, value = place
        for key in keys:
            results = results[key]
        results[last] = value

    return alter


ALTERED = {
    "an accuracy of 7": ("evaluate", put("accuracy", 0, "accuracy", 7)),
    "an accuracy in words": ("evaluate", put("accuracy", 0, "accuracy", "0.9")),
    "an accuracy that is not its count": ("evaluate", put("accuracy", 0, "accuracy", 0.9)),
    "a count below zero": ("evaluate", put("accuracy", 0, "correct", -9)),
    "a list for a row": ("evaluate", put("accuracy", 0, [])),
    "predictions in words": ("evaluate", put("outcomes", "predicted", "1", "majority", 0, "cat")),
    "a label is missing": ("evaluate", lambda results: results["outcomes"]["labels"].pop()),
    "not a number": ("attack", put("attacks", 1, "rules", "majority", "accuracy", float("nan"))),
    "a list for the rules": ("attack", put("attacks", 1, "rules", [1])),
    "votes below zero": ("attack", put("attacks", 1, "outcomes", "right", "majority", 0, -3)),
    "an accuracy that is not that of the images": ("attack", put("attacks", 1, "rules", "majority", "accuracy", 0.5)),
    "no votes at all": ("attack", put("attacks", 1, "votes", 0)),
    "an eps of 30 digits": ("attack", put("attacks", 1, "eps", 10**30)),
    "images in words": ("attack", put("attacks", 1, "images", "12")),
    "a certified share of -1": ("certify", put("certified", 1, "value", -1)),
    "a radius in words": ("certify", put("outcomes", "radius", 0, "far")),
    "more certified than its images are": ("certify", put("certified", 1, "count", 4)),
    "a radius that fewer are certified at": ("certify", put("certified", 2, "radius", 0.26)),
    "another number of images than outcomes": ("certify", put("images", 10**12)),
    "more certified strictly than at all": ("certify", put("certified", 0, "strict", 4)),
    "all of them proved together": ("certify", put("certified", 0, "proved", 3)),
    "a proved share that is not its count": ("certify", put("certified", 0, "proved_value", 0.75)),
    "no certificate that may be false": ("certify", put("together", "most_false", 0)),
    "an alpha of the strict ones that is not its share": ("certify", put("together", "strict_alpha", 0.001)),
    "another alpha than was shared": ("certify", put("alpha", 0.5)),
    "no alpha at all": ("certify", put("alpha", 0)),
    "a theorem that is no words": ("certify", put("theorem", 3)),
    "an infinite reach": ("certify", put("reach", float("inf"))),
    "checks that are a text": ("audit", put("checks", "all well")),
    "a sweep of a number": ("audit", put("sweeps", "steps", 3)),
    "a ratio in words": ("probe", put("rows", 0, "mean", "high")),
    "results that are a list": ("evaluate", None),
}


def altered(runs, verb, alter):
    (path,) = runs.root.glob(f"*-{verb}-*/results.json")
    results = json.loads(path.read_text())
    if alter is None:
        results = [results]
    else:
        alter(results)
    path.write_text(json.dumps(results))
    return path.parent


@pytest.mark.parametrize(("verb", "alter"), ALTERED.values(), ids=ALTERED)
def test_a_report_names_damaged_results_and_leaves_them_out(runs, measured, page_folder, capsys, verb, alter):
    run = altered(runs, verb, alter)
    assert main(["report", str(measured.path), "--out", str(page_folder), "--no-images"]) == 0
    (model,) = json.loads((page_folder / "report.json").read_text())["models"]
    (note,) = [note for note in model["notes"] if run.name in note]
    assert "results.json is damaged" in note
    assert "error inside rushkit" not in capsys.readouterr().err
    assert run.name not in json.dumps([model[key] for key in ("accuracy", "attacks", "certified", "audit", "probe")])


@pytest.mark.parametrize(
    ("verb", "alter"),
    [ALTERED["an accuracy of 7"], ALTERED["not a number"], ALTERED["a list for a row"], ALTERED["a sweep of a number"]],
    ids=["accuracy", "nan", "row", "sweep"],
)
def test_a_list_of_runs_shows_that_results_are_damaged(runs, measured, capsys, verb, alter):
    run = altered(runs, verb, alter)
    assert main(["runs", "list", "--runs-dir", str(runs.root), "--json"]) == 0
    rows = {row["run"]: row["figure"] for row in json.loads(capsys.readouterr().out)["runs"]}
    assert rows[str(run)] == "damaged results"


def test_models_are_not_compared_by_damaged_results(runs, measured, capsys):
    run = altered(runs, "evaluate", put("outcomes", "predicted", "1", "majority", [1]))
    other = runs.model(name="other")
    spec = [str(measured.path), str(other.path)]
    assert main(["runs", "compare", *spec, "--runs-dir", str(runs.root)]) == 0
    assert main(["runs", "compare", str(run), *spec, "--runs-dir", str(runs.root), "--json"]) == 0
    assert "damaged results" in capsys.readouterr().out


FACTS = {
    "argv": 3,
    "machine": ["cpu"],
    "seed": "none",
    "versions": [1],
    "git": "abc",
    "owners": "us",
    "stage": 5,
    "imported": "yes",
    "protocols": "strict",
    "precision": 32,
}


@pytest.mark.parametrize("key", FACTS)
def test_a_run_whose_facts_are_of_another_kind_is_broken(runs, measured, capsys, key):
    facts = json.loads((measured.path / "run.json").read_text())
    (measured.path / "run.json").write_text(json.dumps({**facts, key: FACTS[key]}))
    assert main(["runs", "show", str(measured.path)]) == 2
    assert f"run.json is damaged: its '{key}'" in capsys.readouterr().err
