"""Which engine a study runs on, with which options; and what is shown of it."""

from __future__ import annotations

import io

import pytest
from small_studies import Inline

from rushkit.errors import UsageError
from rushkit.run.speaker import Speaker
from rushkit.study.engines import Engine, Tells, Waits
from rushkit.study.engines.local import Local
from rushkit.study.live import Lines, LiveTable, watcher_for
from rushkit.study.options import make_engine


def test_the_engine_of_this_machine_has_the_abilities_of_one_that_is_near():
    engine = make_engine("local", {}, jobs=3)
    assert isinstance(engine, Engine)
    assert isinstance(engine, Tells)
    assert isinstance(engine, Waits)
    assert (engine.slots, engine.orders) == (3, False)
    engine.close()


def test_options_of_the_file_come_over_those_of_the_study_and_flags_over_both(tmp_path):
    (tmp_path / "mine.toml").write_text("[engine.local]\njobs = 2\n[engine.slurm]\npartition = 'gpu'\n")
    of_study = {"local": {"jobs": 1}}
    assert make_engine("local", of_study).slots == 1
    assert make_engine("local", of_study, str(tmp_path / "mine.toml")).slots == 2
    assert make_engine("local", of_study, str(tmp_path / "mine.toml"), jobs=4).slots == 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("locl", {}, "locl"), ("local", {"jbos": 2}, "jbos"), ("local", {"jobs": -1}, "jobs is -1")],
)
def test_an_unknown_engine_or_option_is_one_error(name, options, message):
    with pytest.raises(UsageError, match=message):
        make_engine(name, {name: options})


@pytest.mark.parametrize("text", ["[", "x = 1", "[engine]\nlocal = 3\n", "\x00"])
def test_a_file_that_is_none_is_one_error(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.toml"):
        make_engine("local", {}, str(tmp_path / "mine.toml"))
    with pytest.raises(UsageError, match=r"gone\.toml"):
        make_engine("local", {}, str(tmp_path / "gone.toml"))


def test_gpus_and_threads_are_shared_between_the_processes(monkeypatch):
    monkeypatch.setattr("rushkit.study.engines.local._gpus", lambda: ["0", "2"])
    monkeypatch.delenv("OMP_NUM_THREADS")
    engine = Local()
    assert engine.slots == 2
    assert [engine._environment(place)["CUDA_VISIBLE_DEVICES"] for place in range(2)] == ["0", "2"]
    monkeypatch.setattr("rushkit.study.engines.local._gpus", list)
    engine = Local(jobs=1)
    assert engine._environment(0)["OMP_NUM_THREADS"] == str(engine._cores)
    assert "CUDA_VISIBLE_DEVICES" not in engine._environment(0)


def test_the_table_has_a_line_for_each_row_and_seed(small):
    small.ask("fail A finetune")
    stream = io.StringIO()
    with LiveTable(small.plan, stream) as table:
        small.run(Inline(), table)
    lines = [line for line in stream.getvalue().splitlines() if "│" in line]
    assert [line.split("│")[1].strip() for line in lines] == ["A", "A", "B", "B"]
    assert [cell.split()[0] for cell in lines[0].split("│")[3:-1]] == ["done", "failed", "blocked"]
    assert "small: 8 of 12 jobs done" in stream.getvalue()


def test_elsewhere_there_is_a_line_for_each_job_that_ends(small, capsys):
    small.ask("fail A finetune")
    watcher = watcher_for(small.plan, Speaker(rank=0), 6)
    assert isinstance(watcher, Lines)
    small.run(Inline(), watcher, rows=["A"])
    said = capsys.readouterr()
    assert "A 0 pretrain: done (1 of 6)" in said.out
    assert "warning: A 0 finetune failed: asked to fail" in said.err
    assert "evaluate" not in said.out
