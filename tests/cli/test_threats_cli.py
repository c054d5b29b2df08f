"""``rushkit evaluate`` under corruptions and shifts as a user meets it."""

from __future__ import annotations

import json

import pytest
from commands import only

QUICK = ("--limit", "6", "--samples", "1")


def test_corruptions_and_shifts_in_tables_in_json_and_in_a_report(cli, runs, tmp_path):
    arguments = ("--corruptions", "fog,Gaussian_Noise", "--strengths", "1,5", "--shift", "--grid", "3,1,1")
    said = cli("evaluate", *QUICK, *arguments)
    assert said.code == 0, said.err
    for words in ("gaussian-noise", "strength 5", "mean accuracy % [95%]", "worst % [95%]", "not the official files."):
        assert words in said.out
    run = only(runs, "evaluate")
    results = json.loads((run / "results.json").read_text())
    assert results["corruptions"]["kinds"] == ["fog", "gaussian-noise"]
    assert results["shifts"]["grid"] == [3, 1, 1]
    assert cli("report", str(run), "--no-images", "--out", str(tmp_path / "page"), "-q").code == 0
    html, markdown, data = ((tmp_path / "page" / f"report.{kind}").read_text() for kind in ("html", "md", "json"))
    assert "Corruptions and shifts" in html
    assert "gaussian-noise" in html
    assert "### Under corruptions and shifts" in markdown
    assert "| gaussian-noise |" in markdown
    (model,) = json.loads(data)["models"]
    assert model["corruptions"][0]["images"] == 6
    assert "outcomes" not in model["corruptions"][0]
    assert model["shifts"][0]["rows"][0]["images"] == 6
    shown = cli("runs", "show", str(run)).out
    assert "mean of 2 corruptions at 2 strengths, m = 1, majority:" in shown
    assert "worst of 3 rotations and translations, m = 1, majority:" in shown


def test_a_baseline_makes_an_mce_and_a_resume_remembers_it(cli, runs):
    arguments = (*QUICK, "--corruptions", "contrast", "--strengths", "5")
    assert cli("evaluate", *arguments).code == 0
    baseline = only(runs, "evaluate").name
    said = cli("evaluate", *arguments, "--baseline", baseline, "--json")
    assert said.code == 0, said.err
    results = json.loads(said.out)
    assert results["corruptions"]["means"][0]["mce"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "mCE 100.0 [100.0, 100.0] %" in cli("runs", "show", results["run"]).out
    again = cli("evaluate", "--resume", "--run", results["run"], "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out) == results


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--corruptions", "fogg"], "fogg"),
        (["--corruptions", "fog,,snow"], "has an empty name"),
        (["--corruptions", "fog,fog"], "must not have one of them twice"),
        (["--corruptions", "fog", "--strengths", "0,1"], "strengths"),
        (["--corruptions", "fog", "--strengths", "6"], "strengths"),
        (["--corruptions", "fog", "--strengths", "a"], "is not a list of whole numbers"),
        (["--strengths", "1"], "--strengths without --corruptions"),
        (["--baseline", "x"], "--baseline without --corruptions"),
        (["--corruptions", "fog", "--baseline", "nowhere"], "nowhere"),
        (["--rotation", "10"], "--rotation without --shift"),
        (["--shift", "--rotation", "200"], "rotation"),
        (["--shift", "--translation", "far"], "must be a number of pixels, 0 or more, or auto"),
        (["--shift", "--grid", "4,5,5"], "must be odd numbers"),
        (["--shift", "--grid", "5,5"], "grid"),
        (["--shift", "--grid", "99999,9,9"], "points at most"),
    ],
)
def test_what_cannot_be_measured_is_said_before_there_is_a_run(fails, runs, arguments, words):
    before = sorted(runs.iterdir())
    assert words in fails(2, "evaluate", *QUICK, *arguments).err
    assert sorted(runs.iterdir()) == before
