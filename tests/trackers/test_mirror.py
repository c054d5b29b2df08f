"""Any class of a few lines is a tracker, and no tracker ends a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny_runs import QUIET, die, pretrained

import rushkit
from rushkit.doctor.examine import component_problem
from rushkit.errors import RushkitError, UsageError
from rushkit.recipe.load import read_recipe
from rushkit.registry import PluginError
from rushkit.run.folder import Run
from rushkit.run.metrics import MetricsLog, read_metrics
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run
from rushkit.trackers import TrackedRun
from rushkit.trackers.mirror import Mirror
from rushkit.training.pretrain import pretrain

told: list[object] = []


class Third:
    """Keeps what it is told."""

    def begin(self, run):
        told.append(run)

    def add(self, step, scalars):
        told.append((step, scalars))

    def flush(self):
        told.append("flush")

    def close(self):
        told.append("close")


class Broken(Third):
    """Raises at its second step."""

    def add(self, step, scalars):
        super().add(step, scalars)
        if step == 2:
            raise OSError("the line is dead")


@pytest.fixture(autouse=True)
def third():
    told.clear()
    rushkit.trackers.register("third")(Third)
    yield
    rushkit.registries.trackers.unregister("third", __name__.partition(".")[0])


def steps() -> list[int]:
    return [entry[0] for entry in told if isinstance(entry, tuple) and "step/loss" in entry[1]]


def mirrored(folder, tracker, warnings) -> MetricsLog:
    log = MetricsLog(folder / "metrics.jsonl")
    log.mirror_to([Mirror("third", tracker, TrackedRun(folder, "pretrain"), warnings.append)])
    return log


def test_a_third_tracker_is_one_class_and_one_name(tiny):
    run = pretrained(tiny("system.trackers=['third']", "pretrain.epochs=1"))
    (tracked,) = (entry for entry in told if isinstance(entry, TrackedRun))
    assert (tracked.id, tracked.verb, tracked.seed) == (run.path.name, "pretrain", 0)
    assert tracked.facts() == {"run": run.path.name, "verb": "pretrain", "seed": 0}
    assert tracked.recipe["pretrain"]["epochs"] == 1
    lines = read_metrics(run.path / "metrics.jsonl")
    assert [entry for entry in told if isinstance(entry, tuple)] == [
        (line["step"], {f"{line['kind']}/{key}": line[key] for key in line.keys() - {"step", "epoch", "kind"}})
        for line in lines
    ]
    # Before the checkpoint of the epoch; and at the end nothing comes after the close.
    assert "flush" in told
    assert told[-1] == "close"


def test_the_pages_tracker_of_ones_own_writes_its_table(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text(encoding="utf-8")
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], {"__name__": __name__})
    try:
        log = mirrored(tmp_path, rushkit.trackers.create("csv"), [])
        log.append(step=1, kind="step", loss=0.5)
        log.close()
        assert (tmp_path / "csv" / "figures.csv").read_text() == "1,step/loss,0.5\n"
    finally:
        rushkit.registries.trackers.unregister("csv", __name__.partition(".")[0])


def test_a_run_that_goes_on_is_shown_from_its_beginning(tiny, at_step):
    recipe = tiny("system.trackers=['third']")
    at_step(5, die)
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(RuntimeError, match="went away"), run:
        pretrain(recipe, run)
    assert steps() == [line["step"] for line in read_metrics(run.path / "metrics.jsonl") if line["kind"] == "step"]
    told.clear()
    with Run.open(run.path, QUIET) as resumed:
        pretrain(recipe, resumed)
    assert isinstance(told[0], TrackedRun)
    assert steps() == [1, 2, 3, 4, 5, 6]


def test_what_a_tracker_raises_is_told_once_and_the_run_goes_on(tmp_path):
    warnings: list[str] = []
    log = mirrored(tmp_path, Broken(), warnings)
    for step in (1, 2, 3):
        log.append(step=step, kind="step", loss=0.5)
    log.sync()
    log.close()
    assert warnings == ["tracker third: the line is dead; the run goes on without it, and metrics.jsonl has everything"]
    assert steps() == [1, 2]
    assert [line["step"] for line in read_metrics(log.path)] == [1, 2, 3]


def test_the_warning_of_a_run_stands_in_its_log(tiny, monkeypatch):
    monkeypatch.setattr(Third, "begin", lambda self, run: 1 / 0)
    run = pretrained(tiny("system.trackers=['third']", "pretrain.epochs=1"))
    assert run.about.status == "finished"
    assert (run.path / "log.txt").read_text().count("warning: tracker third: division by zero") == 1


def test_an_interrupt_in_a_tracker_interrupts(tmp_path):
    def interrupt(step, scalars):
        raise KeyboardInterrupt

    tracker = Third()
    tracker.add = interrupt
    with pytest.raises(KeyboardInterrupt):
        mirrored(tmp_path, tracker, []).append(step=1, loss=0.5)


def test_lines_without_a_step_and_what_is_no_number_are_left_out(tmp_path):
    log = mirrored(tmp_path, Third(), [])
    log.append(note="begun")
    log.append(step=1, epoch=1, loss=1, note="first")
    log.close()
    assert [entry for entry in told if isinstance(entry, tuple)] == [(1, {"loss": 1.0})]


def test_a_tracker_that_is_unknown_or_named_twice_is_an_error_of_the_recipe(tiny):
    with pytest.raises(UsageError) as raised:
        tiny("system.trackers=['wandbb', 'third', 'third']")
    assert "--set system.trackers: unknown tracker 'wandbb' (did you mean wandb?)" in raised.value.message
    assert "system.trackers: names 'third' twice" in raised.value.message


def test_a_tracker_that_lacks_a_part_is_named(tiny):
    class Half:
        def begin(self, run):
            pass

    rushkit.registries.trackers.register("half")(Half)
    try:
        with pytest.raises(PluginError, match="its Half has no add, flush, close"):
            pretrained(tiny("system.trackers=['half']"))
    finally:
        rushkit.registries.trackers.unregister("half", __name__.partition(".")[0])


def test_a_check_of_plugins_makes_a_tracker():
    trackers = rushkit.registries.trackers
    assert component_problem(trackers, trackers.entry("third")) == ""
    trackers.register("lame")(lambda: object())
    try:
        assert "has no begin, add, flush, close" in component_problem(trackers, trackers.entry("lame"))
    finally:
        trackers.unregister("lame", __name__.partition(".")[0])


def test_its_folder_is_no_link_and_not_made_for_a_run_that_is_gone(tmp_path):
    (tmp_path / "run").mkdir()
    run = TrackedRun(tmp_path / "run", "pretrain")
    assert run.subfolder("kept") == run.subfolder("kept") == tmp_path / "run" / "kept"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RushkitError, match="it is a link"):
        run.subfolder("link")
    with pytest.raises(RushkitError, match="No such file"):
        TrackedRun(tmp_path / "gone", "pretrain").subfolder("kept")
    assert not (tmp_path / "gone").exists()


def test_a_stored_recipe_outlives_a_key_of_its_system(tiny):
    recipe = tiny()
    text = rushkit.recipe.toml.dumps(recipe.resolved())
    assert read_recipe(text + "tensorboard = false\n", "old").resolved() == recipe.resolved()
    with pytest.raises(UsageError, match="unknown key"):
        read_recipe(text.replace("[evaluate]", "[evaluate]\nmore = 1"), "old")


def test_other_ranks_have_no_trackers(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", writes=False)
    log.mirror_to([Mirror("third", Third(), TrackedRun(tmp_path, "pretrain"), pytest.fail)])
    log.append(step=1, loss=0.5)
    log.close()
    assert told == []


def test_a_quiet_run_warns_as_well(tiny, monkeypatch, capsys):
    monkeypatch.setattr(Third, "close", lambda self: 1 / 0)
    recipe = tiny("system.trackers=['third']", "pretrain.epochs=1")
    with start_run("pretrain", recipe, Speaker(-1, rank=0)) as run:
        pretrain(recipe, run)
    assert "warning: tracker third: division by zero" in capsys.readouterr().err
