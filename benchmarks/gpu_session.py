"""One run of benchmarks/gpu.py: its time, its commands, its summary on the disk, and the archive of what is small."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUMMARY = "summary.json"
ARCHIVE = "results.tar.gz"
PARTS = 7
PART_BYTES = 15_000_000
# Seconds that a stopped command has to save what it did.
_GRACE = 10.0


class Skipped(Exception):
    """A step cannot be made; the text says why."""


class Session:
    """A run of the script: its folders, its time, and its summary on the disk.

    Args:
        out: The folder that summary and archive go to.
        work: The folder for everything else.
        seconds: How long it may take.
        changes: Keys of the recipe that every command of rushkit changes.
    """

    def __init__(self, out: Path, work: Path, seconds: float, changes: Sequence[str] = ()) -> None:
        self.out, self.work = out, work
        self.changes = [part for change in changes for part in ("--set", change)]
        self._finish = time.monotonic() + seconds
        (work / "logs").mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self.summary: dict[str, Any] = {"began": began, "seconds": seconds, "steps": {}}

    def left(self) -> float:
        """Return the seconds until the end of the run."""
        return self._finish - time.monotonic()

    def note(self, step: str, **facts: Any) -> None:
        """Note facts about a step, and write the summary anew."""
        self.summary["steps"].setdefault(step, {}).update(facts)
        write_atomic(self.out / SUMMARY, json.dumps(self.summary, indent=2).encode())

    def has(self, step: str) -> bool:
        """Return whether a step came to something."""
        return self.summary["steps"].get(step, {}).get("status") in ("done", "cut")

    def found(self, step: str) -> dict[str, Any]:
        """Return the facts about a step, none where there was none."""
        facts: dict[str, Any] = self.summary["steps"].get(step, {})
        return facts

    def command(self, name: str, words: Sequence[str | Path], seconds: float) -> tuple[str, bool]:
        """Run a command of the same Python, and return what it printed and whether it was stopped for its time.

        Args:
            name: Of its log.
            words: What follows ``python``.
            seconds: From then on it is stopped.

        Raises:
            RuntimeError: it failed; the message is the end of its log.
        """
        log = self.work / "logs" / f"{name}.txt"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "RUSHKIT_RUNS": str(self.work / "runs")}
        environment |= {"RUSHKIT_OFFLINE": "1", "RUSHKIT_PLUGINS": "", "NO_COLOR": "1"}
        with log.open("w+") as errors, tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [sys.executable, *map(str, words)], cwd=ROOT, env=environment, stdout=output, stderr=errors
            )
            cut = _wait(process, seconds)
            output.seek(0)
            text = output.read()
            errors.seek(0, os.SEEK_END)
            errors.write(text)
            errors.seek(0)
            if process.returncode and not cut:
                last = [line for line in errors.read().splitlines() if line.strip()][-3:]
                raise RuntimeError(f"exit code {process.returncode}: {' | '.join(last)}")
        return text, cut

    def rushkit(self, name: str, *words: str | Path, seconds: float, changes: Sequence[str] = ()) -> dict[str, Any]:
        """Run a command that makes a run, and return the name of its folder, its record, and whether it was cut."""
        verb = str(words[0])
        pairs = [part for change in changes for part in ("--set", change)]
        _, cut = self.command(name, ["-m", "rushkit", *words, *self.changes, *pairs], seconds)
        folders = sorted((self.work / "runs").glob(f"*-{verb}-*"), key=lambda folder: folder.stat().st_mtime)
        if not folders:
            raise RuntimeError(f"{verb} made no run")
        record = folders[-1] / "results.json"
        results = json.loads(record.read_text()) if record.is_file() else None
        return {"run": folders[-1].name, "results": results} | ({"cut": True} if cut else {})

    def run_of(self, step: str) -> Path:
        """Return the folder of the run that a step made."""
        return self.work / "runs" / str(self.found(step)["run"])


def _wait(process: subprocess.Popen[bytes] | subprocess.Popen[str], seconds: float) -> bool:
    """Wait for a process, stop it when its time is over, and return whether that was so."""
    try:
        for patience, stop in ((max(seconds, 0.0), process.terminate), (_GRACE, process.kill)):
            try:
                process.wait(patience)
                return stop == process.kill
            except subprocess.TimeoutExpired:
                stop()
        process.wait()
        return True
    except BaseException:
        process.kill()
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(frozen=True)
class Step:
    """A step of the run.

    Attributes:
        name: Its name in the summary.
        work: Maps the session and the seconds that it is given to what it found.
        least: Seconds below which it is not begun.
        expected: Seconds that are kept for it while earlier steps run.
        needs: Steps that must have come to something.
    """

    name: str
    work: Callable[[Session, float], dict[str, Any]]
    least: float
    expected: float
    needs: tuple[str, ...] = ("machine",)


def run_steps(session: Session, steps: Sequence[Step]) -> None:
    """Make the steps in turn; a step that fails or is skipped stops no other that does not need it."""
    for place, step in enumerate(steps):
        given = session.left() - sum(later.expected for later in steps[place + 1 :])
        lacking = [name for name in step.needs if not session.has(name)]
        if lacking:
            session.note(step.name, status="skipped", why=f"without {', '.join(lacking)}")
        elif given < step.least:
            why = f"it needs {step.least:.0f} s at least, and {max(given, 0):.0f} s are left for it"
            session.note(step.name, status="skipped", why=why)
        else:
            _make(session, step, given)
        facts = session.found(step.name)
        said = facts.get("why", "")
        print(f"{step.name}: {facts['status']}{f', {said}' if said else ''}; {session.left():.0f} s left", flush=True)


def _make(session: Session, step: Step, given: float) -> None:
    session.note(step.name, status="running", given=round(given, 1))
    began = time.monotonic()
    try:
        found = step.work(session, given)
        status = {"status": "cut" if found.get("cut") else "done"}
    except Skipped as reason:
        found, status = {}, {"status": "skipped", "why": str(reason)}
    except Exception as error:  # noqa: BLE001 - whatever went wrong, what comes after is worth its time
        found, status = {}, {"status": "failed", "why": f"{type(error).__name__}: {error}"}
        (session.work / "logs" / f"{step.name}.traceback.txt").write_text(traceback.format_exc())
    session.note(step.name, **found, **status, took=round(time.monotonic() - began, 2))
    pack(session)


def pack(session: Session, weights: bool = False) -> None:
    """Write the archive anew, in parts, with the weights where these are asked for and fit.

    Args:
        session: The run.
        weights: Whether checkpoints go in, the fine-tuned one first.
    """
    write_atomic(session.work / SUMMARY, json.dumps(session.summary, indent=2).encode())
    chosen, left_out, room = [], [], PARTS * PART_BYTES - (1 << 20)
    for path in files_to_pack(session.work, weights):
        size = path.stat().st_size + 1024
        (chosen if size <= room else left_out).append(path)
        room -= size if size <= room else 0
    archive = session.work / ARCHIVE
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in chosen:
            tar.add(path, path.relative_to(session.work))
    parts = []
    with archive.open("rb") as file:
        while data := file.read(PART_BYTES):
            name = f"{ARCHIVE}.{len(parts):02d}"
            write_atomic(session.out / name, data)
            parts.append({"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    for old in session.out.glob(f"{ARCHIVE}.*"):
        if old.name not in {part["name"] for part in parts}:
            old.unlink()
    archive.unlink()
    without = [str(path.relative_to(session.work)) for path in left_out]
    session.summary["archive"] = {"parts": parts, "files": len(chosen), "left_out": without}
    write_atomic(session.out / SUMMARY, json.dumps(session.summary, indent=2).encode())


def files_to_pack(work: Path, weights: bool) -> Iterator[Path]:
    """Yield what goes into the archive, the most important first."""
    files = sorted(path for path in work.rglob("*") if path.is_file() and not path.is_symlink())
    small = [path for path in files if path.suffix in {".json", ".jsonl", ".txt", ".toml", ".md"}]
    pages = [path for path in files if path.suffix in {".html", ".png", ".svg"}]
    yield from small
    yield from pages
    if weights:
        of_stage = [path for path in files if path.suffix == ".safetensors" and path.parent.name == "checkpoints"]
        newest = {path.parent: path for path in of_stage}
        yield from sorted(newest.values(), key=lambda path: "-finetune-" not in str(path))
