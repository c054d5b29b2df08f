"""Errors that a user sees: one message that names the thing, one hint that names the fix, and an exit code."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence

# Characters of a message, or of a hint, that are kept: it may quote what comes from others, at any length.
_MOST = 8000
# What a terminal obeys, or what lets a text look like another: control characters but newline and tab, line ends of
# Unicode's own, turns of the direction of writing, halves of characters.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


# The exit code of a rank that ended because another one had gone; it is EX_TEMPFAIL of sysexits.h.
LOST_PEER = 75


class RushkitError(Exception):
    """Something went wrong that the user can understand and act on.

    Args:
        message: What is wrong, naming the thing (a file, a key, a run).
        hint: What to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = shorten(message, _MOST)
        self.hint = shorten(hint, _MOST) if hint else hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return showable(f"{self.message}\n{self.hint}" if self.hint else self.message)


class UsageError(RushkitError):
    """The request itself is wrong: an unknown name, a bad option or value, a recipe with errors."""

    exit_code = 2


class PluginError(RushkitError):
    """A plugin cannot be imported, or breaks the interface."""

    exit_code = 3


class DataError(RushkitError):
    """A data file is missing, short, altered or unreadable."""


class CheckpointError(RushkitError):
    """A checkpoint is missing, torn, altered, not ours, or of another architecture."""


class NumericsError(RushkitError):
    """A number that must be finite is not."""


class NoCertificate(UsageError):
    """No theorem gives a radius for this noise in this norm: what is asked for cannot be had."""


class Interrupted(RushkitError):
    """The user or the system asked the run to stop; the message says how to go on."""

    exit_code = 130


class Busy(RushkitError):
    """Another process works on the same thing: waiting helps."""


class Replaced(RushkitError):
    """Another process has taken over what this one works on, so that this one must not write any more."""


def first_few(items: Sequence[str], most: int = 3, total: int | None = None, separator: str = ", ") -> str:
    """Return the first items for a message, and how many more there are: ``"a, b, c and 2 more"``.

    Args:
        items: All of them, or at least the first ``most``.
        most: How many are shown.
        total: How many there are in all, where ``items`` is not all of them.
        separator: What stands between them.
    """
    more = (len(items) if total is None else total) - most
    return separator.join(items[:most]) + (f" and {more} more" if more > 0 else "")


def did_you_mean(word: str, known: Iterable[str], most: int = 3, cutoff: float = 0.5, prefix: str = "") -> str:
    """Return a question about a misspelt word: ``"did you mean resnet18 or resnet34?"``; empty if nothing is near.

    Args:
        word: What was written.
        known: What could have been meant.
        most: How many of these are named, the nearest first.
        cutoff: The least likeness of what is named, from 0 to 1.
        prefix: Stands before each of the words that are named.
    """
    near = [f"{prefix}{name}" for name in difflib.get_close_matches(word, list(known), n=most, cutoff=cutoff)]
    return f"did you mean {' or '.join(near)}?" if near else ""


def shorten(text: str, most: int = 120) -> str:
    """Return a text from elsewhere as a message quotes it: one longer than ``most`` characters is cut in the middle."""
    if len(text) <= most:
        return text
    start = most * 2 // 3
    return f"{text[:start]}...{text[len(text) - (most - start - 3) :]}"


def shell_line(*words: object) -> str:
    """Return a command as a hint shows it and a user pastes it, quoted for a shell."""
    return shlex.join(map(str, words))


def showable(text: str) -> str:
    """Return the text with its control characters escaped: names in messages come from other people's files.

    Newline and tab stay. ``"a\\x1b[2Jb"`` is shown with a backslash, an x and two digits, and clears no screen.
    """
    return _UNSHOWABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
