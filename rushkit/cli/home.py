"""``~`` in a command line where the shell leaves it: in ``--out=~/page`` and ``--set data.path=~/photos``."""

from __future__ import annotations

import re

from rushkit.paths import expand

# ``~/photos`` as it stands, behind ``--option=``, behind ``key=``, or behind both.
_HOME = re.compile(r"((?:--?[\w-]+=)?(?:[\w.-]+=)?)(~[\w.-]*(?:/.*)?)", re.DOTALL)


def with_home(word: str) -> str:
    """Return a word of the command line with its ``~`` replaced by the home folder; for an unknown user it stays."""
    found = _HOME.fullmatch(word)
    return f"{found[1]}{expand(found[2])}" if found else word
