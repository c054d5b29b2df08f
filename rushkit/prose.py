"""Wrap sentences at words at the width of a terminal, and leave commands that they name whole, to be pasted."""

from __future__ import annotations

import os
import re
from typing import TextIO

# A command runs to the end of its clause: what follows a comma or a semicolon is prose. Code runs to the line's end.
_COMMAND = re.compile(r"\bpython -c [^\n]*|\b(?:rushkit [a-z]|pip install )[^\n]*?(?=[,;)](?:\s|$)|$)", re.MULTILINE)
# Stands for a space that is no place to break at.
_HELD = "\0"
# No prose is wrapped at less, which would be a column of words.
_NARROWEST = 20


def width_of(stream: TextIO) -> int:
    """Return the columns of the terminal behind a stream: ``$COLUMNS``, its own, or 80."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def wrapped(text: str, width: int) -> str:
    """Return a text with its lines broken at words; the lines that a break begins are indented as their line is.

    A word that is longer than a line stays whole, as does a command: ``rushkit runs list`` is pasted as it is shown.
    """
    if width < _NARROWEST:
        return text
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    body = line.lstrip(" ")
    indent = line[: len(line) - len(body)]
    rows: list[str] = []
    row = ""
    for word in _COMMAND.sub(lambda found: found[0].replace(" ", _HELD), body).split(" "):
        longer = f"{row} {word}" if row else f"{indent}{word}"
        if row.strip() and len(longer) > width:
            rows.append(row)
            longer = f"{indent}{word}"
        row = longer
    return "\n".join([*rows, row]).replace(_HELD, " ")


def fitted(text: str, stream: TextIO) -> str:
    """Return a text as a stream shows it: wrapped at the width of a terminal, and as it is in a pipe or a file."""
    return wrapped(text, width_of(stream)) if stream.isatty() else text
