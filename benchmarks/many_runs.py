"""Seconds that `rushkit runs list` takes over many runs: `python benchmarks/many_runs.py [--runs N] [--folder DIR]`.

The folders are small: what the shipped evaluation of the digits wrote, a log, and two empty checkpoints. The first list
reads every file, the second what has changed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rushkit.run.shipped import shipped_folder

# What the second list may take, on two free cores.
MOST_SECONDS = 2.0
# Twice the runs may take this much longer.
MOST_RATIO = 2.5


def make_runs(root: Path, numbers: range) -> None:
    """Make a run folder for each number; they differ in name, recipe, seed and time."""
    (model,) = shipped_folder().glob("*-evaluate-digits-*")
    run, results = json.loads((model / "run.json").read_text()), (model / "results.json").read_bytes()
    recipe = (model / "recipe.toml").read_bytes()
    for number in numbers:
        day = f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}"
        folder = root / f"{day.replace('-', '')}-{number:06d}-evaluate-digits-{number:06x}"
        (folder / "checkpoints").mkdir(parents=True)
        started = f"{day}T{number % 24:02d}:00:{number % 60:02d}+00:00"
        told = run | {"seed": number, "recipe": f"digits-{number % 40}", "started": started}
        (folder / "run.json").write_text(json.dumps(told, indent=2))
        (folder / "results.json").write_bytes(results)
        (folder / "recipe.toml").write_bytes(recipe)
        (folder / "log.txt").write_text("a line\n")
        (folder / "lock").touch()
        for step in (1, 2):
            (folder / "checkpoints" / f"step-{step:06d}.safetensors").touch()


def seconds_of(*words: str) -> tuple[float, float]:
    """Return the seconds that a command took by the clock, and of the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "rushkit", *words], check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(root: Path, count: int) -> float:
    """Print what commands take over the runs of a folder; return the seconds of the second list."""
    words = {
        "list, all read": ("runs", "list"),
        "list again": ("runs", "list"),
        "list --json": ("runs", "list", "--json"),
        "show by recipe": ("runs", "show", "digits-7"),
    }
    taken = {}
    for what, command in words.items():
        taken[what], processor = seconds_of(*command, "--runs-dir", str(root))
        print(f"{count:6d} runs  {what:14s} {taken[what]:6.2f} s, {processor:6.2f} s of the processor", flush=True)
    return taken["list again"]


def main() -> int:
    """Measure half of the runs, then all; return 1 where the list is too slow, or grows faster than its runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="make the runs here and leave them; else in a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary) / "runs"
        make_runs(root, range(options.runs // 2))
        half = measure(root, options.runs // 2)
        make_runs(root, range(options.runs // 2, options.runs))
        whole = measure(root, options.runs)
    print(f"twice the runs take {whole / half:.2f} times as long")
    return int(whole > MOST_SECONDS or whole / half > MOST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
