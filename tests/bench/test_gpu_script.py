"""benchmarks/gpu.sh: what is done survives a cut, every step keeps to its time, and what comes back is small."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "benchmarks" / "gpu.py"

# A run of three steps, of which the second kills the process.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gpu_session as gpu
session = gpu.Session(Path(sys.argv[2]) / "out", Path(sys.argv[2]) / "work", 60)
(session.work / "logs" / "first.txt").write_text("said")
steps = [gpu.Step("machine", lambda *_: {"found": 1}, 0, 0, ())]
steps += [gpu.Step("second", lambda *_: os.kill(os.getpid(), signal.SIGKILL), 0, 0)]
gpu.run_steps(session, steps)
"""


@pytest.fixture(scope="module")
def gpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)
        yield importlib.import_module("gpu")


@pytest.fixture
def parts(gpu):
    """What a run is made of."""
    return importlib.import_module("gpu_session")


@pytest.fixture
def session(parts, tmp_path):
    return parts.Session(tmp_path / "out", tmp_path / "work", 60)


def summary_of(out: Path):
    return json.loads((out / "summary.json").read_text())


def unpacked(out: Path, where: Path) -> list[str]:
    whole = where / "whole.tar.gz"
    whole.write_bytes(b"".join(part.read_bytes() for part in sorted(out.glob("results.tar.gz.*"))))
    with tarfile.open(whole) as tar:
        return tar.getnames()


def test_what_is_done_survives_a_kill(tmp_path):
    words = [sys.executable, "-c", KILLED, str(FILE.parent), str(tmp_path)]
    done = subprocess.run(words, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    steps = summary_of(tmp_path / "out")["steps"]
    assert (steps["machine"]["status"], steps["machine"]["found"]) == ("done", 1)
    assert steps["second"]["status"] == "running"
    assert {"summary.json", "logs/first.txt"} <= set(unpacked(tmp_path / "out", tmp_path))


def test_a_step_gets_what_is_left_but_for_what_later_ones_need(parts, session):
    given = []

    def work(_, seconds):
        given.append(seconds)
        return {}

    parts.run_steps(session, [parts.Step("machine", work, 1, 5, ()), parts.Step("last", work, 1, 20)])
    assert given == [pytest.approx(60 - 20, abs=3), pytest.approx(60, abs=5)]


def test_a_step_that_does_not_fit_is_skipped_and_said(parts, session, capsys):
    steps = [parts.Step("machine", lambda *_: {}, 0, 0, ()), parts.Step("long", lambda *_: {}, 1000, 0)]
    parts.run_steps(session, [*steps, parts.Step("after", lambda *_: {}, 0, 0, ("machine", "long"))])
    found = summary_of(session.out)["steps"]
    assert found["long"]["status"] == "skipped"
    assert found["long"]["why"].startswith("it needs 1000 s at least")
    assert (found["after"]["status"], found["after"]["why"]) == ("skipped", "without long")
    assert "long: skipped, it needs 1000 s" in capsys.readouterr().out


def test_a_step_that_fails_stops_no_other(parts, session):
    def fail(*_):
        raise ValueError("no kernel image")

    steps = [parts.Step("machine", lambda *_: {}, 0, 0, ()), parts.Step("broken", fail, 0, 0)]
    parts.run_steps(session, [*steps, parts.Step("next", lambda *_: {}, 0, 0)])
    found = summary_of(session.out)["steps"]
    assert (found["broken"]["status"], found["broken"]["why"]) == ("failed", "ValueError: no kernel image")
    assert found["next"]["status"] == "done"
    assert "no kernel image" in (session.work / "logs" / "broken.traceback.txt").read_text()


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("signal.pause()", -signal.SIGTERM),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(130)); print(flush=True); signal.pause()", 130),
    ],
)
def test_a_command_that_takes_too_long_is_asked_to_stop(parts, program, code):
    words = [sys.executable, "-c", f"import signal, sys; print(flush=True); {program}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(program.count("print") + 1):
            process.stdout.readline()
        assert parts._wait(process, 0)
    assert process.returncode == code


def test_a_command_that_does_not_stop_is_killed(parts, monkeypatch):
    monkeypatch.setattr(parts, "_GRACE", 0.1)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        assert parts._wait(process, 0)
    assert process.returncode == -signal.SIGKILL


def test_what_a_command_prints_is_returned_and_kept(session):
    text, cut = session.command("words", ["-c", "print('said')"], 600)
    assert (text, cut) == ("said\n", False)
    assert (session.work / "logs" / "words.txt").read_text() == "said\n"


def test_a_command_that_fails_says_how(session):
    with pytest.raises(RuntimeError, match=r"exit code 3: .*nothing to see"):
        session.command("bad", ["-c", "import sys; print('nothing to see', file=sys.stderr); sys.exit(3)"], 60)


def test_without_a_cuda_device_the_whole_run_says_so(gpu, tmp_path, monkeypatch):
    session = gpu.GpuRun(tmp_path / "out", tmp_path / "work", gpu.FULL)
    monkeypatch.setattr(session, "command", lambda *_: ('{"missing": []}', False))
    with pytest.raises(gpu.Skipped, match="torch sees no CUDA device"):
        gpu.look(session, 10)
    monkeypatch.setattr(session, "command", lambda *_: ('{"missing": ["pydantic"]}', False))
    with pytest.raises(gpu.Skipped, match="not installed: pydantic"):
        gpu.look(session, 10)


@pytest.mark.parametrize(
    ("ways", "given", "expected"),
    [
        # An epoch is 100 steps, and a tenth more; 8 s go to imports, 20 s to a compiler.
        ([{"name": "eager", "per_second": 110.0}], 58.4, (50, "off")),
        ([{"name": "eager", "per_second": 110.0}, {"name": "compiled", "per_second": 220.0}], 58.4, (60, "on")),
        ([{"name": "eager", "per_second": 110.0}, {"name": "compiled", "per_second": 220.0}], 30.4, (22, "off")),
        ([{"name": "float32", "per_second": 11.0}], 18.4, (1, "off")),
        ([{"name": "eager", "per_second": 1e6}], 100, (70, "off")),
        ([], 118.4, (10, "off")),
        ([{"name": "eager", "per_second": 1.0}], 20, (0, "off")),
    ],
)
def test_epochs_are_as_many_as_fit_and_compiled_where_that_pays(gpu, ways, given, expected):
    assert gpu.plan(ways, 51_200, 512, given, 70) == expected


def test_an_archive_has_seven_small_parts_at_most_and_weights_where_they_fit(parts, session, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 300_000)
    folder = session.work / "runs" / "1-finetune-x"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "results.json").write_text("{}")
    (folder / "checkpoints" / "step-000001.safetensors").write_bytes(os.urandom(700_000))
    other = session.work / "runs" / "0-pretrain-x" / "checkpoints"
    other.mkdir(parents=True)
    (other / "step-000002.safetensors").write_bytes(os.urandom(700_000))
    parts.pack(session, weights=True)
    files = sorted(session.out.glob("results.tar.gz.*"))
    assert 1 < len(files) <= 7
    assert all(part.stat().st_size <= 300_000 for part in files)
    names = unpacked(session.out, tmp_path)
    assert "runs/1-finetune-x/checkpoints/step-000001.safetensors" in names
    assert "runs/1-finetune-x/results.json" in names
    assert summary_of(session.out)["archive"]["left_out"] == ["runs/0-pretrain-x/checkpoints/step-000002.safetensors"]
    # What an earlier archive had more of goes.
    parts.pack(session)
    assert [part.name for part in session.out.glob("results.tar.gz.*")] == ["results.tar.gz.00"]


@pytest.mark.parametrize("words", [["--seconds", "0", "out"], ["--seconds", "nan", "out"], []])
def test_senseless_arguments_are_refused(words):
    done = subprocess.run([sys.executable, FILE, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
