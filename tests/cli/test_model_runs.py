"""Runs that measure somebody's classifier: resumed, reported and taken into studies, and run by nobody else's word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rushkit import named_code
from rushkit.robustness import attack as attack_stage

NET = """
import pathlib
import torch
from torch import nn

with pathlib.Path({mark!r}).open("a") as mark:
    mark.write("ran\\n")


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 10)
        weights = torch.randn(10, 3 * 32 * 32, generator=torch.Generator().manual_seed(seed)) / 50
        self.layer.weight.data.copy_(weights)
        self.layer.bias.data.zero_()

    def forward(self, x):
        return self.layer(x.flatten(1))
"""
MODEL = ("--model", "net.py:Net", "--data", "digits")
ATTACK = ("attack", *MODEL, "--type", "pgd", "--limit", "6", "--protocol", "paper", "--set", "attack.0.steps=2")


@pytest.fixture
def net(folder) -> Path:
    """A linear classifier whose file leaves a mark each time it is run."""
    (folder / "net.py").write_text(NET.format(mark=str(folder / "mark")))
    return folder / "net.py"


def marks(folder: Path) -> int:
    file = folder / "mark"
    return len(file.read_text().splitlines()) if file.exists() else 0


def run_of(folder: Path, verb: str) -> Path:
    (run,) = (folder / "runs").glob(f"*-{verb}-*")
    return run


@pytest.fixture
def stopped(net, cli, folder, monkeypatch) -> Path:
    """A run of an attack that was interrupted before its first block."""

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attack_stage, "run_job", stop)
        assert cli(*ATTACK).code == 130
    return run_of(folder, "attack")


def test_what_was_measured_stands_in_run_json(net, cli, folder):
    assert cli("evaluate", *MODEL, "--limit", "20", "--samples", "1").code == 0
    about = json.loads((run_of(folder, "evaluate") / "run.json").read_text())
    assert about["model"]["code"] == "net.py:Net"
    assert about["model"]["sha256"] == named_code.source_hash(named_code.read_code("net.py:Net"))
    assert about.get("parent") is None
    assert not about["model"].get("random")


def test_a_stopped_run_goes_on_where_its_code_is_named_again(stopped, cli, folder):
    ran = marks(folder)
    said = cli("attack", "--resume", "--run", str(stopped))
    assert said.code == 2
    assert "only code that the command names is run" in said.err
    assert f"--model {folder / 'net.py'}:Net" in said.err
    assert marks(folder) == ran, "a run's folder runs nothing"
    assert cli("attack", "--resume", "--run", str(stopped), "--model", "net.py:Net").code == 0
    assert json.loads((stopped / "results.json").read_text())["attacks"][0]["images"] == 6


@pytest.mark.parametrize("change", ["file", "weights"])
def test_a_stopped_run_goes_on_with_no_other_model(stopped, fails, net, change):
    text = net.read_text()
    net.write_text(text.replace("seed=0", "seed=1") if change == "weights" else text + "\n# another\n")
    said = fails(1, "attack", "--resume", "--run", str(stopped), "--model", "net.py:Net")
    assert "the model changed" in said.err


def test_options_of_a_model_need_one(net, fails):
    assert "--mean without --model" in fails(2, "evaluate", "--mean", "0,0,0").err
    assert "--data without --model" in fails(2, "evaluate", "--data", "digits").err
    assert "both name a model" in fails(2, "evaluate", *MODEL, "--from", "shipped/digits").err
    assert "needs images" in fails(2, "evaluate", "--model", "net.py:Net").err
    assert "cannot take --weights" in fails(2, "attack", "--resume", "--model", "net.py:Net", "--weights", "w.pt").err


def test_a_report_gathers_what_was_measured_of_one_model(net, cli, folder):
    assert cli("evaluate", *MODEL, "--limit", "20", "--samples", "1").code == 0
    assert cli("evaluate", *MODEL, "--model-arg", "seed=5", "--limit", "20", "--samples", "1").code == 0
    assert cli(*ATTACK).code == 0
    ran = marks(folder)
    said = cli("report", run_of(folder, "attack").name, "--json")
    assert said.code == 0, said.err
    (model,) = json.loads(said.out)["models"]
    assert [run["stage"] for run in model["runs"]] == ["evaluate", "attack"], "seed 5 is another classifier"
    assert model["about"]["code"].startswith("net.py:Net (")
    assert "rushkit audit --model" in model["summary"][-1]
    assert "--data digits" in model["summary"][-1]
    assert marks(folder) == ran, "a report runs no code"


STUDY = """
schema = 1
title = "Theirs"
seeds = [0]

[[stage]]
do = "evaluate"
samples = [1]
limit = 20

[[row]]
label = "theirs"
model = { code = "net.py:Net", arguments = { seed = 3 } }
set = { "data.name" = "digits" }
"""


def test_a_study_measures_code_that_its_command_names(net, cli, folder):
    Path("theirs.toml").write_text(STUDY)
    for verb in ("plan", "status"):
        assert cli("study", verb, "theirs.toml").code == 0
    said = cli("study", "run", "theirs.toml")
    assert said.code == 2
    assert "only code that the command names is run" in said.err
    assert marks(folder) == 0, "planning runs nothing"
    assert cli("study", "run", "theirs.toml", "--model", "net.py:Net", "--jobs", "1").code == 0
    assert marks(folder) == 1
    said = cli("study", "run", "theirs.toml")
    assert said.code == 0, "what is done needs no code"
    net.write_text(net.read_text() + "\n# another\n")
    assert "(1 ready)" in cli("study", "status", "theirs.toml").out, "another file is another job"


def test_a_row_has_fronts_that_its_command_names_too(net, cli, folder):
    (folder / "front.py").write_text("def half(x):\n    return x / 2\n")
    Path("theirs.toml").write_text(STUDY.replace("seed = 3 } }", 'seed = 3 }, fronts = ["front.py:half"] }'))
    said = cli("study", "run", "theirs.toml", "--model", "net.py:Net")
    assert said.code == 2
    assert f"--front {folder / 'front.py'}:half" in said.err
    words = ("--model", "net.py:Net", "--front", "front.py:half")
    assert cli("study", "run", "theirs.toml", *words, "--jobs", "1").code == 0
    (run,) = (folder / "runs").glob("job-*")
    assert json.loads((run / "run.json").read_text())["model"]["fronts"][0]["file"] == "front.py:half"
    (folder / "front.py").write_text("def half(x):\n    return x / 3\n")
    assert "(1 ready)" in cli("study", "status", "theirs.toml").out, "another front is another job"


def test_a_row_attacks_with_code_that_its_command_names_too(net, cli, folder):
    (folder / "mine.py").write_text(
        "def smooth(real):\n    return real\n\ndef attack(model, x, y, eps, norm, seed):\n    return x + eps\n"
    )
    stage = 'do = "attack"\nprotocols = ["strict"]\ntype = "pgd"\neps = 0.05\nlimit = 4\n'
    stage += 'surrogate = "mine.py:smooth"\nalso = ["mine.py:attack"]\n'
    Path("theirs.toml").write_text(STUDY.replace('do = "evaluate"\nsamples = [1]\nlimit = 20\n', stage))
    words = ("study", "run", "theirs.toml", "--jobs", "1", "--model", "net.py:Net")
    for flag, name in (("--surrogate", "smooth"), ("--also", "attack")):
        said = cli(*words)
        assert said.code == 2
        assert f"{flag} {folder / 'mine.py'}:{name}" in said.err
        words = (*words, flag, f"mine.py:{name}")
    said = cli(*words)
    assert said.code == 0, said.err
    (run,) = (folder / "runs").glob("job-*")
    (row,) = json.loads((run / "results.json").read_text())["attacks"]
    assert row["surrogate"]["code"] == "mine.py:smooth"
    assert [used["code"] for used in row["own"]] == ["mine.py:attack"]
    assert "(1 ready)" not in cli("study", "status", "theirs.toml").out
    (folder / "mine.py").write_text((folder / "mine.py").read_text() + "\n# another\n")
    assert "(1 ready)" in cli("study", "status", "theirs.toml").out, "another attack is another job"


def test_a_study_says_what_is_wrong_with_its_models(net, fails):
    wrong = STUDY.replace('set = { "data.name" = "digits" }', "").replace("net.py", "gone.py")
    wrong += '\n[[row]]\nlabel = "b\\nc"\nmodel = { code = "net.py:Net" }\nset = { "data.name" = "digits" }\n'
    wrong += '\n[[row]]\nlabel = "d"\nmodel = { code = "gone.py:Net" }\nset = { "data.name" = "digits" }\n'
    wrong += '[[row.stage]]\ndo = "finetune"\n'
    Path("theirs.toml").write_text(wrong)
    said = fails(2, "study", "plan", "theirs.toml")
    assert "one line of printable characters" in said.err
    Path("theirs.toml").write_text(wrong.replace("b\\nc", "b"))
    said = fails(2, "study", "plan", "theirs.toml")
    assert "finetune takes a model that rushkit trained" in said.err
    assert "says what it is measured on" in said.err
    assert "no file gone.py" in said.err
