"""``rushkit audit --self-test``: what it prints and keeps, what does not go together, and going on after a stop."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from commands import only
from torch import nn

from rushkit.auditing.selftest import cases, stage
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.ground import CLASSES, SIDE


class Rounded(nn.Module):
    """A linear readout of black and white images: its slope is zero."""

    def __init__(self, readout):
        super().__init__()
        self.readout = readout

    def forward(self, x):
        return self.readout((x > 0.5).float() + 0 * x)


def readout():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES)).eval().requires_grad_(False)


BROKEN = Case("zero-slope", "broken", "linf", 0.05, lambda ground: Planted(Rounded(readout())), ("RK104",))
SOUND = Case("untrained", "sound", "linf", 0.05, lambda ground: Planted(readout()))


@pytest.fixture(autouse=True)
def two_cases(monkeypatch):
    """The self-test has two cases, and looks at few images."""
    monkeypatch.setattr(cases, "CASES", (BROKEN, SOUND))
    monkeypatch.setattr(stage, "IMAGES", 12)


def test_it_prints_a_row_for_each_case_and_the_totals(cli, folder):
    said = cli("audit", "--self-test", "--set", "system.seed=3")
    assert said.code == 0, said.err
    assert "2 cases, seed 3" in said.out
    assert "RK104" in next(line for line in said.out.splitlines() if "zero-slope" in line)
    assert "broken defences: 1 of 1 caught for the right cause" in said.out
    assert f"run: {only(folder / 'runs', 'audit').relative_to(folder)}" in said.out
    for verb in (["runs", "list"], ["runs", "show", only(folder / "runs", "audit").name]):
        shown = cli(*verb)
        assert shown.code == 0, shown.err
        assert "self-test" in shown.out
    assert "broken defences: 1 of 1 caught" in shown.out


def test_json_is_one_document_with_a_row_for_each_case(cli):
    said = cli("audit", "--self-test", "--json", "--case", "untrained", "-q")
    assert said.code == 0, said.err
    results = json.loads(said.out)
    assert [row["name"] for row in results["cases"]] == ["untrained"]
    assert results["stage"] == "self-test"
    assert results["totals"] == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--from", "digits"], "cannot take --from"),
        (["--eps", "0.1"], "cannot take --eps"),
        (["--norm", "l2"], "cannot take --norm"),
        (["--limit", "8"], "cannot take --limit"),
        (["--claim", "0.5"], "cannot take --claim"),
        (["--steps", "8", "--queries", "9"], "cannot take --steps, --queries"),
        (["--set", "data.name=digits"], "cannot take --set data.name"),
        (["--set", "system.sed=1"], "system.sed"),
        (["--case", "zero-slop"], "no case 'zero-slop'"),
    ],
)
def test_what_does_not_go_with_it_is_one_usage_error(fails, folder, flags, words):
    assert words in fails(2, "audit", "--self-test", *flags).err
    assert not (folder / "runs").exists()


def test_a_case_belongs_to_the_self_test(fails):
    assert "--case without --self-test" in fails(2, "audit", "--case", "zero-slope").err


@pytest.fixture
def stopped(cli, folder, monkeypatch):
    """The run of a self-test that was asked to stop in its second case."""
    original = stage.examine

    def examine(case, *rest):
        if case is SOUND:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(case, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "examine", examine)
        said = cli("audit", "--self-test", "--set", "system.seed=2")
    assert said.code == 130, said.err
    assert "the rows of 1 of 2 cases are kept" in said.err
    run = only(folder / "runs", "audit")
    assert f"rushkit audit --resume --run {run.relative_to(folder)}" in said.err
    return run


@pytest.mark.parametrize("flags", [[], ["--self-test"]])
def test_it_goes_on_where_it_was_stopped(cli, stopped, flags):
    resumed = cli("audit", *flags, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    results = json.loads(resumed.out)
    assert [row["name"] for row in results["cases"]] == ["zero-slope", "untrained"]
    assert (results["seed"], results["run"]) == (2, str(stopped.relative_to(stopped.parents[1])))


def test_a_resumed_self_test_takes_no_case(fails, stopped):
    assert "it cannot take --case" in fails(2, "audit", "--self-test", "--resume", "--case", "untrained").err


def test_the_audit_of_a_model_is_no_self_test(fails, runs):
    audit = runs / "20300101-000000-audit-digits-000000"
    audit.mkdir()
    facts = {"verb": "audit", "recipe": "digits", "status": "finished", "started": "2030-01-01T00:00:00+00:00"}
    (audit / "run.json").write_text(json.dumps(facts))
    said = fails(2, "audit", "--self-test", "--resume", "--run", audit.name)
    assert "is the audit of a model" in said.err
    assert json.loads((audit / "run.json").read_text()) == facts


def test_it_has_no_page_and_can_be_compared(cli, fails, folder):
    for seed in (1, 2):
        assert cli("audit", "--self-test", "-q", "--case", "zero-slope", "--set", f"system.seed={seed}").code == 0
    names = sorted(run.name for run in (folder / "runs").iterdir())
    assert "is a self-test of the audit" in fails(2, "report", names[0]).err
    assert "is a self-test of the audit" in fails(2, "report").err
    compared = cli("runs", "compare", *names)
    assert compared.code == 0, compared.err
    assert "1 of 1 fault caught" in compared.out
    assert "system.seed" in compared.out
