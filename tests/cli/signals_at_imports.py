"""A command that a signal reaches at a known point of its start: when it imports a certain module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What becomes of the exception that the signal raises there.
FATES = {
    "propagates": "os.kill(os.getpid(), number)",
    "is swallowed": "try: os.kill(os.getpid(), number)\n            except BaseException: pass",
    "becomes another one": (
        "try: os.kill(os.getpid(), number)\n"
        "            except BaseException as error: raise ImportError('half a library') from error"
    ),
    "is lost in a finalizer": "Dying(number)",
    # To the launcher of ranks; where it has come back to this rank, which cannot hear it yet, the import goes on.
    "goes through the launcher": (
        "os.kill(os.getppid(), number)\n            while number not in signal.sigpending(): pass"
    ),
}
_SITECUSTOMIZE = """
import os, signal, sys

class Dying:
    def __init__(self, number): self.number = number
    def __del__(self): os.kill(os.getpid(), self.number)

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            number = {number}
            {fate}

if os.environ.get("RANK", "") in {ranks!r}:
    sys.meta_path.insert(0, Hook())
"""


def run(
    folder: Path, arguments: list[str], module: str, fate: str, number: int, ranks: tuple[str, ...] = ("",)
) -> subprocess.CompletedProcess[str]:
    """Run the command; in the processes of these ranks (``""``: one that is none) the signal falls into an import."""
    code = _SITECUSTOMIZE.format(module=module, number=int(number), fate=FATES[fate], ranks=ranks)
    (folder / "sitecustomize.py").write_text(code)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", str(ROOT))])
    return subprocess.run(
        [sys.executable, "-m", "rushkit", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
