"""``rushkit study report``."""

from __future__ import annotations

import json

import pytest

from rushkit.cli.app import main
from rushkit.report.study.make import study_report
from rushkit.report.study.write import FORMATS
from rushkit.study.make import plan_study

STUDY = """
schema = 1
title = "mine"
[[stage]]
do = "finetune"
[[stage]]
do = "evaluate"
[[row]]
label = "A"
recipe = "cross-entropy-digits"
published = ["rush-cifar10-vote"]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path / "mine.toml"


def test_a_study_of_which_nothing_is_done_has_a_table_of_states(study, capsys):
    assert main(["study", "report", "mine.toml"]) == 0
    said = capsys.readouterr().out
    assert "mine: 0 of 2 jobs are done; 2 not run" in said
    folder = study.parent / "runs" / "studies" / "mine"
    assert sorted(path.suffix[1:] for path in folder.iterdir()) == sorted(FORMATS)


def test_out_and_format_say_where_and_what(study, capsys):
    arguments = ["study", "report", "mine.toml", "--out", "there", "--format", "tex", "--format", "csv", "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == {"csv": "there/report.csv", "tex": "there/report.tex"}
    assert printed["lines"][0]["published"][0]["key"] == "rush-cifar10-vote"


def test_damaged_results_count_as_missing_and_are_said(study):
    (job, _) = plan_study(str(study)).jobs
    kept = study.with_suffix("") / f"{job[:16]}.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"job": job, "stage": "finetune", "epochs": "many"}))
    warned: list[str] = []
    report = study_report(str(study), warn=warned.append)
    assert report.trainings[0].state == "damaged"
    assert len(warned) == 1
    assert f"{kept.name} is damaged: " in warned[0]


def test_results_of_another_version_are_noted(study, tmp_path):
    (job, _) = plan_study(str(study)).jobs
    run = tmp_path / "runs" / f"job-{job[:16]}"
    run.mkdir(parents=True)
    results = {
        "job": job,
        "stage": "finetune",
        "recipe": "x",
        "epochs": 3,
        "source": None,
        "loaded": 0,
        "trainable": [],
    }
    (run / "results.json").write_text(json.dumps(results))
    (run / "run.json").write_text(json.dumps({"versions": {"rushkit": "0.0.1"}}))
    report = study_report(str(study))
    assert report.trainings[0].epochs == 3
    assert report.notes == ("1 of the jobs were done by rushkit 0.0.1",)


def test_a_report_says_what_is_wrong_with_its_study(study, capsys):
    study.write_text(STUDY.replace("[[row]]", '[report]\nl3 = [0.1]\nl2 = ["far"]\n[[row]]'))
    assert main(["study", "report", "mine.toml"]) == 2
    said = capsys.readouterr().err
    assert "mine.toml:9: report.l3: unknown key" in said
    assert "mine.toml:10: report.l2" in said
