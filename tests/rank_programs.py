"""Programs that ``--nproc``'s launcher runs in place of the command: what each rank does is a few lines of Python."""

from __future__ import annotations

import sys
from pathlib import Path

# A rank stays until it is stopped.
STAY = "signal.pause()"
# Blocks until rank 1 has ended: it holds the other end of the pipe, which nothing but its end closes.
AFTER_RANK_1 = "open('gone').read()"
HOLD = "os.open('gone', os.O_WRONLY)"

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from rushkit import __main__
from rushkit.cli import app as command_line
from rushkit.errors import Interrupted, PluginError, RushkitError, UsageError
from rushkit.run.signals import graceful_stop

def rank_0():
{0}

def rank_1():
{1}

command_line.app = lambda **_: rank_1() if os.environ["RANK"] == "1" else rank_0()
sys.exit(__main__.main())
"""


def program(folder: Path, rank_0: str, rank_1: str) -> list[str]:
    """A command line: the bodies run where a verb would, and what they raise is said as a verb's error is."""
    source = folder / "rank.py"
    bodies = ("\n".join(f"    {line}" for line in body.splitlines()) for body in (rank_0, rank_1))
    source.write_text(_PROGRAM.format(*bodies))
    return [sys.executable, str(source)]
