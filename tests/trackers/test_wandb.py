"""Weights & Biases shows what metrics.jsonl says, offline and alone; read back from its own files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tiny_runs import QUIET, die, finetuned, pretrained

pytest.importorskip("wandb")

from wandb_files import config, history, started

from rushkit.errors import UsageError
from rushkit.results.run_file import StudyJob
from rushkit.run.folder import Run
from rushkit.run.metrics import MetricsLog, read_metrics
from rushkit.setup.start import start_run
from rushkit.trackers import TrackedRun
from rushkit.trackers.mirror import Mirror
from rushkit.trackers.wandb import WeightsAndBiases, run_id
from rushkit.training.pretrain import pretrain

SECONDS = 120


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def expected(run: Path) -> dict[int, dict[str, float]]:
    shown: dict[int, dict[str, float]] = {}
    for line in read_metrics(run / "metrics.jsonl"):
        names = line.keys() - {"step", "epoch", "kind"}
        shown.setdefault(line["step"], {}).update({f"{line['kind']}/{name}": line[name] for name in names})
    return shown


def test_a_job_of_a_study_is_shown_with_its_id_its_row_and_its_figures(tiny, tmp_path):
    recipe = tiny("system.trackers=['wandb']", "data.validation=16")
    job = {"study": "digits", "row": "rush", "seed": 0, "job": "3fa9c1"}
    with start_run("pretrain", recipe, QUIET, asked={"study": job}) as run:
        pretrain(recipe, run)
    assert run.about.study == StudyJob(**job)
    assert history(run.path) == expected(run.path)
    said = started(run.path)
    assert (said.run_id, said.display_name, said.job_type) == (run.path.name, run.path.name, "pretrain")
    assert (said.project, said.run_group, list(said.tags)) == ("rushkit", "digits", ["digits", "rush"])
    told = config(run.path)
    settings = told.pop("recipe")
    assert told == {
        "run": run.path.name,
        "verb": "pretrain",
        "seed": 0,
        "study": "digits",
        "row": "rush",
        "job": "3fa9c1",
    }
    assert settings["pretrain"]["epochs"] == 2
    # Its folders are those of this machine.
    assert "system" not in settings


def test_a_run_by_itself_has_no_group(tiny):
    run = finetuned(tiny("system.trackers=['wandb']", "finetune.epochs=1"), None)
    assert history(run.path) == expected(run.path)
    assert (started(run.path).run_group, list(started(run.path).tags)) == ("", [])
    assert config(run.path).keys() == {"run", "verb", "seed", "recipe"}


def test_a_run_that_died_and_resumed_keeps_its_id_and_shows_no_gaps_and_no_repeats(tiny, at_step):
    recipe = tiny("system.trackers=['wandb']")
    at_step(5, die)
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(RuntimeError, match="went away"), run:
        pretrain(recipe, run)
    with Run.open(run.path, QUIET) as resumed:
        pretrain(recipe, resumed)
    assert [*history(run.path)] == [1, 2, 3, 4, 5, 6]
    assert history(run.path) == expected(run.path)
    assert started(run.path).run_id == run.path.name


# Everything happens in a process of its own: its service has the environment that it was started with.
ALONE = """
import json, os, random, sys, threading
from pathlib import Path
import numpy as np
from rushkit.run.metrics import MetricsLog
from rushkit.trackers import TrackedRun
from rushkit.trackers.mirror import Mirror
from rushkit.trackers.wandb import WeightsAndBiases

run, told = Path("runs/20300101-000000-pretrain-digits-0a1b2c"), {"warnings": []}
run.mkdir(parents=True)
drawn = lambda: (random.getstate(), np.random.get_state()[1].tolist())
before, exits, environment = drawn(), (sys.exit, sys.excepthook), dict(os.environ)
log = MetricsLog(run / "metrics.jsonl")
log.mirror_to([Mirror("wandb", WeightsAndBiases(), TrackedRun(run, "pretrain", seed=0), told["warnings"].append)])
for step in range(1, 4):
    log.append(step=step, kind="step", loss=step / 2)
log.sync()
log.close()
told["drawn"] = drawn() != before
told["exits"] = (sys.exit, sys.excepthook) != exits
told["environment"] = {key: value for key, value in os.environ.items() if environment.get(key) != value}
told["torch"] = "torch" in sys.modules
Path("told.json").write_text(json.dumps(told))
"""


@dataclass
class Alone:
    """What became of a process that tracked a run, while somebody listened in place of the internet."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    heard: list[bytes] = field(default_factory=list)

    @property
    def told(self) -> dict[str, object]:
        return json.loads((self.folder / "told.json").read_text())

    @property
    def run(self) -> Path:
        (run,) = (self.folder / "runs").iterdir()
        return run


def track_alone(folder: Path, **environment: str) -> Alone:
    """Track a run in a process whose every way to a network ends here, where nobody is let in."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    caller = server.accept()[0]
                except OSError:
                    return
                with caller:
                    heard.append(caller.recv(1000))
                    caller.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=listen)
        thread.start()
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        ways = {name: here for way in ("http", "https", "all") for name in (f"{way}_proxy", f"{way.upper()}_PROXY")}
        theirs = {key: value for key, value in os.environ.items() if not key.upper().startswith(("NO_PROXY", "WANDB_"))}
        service = {"WANDB_BASE_URL": here, "WANDB_API_KEY": "a" * 40, "HOME": str(folder / "home")}
        done = subprocess.run(
            [sys.executable, "-c", ALONE],
            cwd=folder,
            env=theirs | ways | service | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    return Alone(folder, done, heard)


@pytest.fixture(scope="module")
def offline(tmp_path_factory) -> Iterator[Alone]:
    return track_alone(tmp_path_factory.mktemp("offline"))


def test_offline_it_ends_by_itself_without_a_word(offline):
    assert (offline.done.returncode, offline.done.stdout, offline.done.stderr) == (0, "", "")
    assert offline.told["warnings"] == []
    assert history(offline.run) == {step: {"step/loss": step / 2} for step in (1, 2, 3)}


def test_offline_it_sends_nothing(offline):
    assert offline.heard == []


def test_it_changes_neither_generators_nor_exits_nor_environment(offline):
    assert (offline.told["drawn"], offline.told["exits"]) == (False, False)
    assert offline.told["environment"] == {"WANDB_ERROR_REPORTING": "false"}


def test_its_files_lie_in_the_folder_of_the_run(offline):
    assert sorted(path.name for path in offline.folder.iterdir()) == ["runs", "told.json"]
    assert sorted(path.name for path in offline.run.iterdir()) == ["metrics.jsonl", "wandb"]


def test_it_needs_no_torch(offline):
    assert offline.told["torch"] is False


def test_online_by_the_users_environment_it_calls_and_a_service_that_refuses_ends_no_run(tmp_path):
    alone = track_alone(tmp_path, WANDB_MODE="online")
    assert alone.done.returncode == 0
    assert b"wandb" in b"".join(alone.heard)
    (warning,) = alone.told["warnings"]
    assert warning.startswith("tracker wandb: ")
    assert warning.endswith("the run goes on without it, and metrics.jsonl has everything")
    assert (alone.done.stdout, alone.done.stderr) == ("", "")
    assert [line["step"] for line in read_metrics(alone.run / "metrics.jsonl")] == [1, 2, 3]


def test_disabled_it_does_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.mirror_to([Mirror("wandb", WeightsAndBiases(), TrackedRun(tmp_path, "pretrain"), pytest.fail)])
    log.append(step=1, loss=0.5)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_without_the_package_no_run_begins_and_the_extra_is_named(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("rushkit.trackers.wandb.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="Weights & Biases is not installed") as raised:
        pretrained(tiny("system.trackers=['wandb']"))
    assert raised.value.hint == "pip install 'rushkit[wandb]'"
    assert not (tmp_path / "runs").exists()


def test_a_mode_that_is_none_is_refused_before_the_run(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UsageError, match="WANDB_MODE is 'onlin'") as raised:
        pretrained(tiny("system.trackers=['wandb']"))
    assert raised.value.hint == "choose one of: offline, online, disabled; unset, it is offline"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "name, made",
    [
        ("20300101-000000-pretrain-digits-0a1b2c", "20300101-000000-pretrain-digits-0a1b2c"),
        ("20300101-000000-pretrain-digits+toy-0a1b2c", "20300101-000000-pretrain-digits+toy-0a1b2c"),
        ("a b/c#d", "a-b-c-d"),
        ("20300101-000000-pretrain-" + "x" * 60 + "-0a1b2c", "x" * 57 + "-0a1b2c"),
        ("é", "run"),
    ],
)
def test_an_id_of_the_service_is_made_of_ours(name, made):
    assert run_id(name) == made
