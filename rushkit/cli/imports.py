"""Take ``--import FILE.py`` off a command line: every command accepts it. RUSHKIT_IMPORT names files as PATH does."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rushkit.errors import UsageError
from rushkit.paths import expand_text
from rushkit.registrations import VARIABLE

FLAG = "--import"
_LOOKS_ONLY = {"--help", "-h", "--version"}


def take_imports(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return a command line without ``--import``, and the files that it and RUSHKIT_IMPORT name.

    No file is to be run for a command line that only asks for help.

    Raises:
        UsageError: ``--import`` stands at the end, without its file.
    """
    rest: list[str] = []
    files = [expand_text(file) for file in os.environ.get(VARIABLE, "").split(os.pathsep) if file]
    waiting = False
    for word in words:
        if waiting or word.startswith(f"{FLAG}="):
            files.append(word if waiting else word.removeprefix(f"{FLAG}="))
            waiting = False
        elif word == FLAG:
            waiting = True
        else:
            rest.append(word)
    if waiting:
        raise UsageError(f"{FLAG} names no file", f"for example {FLAG} triangle.py")
    return rest, files if rest and _LOOKS_ONLY.isdisjoint(rest) else []
