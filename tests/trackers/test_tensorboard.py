"""TensorBoard shows what metrics.jsonl says, read back by TensorBoard itself."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import QUIET, checkpoint_of, die, finetuned, pretrained

from rushkit.errors import UsageError
from rushkit.run.folder import Run
from rushkit.run.metrics import MetricsLog, read_metrics
from rushkit.setup.start import start_run
from rushkit.trackers import TrackedRun
from rushkit.trackers.mirror import Mirror
from rushkit.trackers.tensorboard import TensorBoard
from rushkit.training.pretrain import pretrain


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of everything that a TensorBoard shows of a folder."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def mirror(folder: Path) -> Mirror:
    return Mirror("tensorboard", TensorBoard(), TrackedRun(folder, "pretrain"), pytest.fail)


def expected(run: Run) -> dict[str, list[tuple[int, float]]]:
    shown: dict[str, list[tuple[int, float]]] = {}
    for line in read_metrics(run.path / "metrics.jsonl"):
        for name in line.keys() - {"step", "epoch", "kind"}:
            # An event holds float32.
            shown.setdefault(f"{line['kind']}/{name}", []).append((line["step"], pytest.approx(line[name], rel=1e-6)))
    return shown


def test_both_trainings_show_the_scalars_of_their_metrics(tiny):
    recipe = tiny("system.trackers=['tensorboard']", "data.validation=16")
    run = pretrained(recipe)
    assert scalars(run.path / "tensorboard") == expected(run)
    assert set(expected(run)) == {"step/loss", "step/lr", "epoch/loss", "epoch/knn_accuracy"}
    tuned = finetuned(recipe, checkpoint_of(run))
    assert scalars(tuned.path / "tensorboard") == expected(tuned)
    assert "epoch/validation_accuracy" in expected(tuned)


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_run_that_died_and_resumed_shows_no_gaps_and_no_repeats(tiny, at_step, step):
    recipe = tiny("system.trackers=['tensorboard']")

    at_step(step, die)
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(RuntimeError, match="went away"), run:
        pretrain(recipe, run)
    with Run.open(run.path, QUIET) as resumed:
        pretrain(recipe, resumed)
    assert [at for at, _ in expected(run)["step/loss"]] == [1, 2, 3, 4, 5, 6]
    assert scalars(run.path / "tensorboard") == expected(run)
    assert len([path for path in (run.path / "tensorboard").iterdir() if path.stat().st_size]) == 1


def test_events_that_outlived_their_metrics_and_a_torn_file_are_replaced(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.mirror_to([mirror(tmp_path)])
    for step in (1, 2, 3, 4):
        log.append(step=step, kind="step", loss=step / 2)
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-5])
    again = MetricsLog(log.path)
    again.mirror_to([mirror(tmp_path)])
    again.keep_until(2)
    again.append(step=3, kind="step", loss=9.0)
    again.close()
    assert scalars(tmp_path / "tensorboard") == {"step/loss": [(1, 0.5), (2, 1.0), (3, 9.0)]}


def test_a_tensorboard_that_looks_on_sees_a_resume_without_gaps_and_repeats(tmp_path, monkeypatch):
    # Files are read in the order of their names, which hold the second: here each call is a second of its own.
    seconds = itertools.count(1_800_000_000)
    monkeypatch.setattr("time.time", lambda: float(next(seconds)))
    viewer = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    for kept, steps in ((0, (1, 2, 3, 4, 5)), (3, (4, 5, 6))):
        log = MetricsLog(tmp_path / "metrics.jsonl")
        log.mirror_to([mirror(tmp_path)])
        log.keep_until(kept)
        for step in steps:
            log.append(step=step, loss=step + kept)
        log.sync()
        viewer.Reload()
        log.close()
    assert [(event.step, event.value) for event in viewer.Scalars("loss")] == [
        (1, 1), (2, 2), (3, 3), (4, 7), (5, 8), (6, 9)
    ]  # fmt: skip


def test_a_run_that_asks_for_it_when_it_is_resumed_shows_all_of_itself(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(step=1, kind="step", loss=0.5)
    log.mirror_to([mirror(tmp_path)])
    log.append(step=2, kind="step", loss=0.25)
    log.append(note="a line without a step has no place")
    log.close()
    assert scalars(tmp_path / "tensorboard") == {"step/loss": [(1, 0.5), (2, 0.25)]}


def test_what_is_synced_can_be_seen_at_once(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.mirror_to([mirror(tmp_path)])
    for step in (1, 2):
        log.append(step=step, loss=0.5)
    log.sync()
    assert scalars(tmp_path / "tensorboard") == {"loss": [(1, 0.5), (2, 0.5)]}
    log.close()


def test_ranks_that_follow_write_no_events(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", writes=False)
    log.mirror_to([mirror(tmp_path)])
    log.append(step=1, loss=0.5)
    log.keep_until(0)
    log.sync()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_no_run_begins_and_the_extra_is_named(tiny, monkeypatch, tmp_path):
    # What the import system says of a package that is not there.
    monkeypatch.setattr("rushkit.trackers.tensorboard.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="TensorBoard is not installed") as raised:
        pretrain(tiny("system.trackers=['tensorboard']"))
    assert raised.value.hint == "pip install 'rushkit[tensorboard]'"
    assert not (tmp_path / "runs").exists()


def test_a_run_without_it_never_imports_tensorboard(tmp_path):
    code = """
import sys
import rushkit
changes = {"data.limit": 32, "data.image_size": 8, "pretrain.epochs": 1, "pretrain.batch_size": 16}
changes |= {"pretrain.knn.every": 0}
rushkit.pretrain(rushkit.load_recipe("digits", changes))
assert "tensorboard" not in sys.modules and "torch.utils.tensorboard" not in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUSHKIT_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("runs/*/tensorboard"))
