"""What a run was asked and what it builds on are known from its first moment, and found wherever they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import contents, only, sets

from rushkit.cli.app import main
from rushkit.files import write_json
from rushkit.results.run_file import Facts
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint
from rushkit.run.folder import Run
from rushkit.run.info import find_runs
from rushkit.run.named import Wish, run_named
from rushkit.run.speaker import Speaker

ATTACK = ("attack", "--samples", "2", "--limit", "6", "--protocol", "paper", *sets("attack.0.steps=2"))
AUDIT = ("audit", "--limit", "4", "--samples", "2", "--steps", "2", "--eot", "2", "--queries", "3")
CERTIFY = ("certify", "--limit", "4", "--samples", "20", *sets("certify.selection=4"))


class Killed(BaseException):
    """What stands in for a kill: nothing catches it, and nothing is written behind it."""


@pytest.fixture
def killed_behind(monkeypatch):
    """``killed_behind(3)``: the command dies behind the third time that it writes run.json, as if killed."""

    def plan(number: int) -> None:
        written = 0

        def write(path, value):
            nonlocal written
            if written >= number:
                raise Killed
            write_json(path, value)
            if path.name == "run.json":
                written += 1
                if written == number:
                    raise Killed

        monkeypatch.setattr("rushkit.run.folder.write_json", write)
        monkeypatch.setattr(Run, "fail", lambda run, error: run.close())

    return plan


def killed(command: tuple[str, ...]) -> None:
    with pytest.raises(Killed):
        main(list(command))


def first_run_file(folder: Path, verb: str) -> dict:
    return json.loads((only(folder, verb) / "run.json").read_text())


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ((*ATTACK, "--save"), {"protocols": ["paper"], "save": True}),
        (AUDIT, {"steps": 2, "eot": 2, "queries": 3, "limit": 4, "samples": 2}),
    ],
    ids=["attack", "audit"],
)
def test_what_was_asked_is_in_the_first_run_file(runs, killed_behind, command, asked):
    killed_behind(1)
    killed(command)
    told = first_run_file(runs, command[0])
    assert {key: told.get(key) for key in asked} == asked


def test_the_model_that_images_are_tried_on_is_in_the_first_run_file(runs, killed_behind):
    target = only(runs, "finetune")
    killed_behind(1)
    killed((*ATTACK, "--transfer-to", str(target)))
    assert target.name in first_run_file(runs, "attack")["transfer_to"]


def stopped(cli, command: tuple[str, ...], runs: Path, monkeypatch) -> Path:
    """A run of the command that stopped before its measurement began."""
    from rushkit.errors import Interrupted

    def interrupt(*arguments, **options):
        raise Interrupted("stopped", "go on")

    with pytest.MonkeyPatch.context() as patch:
        for stage in ("setup.subject", "robustness.attack"):
            patch.setattr(f"rushkit.{stage}.load_classifier", interrupt)
        assert cli(*command, "-q").code == 130
    return only(runs, command[0])


@pytest.fixture
def elsewhere(tmp_path_factory, monkeypatch) -> Path:
    """Another folder, to give commands from."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.mark.parametrize("command", [ATTACK, AUDIT, CERTIFY], ids=["attack", "audit", "certify"])
def test_a_run_goes_on_from_another_folder(cli, runs, monkeypatch, elsewhere, command):
    run = stopped(cli, command, runs, monkeypatch).resolve()
    monkeypatch.chdir(elsewhere)
    said = cli(command[0], "--resume", "--run", str(run), "-q")
    assert said.code == 0, said.err
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_a_transfer_goes_on_from_another_folder(cli, runs, monkeypatch, elsewhere):
    command = (*ATTACK, "--transfer-to", str(only(runs, "finetune")))
    run = stopped(cli, command, runs, monkeypatch).resolve()
    monkeypatch.chdir(elsewhere)
    said = cli("attack", "--resume", "--run", str(run), "-q")
    assert said.code == 0, said.err
    assert "transfer" in json.loads((run / "results.json").read_text())["attacks"][0]


def test_a_moved_run_goes_on_without_the_one_that_it_builds_on(cli, runs, monkeypatch, elsewhere):
    run = stopped(cli, ATTACK, runs, monkeypatch)
    moved = elsewhere / run.name
    shutil.move(run, moved)
    shutil.rmtree(runs)
    monkeypatch.chdir(elsewhere)
    said = cli("attack", "--resume", "--run", str(moved), "-q")
    assert said.code == 0, said.err


def test_a_fine_tuning_goes_on_though_pre_training_pruned_its_checkpoint(cli, runs, monkeypatch):
    def fail(*arguments, **options):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rushkit.training.finetune.train", fail)
        patch.setattr(Run, "fail", lambda run, error: run.close())
        with pytest.raises(Killed):
            main(["finetune", "-q"])
    for path in (only(runs, "pretrain") / "checkpoints").glob("*.safetensors"):
        path.unlink()
    run = only(runs, "finetune")
    said = cli("finetune", "--resume", "--run", str(run), "-q")
    assert said.code == 0, said.err
    # What it was kept for is done.
    assert not [name for name in contents(run) if name.startswith("parent")]


def test_the_model_that_took_the_place_of_the_attacked_one_is_not_attacked(cli, fails, runs, monkeypatch):
    run = stopped(cli, ATTACK, runs, monkeypatch)
    (path,) = (only(runs, "finetune") / "checkpoints").glob("*.safetensors")
    saved = load_checkpoint(path)
    others = {name: tensor + 1 if name == "head.bias" else tensor for name, tensor in saved.tensors.items()}
    save_checkpoint(path, others, saved.meta)
    for kept in run.glob("parent*"):
        kept.unlink()
    said = fails(1, "attack", "--resume", "--run", str(run))
    assert f"is another checkpoint than the one that {run} builds on" in said.err


def test_a_certification_from_another_folder_is_compared_with_attacks(cli, runs, monkeypatch, elsewhere):
    assert cli(*ATTACK, "--norm", "l2", "--eps", "0.01", "-q").code == 0
    source, root = only(runs, "finetune").resolve(), runs.resolve()
    monkeypatch.chdir(elsewhere)
    said = cli(*CERTIFY, "--norm", "l2", "--from", str(source), "--json", *sets(f"system.runs_dir={root}"))
    assert said.code == 0, said.err
    assert len(json.loads(said.out)["empirical"]) == 1


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_training_does_not_go_on_with_other_images(cli, fails, runs, monkeypatch, verb):
    """As many as before, of the same size: only their pixels are others."""
    from rushkit.data import digits
    from rushkit.data.memory import Split

    run = only(runs, verb)
    told = json.loads((run / "run.json").read_text()) | {"status": "failed"}
    (run / "run.json").write_text(json.dumps(told))
    original = digits.Digits.split

    def other(self, name):
        split = original(self, name)
        return Split(255 - split.images, split.labels, split.name, split.skipped)

    monkeypatch.setattr(digits.Digits, "split", other)
    said = fails(1, verb, "--resume", "--run", str(run))
    assert "are not those that" in said.err


@pytest.mark.parametrize("host", ["another machine", None], ids=["killed elsewhere", "a pid taken again"])
def test_a_run_that_nobody_works_in_is_killed_and_found(tmp_path, host):
    """Its process is gone, though the lock file names a machine that cannot be asked, or a process that lives."""
    with Run.create(tmp_path, "pretrain", "digits", Facts(), "", Speaker(-1, rank=0)) as run:
        run.save_checkpoint(1, {"w": torch.ones(1)}, {})
        holder = json.loads((run.path / "lock").read_text())
    told = json.loads((run.path / "run.json").read_text()) | {"status": "running", "ended": None}
    (run.path / "run.json").write_text(json.dumps(told))
    # This process lives, and is not the one that had the lock.
    (run.path / "lock").write_text(json.dumps({"pid": holder["pid"], "host": host or holder["host"]}))
    assert [found.status for found in find_runs(tmp_path)] == ["killed"]


def test_a_run_that_was_killed_on_another_host_is_resumed(cli, runs):
    run = only(runs, "pretrain")
    for path in (run / "checkpoints").glob("*"):
        assert path.exists()
    told = json.loads((run / "run.json").read_text()) | {"status": "running", "ended": None}
    (run / "run.json").write_text(json.dumps(told))
    (run / "lock").write_text(json.dumps({"pid": 1, "host": "another machine"}))
    said = cli("pretrain", "--resume", "-q")
    assert said.code == 0, said.err
    assert run_named(None, runs, (Wish(("pretrain",)),))[0].path == run
