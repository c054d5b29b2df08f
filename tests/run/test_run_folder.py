from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

import rushkit
from rushkit.errors import DataError, Interrupted, NumericsError, RushkitError, UsageError
from rushkit.results import read
from rushkit.results.run_file import Facts, GitState, StudyJob
from rushkit.results.training import Pretraining
from rushkit.run.environment import environment, git_state
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.run.speaker import Speaker

QUIET = Speaker(-1, rank=0)
RESULTS = Pretraining(recipe="cifar10", epochs=1, loss=0.5, knn_protocol=None)


def create(root, verb="pretrain", recipe="cifar10", **facts) -> Run:
    return Run.create(root, verb, recipe, Facts(**facts), "schema = 1\n", QUIET)


def told(run: Run) -> dict:
    return json.loads((run.path / "run.json").read_text())


def test_a_new_run_tells_what_it_is(tmp_path):
    with create(tmp_path / "runs", seed=3, parent=None) as run:
        assert re.fullmatch(r"\d{8}-\d{6}-pretrain-cifar10-[0-9a-f]{6}", run.path.name)
        assert run.recipe_toml == "schema = 1\n"
        assert (run.verb, run.recipe_name) == ("pretrain", "cifar10")
        assert told(run) | {"seed": 3, "status": "running"} == told(run)
        assert sorted(path.name for path in run.path.iterdir()) == ["lock", "recipe.toml", "run.json"]
    assert told(run)["status"] == "finished"
    assert told(run)["started"] <= told(run)["ended"]
    assert len(told(run)["sessions"]) == 1


def test_a_run_keeps_the_job_of_the_study_that_it_is(tmp_path):
    job = StudyJob(study="digits", row="rush", seed=1, job="3fa9c1")
    with create(tmp_path, study=job) as run:
        assert told(run)["study"] == {"study": "digits", "row": "rush", "seed": 1, "job": "3fa9c1"}
    with Run.open(run.path, QUIET) as again:
        assert again.about.study == job
    with create(tmp_path) as alone:
        assert "study" not in told(alone)


@pytest.mark.parametrize("recipe", ["../../etc", "a b/c", "é", "", "x" * 300])
def test_any_recipe_name_makes_one_folder_inside_the_root(tmp_path, recipe):
    with create(tmp_path, recipe=recipe) as run:
        assert run.path.parent == tmp_path
        assert told(run)["recipe"] == recipe


def test_subfolders_appear_when_they_are_used(tmp_path):
    with create(tmp_path) as run:
        assert run.subfolder("figures").is_dir()
        assert run.subfolder("figures") == run.path / "figures"
        run.save_checkpoint(1, {"w": torch.ones(1)}, {"step": 1})
        assert (run.path / "checkpoints" / "last").exists()


def test_metrics_reach_the_disk_before_the_checkpoint_that_goes_on_from_them(tmp_path, monkeypatch):
    done = []
    with create(tmp_path) as run:
        save = run.checkpoints.save
        monkeypatch.setattr(run.metrics, "sync", lambda: done.append("metrics"))
        monkeypatch.setattr(run.checkpoints, "save", lambda *given: done.append("checkpoint") or save(*given))
        run.save_checkpoint(1, {"w": torch.ones(1)}, {"step": 1})
    assert done == ["metrics", "checkpoint"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bug"), "failed"),
        (NumericsError("loss is nan"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (Interrupted("stopped at step 3", "--resume"), "interrupted"),
        (SystemExit(1), "failed"),
    ],
)
def test_an_error_is_kept_in_the_folder_and_goes_on_its_way(tmp_path, error, status):
    run = create(tmp_path)
    run.metrics.append(step=1, loss=0.5)
    with pytest.raises(type(error)), run:
        raise error
    assert told(run)["status"] == status
    assert told(run)["error"]["type"] == type(error).__name__
    assert told(run)["error"]["message"] == str(error)
    assert ("Traceback" in (run.path / "log.txt").read_text()) == (type(error) in (ValueError, SystemExit))


def test_a_run_that_fails_before_it_wrote_anything_leaves_no_folder(tmp_path):
    run = create(tmp_path)
    run.speaker.say("what it is going to do")
    run.subfolder("counts")
    with pytest.raises(DataError), run:
        raise DataError("no such data set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), KeyboardInterrupt(), Interrupted("asked to", "--resume")],
)
def test_a_bug_or_an_interruption_leaves_the_folder(tmp_path, error):
    with pytest.raises(type(error)), create(tmp_path) as run:
        raise error
    assert (run.path / "log.txt").exists()


@pytest.mark.parametrize("name", ["checkpoints/step-000001.safetensors", "counts/0.jsonl", "results.json", "mine.txt"])
def test_a_failed_run_with_anything_in_it_leaves_its_folder(tmp_path, name):
    run = create(tmp_path)
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_text("")
    with pytest.raises(DataError), run:
        raise DataError("no such data set")
    assert told(run)["status"] == "failed"


def test_a_run_that_is_opened_again_and_fails_leaves_its_folder(tmp_path):
    with create(tmp_path) as first:
        pass
    path = first.path
    with pytest.raises(DataError), Run.open(path, QUIET) as run:
        raise DataError("no such data set")
    assert told(run)["status"] == "failed"


def test_a_folder_that_vanished_does_not_hide_the_error(tmp_path):
    run = create(tmp_path)
    shutil.rmtree(run.path)
    with pytest.raises(ValueError, match="bug"), run:
        raise ValueError("bug")


def test_a_resumed_run_goes_on_in_its_folder(tmp_path):
    run = create(tmp_path, seed=3)
    run.metrics.append(step=1)
    run.fail(KeyboardInterrupt())
    (run.path / ".results.json.77.partial").write_text("left by a killed process")
    with Run.open(run.path, QUIET) as again:
        assert told(again)["status"] == "running"
        assert "error" not in told(again)
        assert again.about.seed == 3
        again.metrics.append(step=2)
        again.update(device="cpu")
    assert told(again)["status"] == "finished"
    assert told(again)["device"] == "cpu"
    assert [bool(session["ended"]) for session in told(again)["sessions"]] == [True, True]
    assert [line["step"] for line in read_metrics(run.path / "metrics.jsonl")] == [1, 2]
    assert not list(run.path.glob(".*"))


def test_a_second_process_in_the_folder_is_turned_away_and_a_dead_one_is_not_in_the_way(tmp_path):
    with create(tmp_path) as run:
        code = "import sys; from rushkit.run.folder import Run; Run.open(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, run.path], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"another process (pid {os.getpid()}) works in {run.path}" in done.stderr
        with pytest.raises(RushkitError, match="another process"):
            Run.open(run.path)
        assert told(run)["status"] == "running"
    Run.open(run.path).close()


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
    fcntl = pytest.importorskip("fcntl")

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with create(tmp_path) as run:
        assert "without locks" in capsys.readouterr().err
    assert told(run)["status"] == "finished"


def test_other_ranks_follow_without_a_lock_and_write_nothing(tmp_path, capsys):
    with create(tmp_path) as run:
        run.save_checkpoint(1, {"w": torch.ones(1)}, {"step": 1})
        before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        with Run.open(run.path, Speaker(rank=1), rank=1) as follower:
            follower.speaker.say("hello")
            follower.log("hello")
            follower.metrics.append(step=1)
            follower.write_results(RESULTS)
            follower.update(stage="pretrain")
            assert follower.save_checkpoint(2, {}, {}) is None
            assert follower.checkpoints.load_latest().meta == {"step": 1}
        with pytest.raises(ValueError, match="bug"), Run.open(run.path, Speaker(rank=1), rank=1):
            raise ValueError("bug")
        assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert capsys.readouterr() == ("", "")


def test_results_are_whole_or_absent(tmp_path):
    with create(tmp_path) as run:
        run.write_results(RESULTS)
        with pytest.raises(NumericsError, match=r"results\.json: loss is nan"):
            run.write_results(RESULTS.with_changes(loss=float("nan")))
        assert read(run.path) == run.write_results(RESULTS)


def test_log_lines_have_a_time_and_what_is_said_is_logged(tmp_path, capsys):
    with create(tmp_path) as run:
        run.log("first \ud800")
        run.speaker.say("said, though quiet")
        run.speaker.warn("warned")
    lines = (run.path / "log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[20:] for line in lines] == ["first \\ud800", "said, though quiet", "warning: warned"]
    assert capsys.readouterr() == ("", "warning: warned\n")


def test_a_root_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    for root in (tmp_path / "runs", tmp_path / "runs" / "deeper"):
        with pytest.raises(RushkitError, match=f"cannot write {root}"):
            create(root)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_root_without_permission_is_a_clear_error(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(RushkitError, match=r"cannot write .*Permission denied"):
        create(tmp_path / "runs")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"verb": 1}', b"\xff", b"[" * 100_000], ids=lambda content: str(content[:9])
)
def test_a_damaged_run_json_is_a_clear_error(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"run.json"):
        Run.open(tmp_path)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UsageError, match="is not a run folder"):
        Run.open(tmp_path)


def test_the_environment_names_versions_and_the_state_of_the_code(tmp_path):
    found = environment(tmp_path)
    assert found.versions["rushkit"] == rushkit.__version__
    assert found.versions["torch"].startswith(torch.__version__.split("+")[0])
    assert found.argv == sys.argv


def test_git_state_says_commit_and_whether_it_was_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert git_state(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    assert git_state(tmp_path) == GitState(commit=git("rev-parse", "HEAD"), dirty=False)
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path).dirty is True
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_a_pipe_in_the_place_of_the_log_is_not_waited_for(tmp_path, capsys):
    run = create(tmp_path)
    (run.path / "log.txt").unlink(missing_ok=True)
    os.mkfifo(run.path / "log.txt")
    run.log("a sentence")
    run.close()
    assert "log.txt cannot be written any more" in capsys.readouterr().err
