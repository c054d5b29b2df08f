"""Format recipe values, checkpoint paths and the commands of runs as text."""

from __future__ import annotations

import shlex

from rushkit.recipe import toml
from rushkit.run.info import RunInfo
from rushkit.run.names import CHECKPOINTS

# What the command is called in argv: the script, `python -m rushkit`, and Windows.
_PROGRAMS = ("rushkit", "__main__.py", "rushkit.exe")


def value_words(value: toml.Toml) -> str:
    """Return a value of a recipe as it was given; a dash for None."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else toml.format_value(value)


def run_of_checkpoint(path: str) -> str:
    """Return the name of the run that a checkpoint lies in, or the path itself where it lies in none."""
    parts = path.replace("\\", "/").split("/")
    return parts[-3] if len(parts) > 2 and parts[-2] == CHECKPOINTS else path


def command_of(run: RunInfo) -> str | None:
    """Return the command that started a run, as it was typed; None if a Python program started it."""
    argv = run.about.argv
    if len(argv) < 2:
        return None
    program = argv[0].replace("\\", "/").rpartition("/")[2]
    return shlex.join(["rushkit", *argv[1:]]) if program in _PROGRAMS else None


def figure_words(value: bool | int | float | str) -> str:
    """Return a single figure of a stage: six digits of a number with decimals, else as ``value_words`` has it."""
    return f"{value:.6g}" if isinstance(value, float) else value_words(value)
