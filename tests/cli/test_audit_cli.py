"""``rushkit audit``: going on after a stop, and its verdict as an exit code of one process or several."""

from __future__ import annotations

import json
import os
import signal

import pytest
import typer
from commands import only
from rank_programs import STAY, program

from rushkit.auditing.attacks import Attacks
from rushkit.cli import audit as audit_verb
from rushkit.distributed import start

LEAST = ("--limit", "4", "--samples", "64", "--steps", "2", "--eot", "2", "--queries", "3")


@pytest.fixture
def stopped(cli, runs, monkeypatch):
    """The run of an audit that was asked to stop in its third measurement."""
    original, calls = Attacks.measure, 0

    def measure(self, measurement):
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, measurement)

    with monkeypatch.context() as patch:
        patch.setattr(Attacks, "measure", measure)
        said = cli("audit", *LEAST)
    assert said.code == 130, said.err
    assert f"rushkit audit --resume --run {only(runs, 'audit').relative_to(runs.parent)}" in said.err
    return only(runs, "audit")


def test_a_stopped_audit_goes_on_with_what_it_was_started_with(cli, stopped, runs):
    assert len(list((stopped / "counts").iterdir())) == 3
    resumed = cli("audit", "--resume", "--json")
    whole = cli("audit", "--json", *LEAST)
    assert resumed.code == whole.code in (0, 1), resumed.err
    mine, theirs = json.loads(resumed.out), json.loads(whole.out)
    assert mine.pop("run") != theirs.pop("run")
    assert mine == theirs
    assert json.loads((stopped / "run.json").read_text())["status"] == "finished"


def test_measurements_of_another_model_are_not_taken(cli, stopped, monkeypatch):
    measured, original = [], Attacks.measure
    monkeypatch.setattr(Attacks, "measure", lambda self, what: measured.append(what) or original(self, what))
    monkeypatch.setattr("rushkit.setup.subject.fingerprint_of", lambda split: "of other images")
    assert cli("audit", "--resume").code in (0, 1)
    assert len({what.label for what in measured}) == len(measured) > 10


@pytest.mark.parametrize("flag", ["--steps", "--limit", "--norm", "--claim"])
def test_a_resumed_audit_takes_no_flags(fails, runs, flag):
    said = fails(2, "audit", "--resume", flag, {"--norm": "l2", "--claim": "0.5"}.get(flag, "4"))
    assert f"it cannot take {flag}" in said.err


@pytest.mark.parametrize("claim", ["1.1", "-0.1", "nan", "inf", "65%", "most"])
def test_a_claim_that_is_no_share_is_refused_before_a_run_is_made(fails, runs, claim):
    said = fails(2, "audit", "--claim", claim, *LEAST)
    assert "--claim" in said.err
    assert not list(runs.glob("*-audit-*"))


def test_a_claim_changes_no_measurement_and_survives_a_stop(cli, runs, monkeypatch):
    original, calls = Attacks.measure, []

    def measure(self, measurement):
        calls.append(measurement.label)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, measurement)

    monkeypatch.setattr(Attacks, "measure", measure)
    assert cli("audit", "--claim", "1", *LEAST).code == 130
    assert json.loads((only(runs, "audit") / "run.json").read_text())["claim"] == 1.0
    claimed = json.loads(cli("audit", "--resume", "--json").out)
    # The third measurement was finished before the stop.
    assert len(set(calls)) == len(calls)
    plain = json.loads(cli("audit", "--json", *LEAST).out)
    assert (claimed.pop("claim"), plain.pop("claim", None)) == (1.0, None)
    said, silent = ({check["code"]: check for check in audit.pop("checks")} for audit in (claimed, plain))
    assert silent["RK127"]["status"] == "skipped"
    assert said["RK127"]["figures"]["claim"] == 1.0
    assert said.pop("RK127") != silent.pop("RK127")
    assert said == silent
    assert claimed.pop("run") != plain.pop("run")
    # One vote of 64 draws on each of the four images.
    assert [claimed.pop(name) - plain.pop(name) for name in ("passes", "announced")] == [256, 256]
    assert claimed == plain


def test_of_several_ranks_rank_0_alone_brings_the_verdict_and_the_launcher_explains_nothing(folder, capfd):
    # What Typer makes of Exit is an end of the process with its code.
    verdict = (
        "import typer\nfrom rushkit.cli.audit import _leave\nfrom rushkit.place import take_place\ntake_place()\n"
        "try:\n    _leave(True)\nexcept typer.Exit as verdict:\n    sys.exit(verdict.exit_code)"
    )
    assert start.run_ranks(program(folder, verdict, f"{verdict}\n{STAY}"), 2) == 1
    assert capfd.readouterr().err == ""


def test_a_verdict_that_nothing_failed_is_no_error():
    audit_verb._leave(False)
    with pytest.raises(typer.Exit):
        audit_verb._leave(True)
