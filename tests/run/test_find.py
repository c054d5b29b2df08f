from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from rushkit import locks
from rushkit.errors import CheckpointError, UsageError
from rushkit.results.run_file import Facts
from rushkit.results.training import Pretraining
from rushkit.run.checkpoint import save_checkpoint
from rushkit.run.folder import Run
from rushkit.run.info import STOPPED, find_runs
from rushkit.run.named import Wish, run_named
from rushkit.run.source import resolve_from
from rushkit.run.speaker import Speaker

QUIET = Speaker(-1, rank=0)
BOTH = "make one with: rushkit pretrain --recipe {0}, and then: rushkit finetune --from {0}"


def made(
    root: Path,
    verb: str,
    recipe: str,
    minute: int,
    status: str = "finished",
    checkpoint: bool = True,
    parent: Path | None = None,
) -> Path:
    with Run.create(root, verb, recipe, Facts(), "", QUIET) as run:
        if checkpoint:
            run.save_checkpoint(minute, {"w": torch.ones(1)}, {"minute": minute})
    data = json.loads((run.path / "run.json").read_text())
    data |= {"status": status, "started": (datetime(2030, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)).isoformat()}
    data |= {"parent": str(parent / "checkpoints" / "step-000001.safetensors")} if parent else {}
    (run.path / "run.json").write_text(json.dumps(data))
    return run.path


def test_runs_come_newest_first_and_damaged_ones_last(tmp_path):
    paths = {minute: made(tmp_path, "pretrain", "cifar10", minute, checkpoint=False) for minute in (2, 3, 1)}
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    found = find_runs(tmp_path)
    assert [run.path for run in found] == [paths[3], paths[2], paths[1], tmp_path / "broken"]
    assert [run.status for run in found] == ["finished"] * 3 + ["broken"]


def test_of_two_commands_a_name_may_mean_the_runs_of_the_preferred_one(tmp_path):
    encoder = made(tmp_path, "pretrain", "cifar10", 1)
    model = made(tmp_path, "finetune", "cifar10", 2)
    other = made(tmp_path, "finetune", "trades", 3)
    both = ("pretrain", "finetune")
    assert resolve_from("cifar10", tmp_path, both).run.path == model
    assert resolve_from("cifar10", tmp_path, both, prefer="pretrain").run.path == encoder
    assert resolve_from(model, tmp_path, both, prefer="pretrain").run.path == model
    assert resolve_from("trades", tmp_path, both, prefer="pretrain").run.path == other


def test_a_root_that_is_not_there_has_no_runs(tmp_path):
    assert find_runs(tmp_path / "none") == []
    (tmp_path / "file").write_text("")
    assert find_runs(tmp_path / "file") == []


def test_the_newest_that_fits_is_found(tmp_path):
    old = made(tmp_path, "pretrain", "cifar10", 1)
    made(tmp_path, "pretrain", "stl10", 2)
    failed = made(tmp_path, "pretrain", "cifar10", 3, status="interrupted")
    tuned = made(tmp_path, "finetune", "cifar10", 4)
    later = made(tmp_path, "certify", "cifar10", 5)

    def found(name: str | None, stages: tuple[str, ...], statuses: tuple[str, ...] = ("finished",)) -> Path:
        return run_named(name, tmp_path, (Wish(stages, statuses),))[0].path

    assert found("cifar10", ("pretrain",)) == old
    assert found("cifar10", ("pretrain",), STOPPED) == failed
    assert found(None, ("pretrain", "finetune")) == tuned
    assert found(None, ("pretrain",), STOPPED) == failed
    assert found("cifar10", ("certify",), ()) == later
    for stages, statuses in ((("certify",), STOPPED), (("attack",), ())):
        with pytest.raises(UsageError, match="there is no run"):
            found(None, stages, statuses)


def test_a_run_whose_lock_is_held_is_running(tmp_path):
    with Run.create(tmp_path, "pretrain", "cifar10", Facts(), "", QUIET) as run:
        assert find_runs(tmp_path)[0].status == "running"
        # Whatever the lock file says.
        (run.path / "lock").write_text(json.dumps({"pid": 2**22 + 1, "host": "another machine"}))
        assert find_runs(tmp_path)[0].status == "running"


def test_where_there_are_no_locks_the_process_tells(tmp_path, monkeypatch):
    path = made(tmp_path, "pretrain", "cifar10", 1, status="running")
    monkeypatch.setattr(locks, "_take", lambda handle: False)
    note = json.loads((path / "lock").read_text())
    assert find_runs(tmp_path)[0].status == "running"
    gone = subprocess.Popen(["true"])
    gone.wait()
    (path / "lock").write_text(json.dumps({**note, "pid": gone.pid}))
    assert find_runs(tmp_path)[0].status == "killed"
    (path / "lock").write_text(json.dumps({"pid": gone.pid, "host": "another machine"}))
    assert find_runs(tmp_path)[0].status == "running"


def test_looking_at_runs_turns_nobody_away(tmp_path):
    """A process lists the runs again and again, while this one takes and leaves a run's lock."""
    with Run.create(tmp_path, "pretrain", "digits", Facts(), "", QUIET) as run:
        pass
    told = json.loads((run.path / "run.json").read_text()) | {"status": "running"}
    (run.path / "run.json").write_text(json.dumps(told))
    code = (
        "import sys; from rushkit.run.info import find_runs\n"
        "print('there', flush=True)\n"
        "while sys.stdin.read(1): find_runs(sys.argv[1])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as looker:
        assert looker.stdout.readline() == "there\n"
        looker.stdin.write("x" * 300)
        looker.stdin.flush()
        for _ in range(50):
            with Run.open(run.path, QUIET):
                pass
        looker.stdin.close()
        assert looker.wait(timeout=300) == 0


def test_results_are_read_where_there_are_any(tmp_path):
    with Run.create(tmp_path, "evaluate", "cifar10", Facts(), "", QUIET) as run:
        assert find_runs(tmp_path)[0].record() is None
        run.write_results(Pretraining(recipe="cifar10", epochs=1, loss=0.5, knn_protocol=None))
        assert find_runs(tmp_path)[0].record().loss == 0.5
        (run.path / "results.json").write_text("[")
        assert find_runs(tmp_path)[0].record() is None


def test_from_means_a_recipe_a_folder_a_name_or_a_file(tmp_path, monkeypatch):
    root = tmp_path / "runs"
    old = made(root, "pretrain", "cifar10", 1)
    new = made(root, "pretrain", "stl10", 2)
    file = old / "checkpoints" / "step-000001.safetensors"
    monkeypatch.chdir(tmp_path)
    # A folder of the recipe's name beside the runs is not a run.
    (tmp_path / "cifar10").mkdir()
    for spec in ("cifar10", old, str(old), old.name, old.relative_to(tmp_path)):
        source = resolve_from(spec, root, "pretrain")
        assert source.run.path.resolve() == old
        assert source.checkpoint is None
        assert source.load().meta == {"minute": 1}
    assert resolve_from(None, root, ["pretrain"]).run.path == new
    named = resolve_from(str(file), root, "pretrain")
    assert (named.checkpoint, named.run.path) == (file, old)
    assert named.load().meta == {"minute": 1}


def test_a_checkpoint_outside_any_run_will_do(tmp_path):
    save_checkpoint(tmp_path / "mine.safetensors", {}, {"mine": 1})
    source = resolve_from(tmp_path / "mine.safetensors", tmp_path, "pretrain")
    assert source.run is None
    assert source.load().meta == {"mine": 1}


def test_from_takes_the_pointer_to_the_best_checkpoint(tmp_path):
    with Run.create(tmp_path, "pretrain", "cifar10", Facts(), "", QUIET) as run:
        for step in (1, 2, 3):
            run.save_checkpoint(step, {"w": torch.ones(1)}, {"step": step}, best=step == 1)
    for pointer, step in (("best", 1), ("last", 3)):
        source = resolve_from(run.path / "checkpoints" / pointer, tmp_path, "pretrain")
        assert source.run.path == run.path
        assert source.load().meta == {"step": step}
    with pytest.raises(UsageError, match="is a run of pretrain"):
        resolve_from(run.path / "checkpoints" / "best", tmp_path, "finetune")
    (run.path / "checkpoints" / "best").write_text("nothing")
    with pytest.raises(UsageError, match="best is not a checkpoint"):
        resolve_from(run.path / "checkpoints" / "best", tmp_path, "pretrain")


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(tmp_path):
    with Run.create(tmp_path, "pretrain", "cifar10", Facts(), "", QUIET) as run:
        run.save_checkpoint(1, {}, {"step": 1})
        run.save_checkpoint(2, {}, {"step": 2}).write_bytes(b"torn")
    heard: list[str] = []
    assert resolve_from("cifar10", tmp_path, "pretrain").load(warn=heard.append).meta == {"step": 1}
    assert "step-000002" in heard[0]


def test_no_such_run_says_what_there_is_and_what_would_make_one(tmp_path):
    with pytest.raises(UsageError) as nothing:
        resolve_from("cifar10", tmp_path, "pretrain")
    assert nothing.value.message == f"no finished run of pretrain of recipe 'cifar10' in {tmp_path}"
    assert nothing.value.hint == f"there are no runs in {tmp_path}\nmake one with: rushkit pretrain --recipe cifar10"
    other = made(tmp_path, "pretrain", "stl10", 1, status="failed")
    with pytest.raises(UsageError) as wrong:
        resolve_from(None, tmp_path, ["finetune", "pretrain"])
    assert wrong.value.message == f"no finished run of finetune or pretrain in {tmp_path}"
    first, shipped, last = wrong.value.hint.splitlines()
    assert (first, last) == (f"there are: {other.name} (failed)", BOTH.format("NAME"))
    assert shipped.startswith("with rushkit comes: --from shipped/")


def test_without_an_encoder_the_hint_names_both_commands_in_order(tmp_path):
    def hint(spec):
        with pytest.raises(UsageError) as caught:
            resolve_from(spec, tmp_path, "finetune")
        return caught.value.hint.splitlines()[-1]

    assert hint(None) == BOTH.format("NAME")
    assert hint("cifar10") == BOTH.format("cifar10")
    assert hint("cifar10-to-cifar100") == f"{BOTH.format('cifar10')} --to cifar100"
    made(tmp_path, "pretrain", "stl10", 1)
    assert hint(None) == "make one with: rushkit finetune --from NAME"
    assert hint("stl10") == "make one with: rushkit finetune --from stl10"
    assert hint("cifar10") == BOTH.format("cifar10")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cifar10-to-cifar100", "rushkit finetune --from cifar10 --to cifar100"),
        ("nothing", "`rushkit recipe list` the recipes"),
    ],
)
def test_a_hint_names_a_command_that_can_work(tmp_path, spec, words):
    with pytest.raises(UsageError) as caught:
        resolve_from(spec, tmp_path, "finetune")
    assert words in caught.value.hint
    assert f"--from {spec}" not in caught.value.hint


def test_a_path_is_not_taken_for_a_recipe(tmp_path):
    with pytest.raises(UsageError, match="neither a run folder nor a checkpoint"):
        resolve_from("runs/gone", tmp_path, "finetune")


def test_a_run_of_another_verb_is_refused(tmp_path):
    path = made(tmp_path, "pretrain", "cifar10", 1)
    for spec in (path, path / "checkpoints" / "step-000001.safetensors"):
        with pytest.raises(UsageError, match="is a run of pretrain; this needs one of finetune") as caught:
            resolve_from(spec, tmp_path, "finetune")
        assert caught.value.hint == "make one with: rushkit finetune --from cifar10"


def test_a_run_that_builds_on_what_is_needed_names_it(tmp_path):
    encoder = made(tmp_path, "pretrain", "cifar10", 1)
    model = made(tmp_path, "finetune", "cifar10", 2, parent=encoder)
    measured = made(tmp_path, "evaluate", "cifar10", 3, parent=model)
    for needed, named in (("finetune", model), ("pretrain", encoder)):
        with pytest.raises(UsageError, match="is a run of evaluate") as caught:
            resolve_from(measured.name, tmp_path, needed)
        assert caught.value.hint == f"name the one that it builds on: --from {named}"


def test_a_near_name_is_one_that_would_do(tmp_path):
    made(tmp_path, "pretrain", "cifar10-cpu", 1)
    made(tmp_path, "finetune", "cifar10-small", 2)
    with pytest.raises(UsageError) as caught:
        resolve_from("cifar10", tmp_path, "pretrain")
    assert caught.value.hint.startswith("did you mean cifar10-cpu?\n")


def test_a_stopped_run_is_gone_on_with(tmp_path):
    stopped = made(tmp_path, "pretrain", "cifar10", 1, status="interrupted")
    with pytest.raises(UsageError) as caught:
        resolve_from("cifar10", tmp_path, "pretrain")
    assert caught.value.hint.endswith(f"\ngo on with the one that stopped: rushkit pretrain --resume --run {stopped}")


def test_a_run_without_checkpoints_is_refused(tmp_path):
    path = made(tmp_path, "pretrain", "cifar10", 1, checkpoint=False)
    with pytest.raises(CheckpointError, match=r"\(finished\) has no checkpoint"):
        resolve_from(path, tmp_path, "pretrain")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("gone.safetensors", CheckpointError, "there is no checkpoint"),
        ("weights.pt", UsageError, "is not a checkpoint of rushkit"),
        ("x" * 5000, UsageError, "no finished run"),
        ("", UsageError, "no finished run"),
        ("nul\0", UsageError, "no finished run"),
    ],
)
def test_what_is_neither_is_refused(tmp_path, monkeypatch, name, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"PK")
    with pytest.raises(error, match=message):
        resolve_from(name, tmp_path, "pretrain")


def test_a_broken_run_folder_says_what_is_wrong_with_it(tmp_path):
    path = made(tmp_path, "pretrain", "cifar10", 1)
    (path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json is damaged"):
        resolve_from(path, tmp_path, "pretrain")
    # Its checkpoint still loads by name.
    assert resolve_from(path / "checkpoints" / "step-000001.safetensors", tmp_path, "pretrain").load().tensors
