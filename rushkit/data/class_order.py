"""The classes of a folder of images in their order: that of the folders' names, or one that is given."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rushkit.data.progress import say_once
from rushkit.data.scan import composed
from rushkit.errors import DataError, UsageError, did_you_mean, first_few, shorten
from rushkit.paths import expand, read_text, reason

# A file of class names of more bytes is none.
_MOST_BYTES = 2**24


def given_classes(given: str | Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the class names that ``data.classes`` gives, in composed letters (NFC).

    Args:
        given: The names, or a file of them: one name a line, or a JSON list.
        folders: Where a relative path is looked for, one after the other.

    Raises:
        DataError: the file cannot be read.
        UsageError: there are no names, or one comes twice.
    """
    names, where = (given, "data.classes") if not isinstance(given, str) else _read(given, folders)
    classes = tuple(composed(name) for name in names)
    if not classes:
        raise UsageError(f"{where} names no class", 'for example --set data.classes=\'["cat", "dog"]\'')
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        raise UsageError(f"{where} names a class twice: {first_few(twice, 5)}", "each class has one place in the order")
    return classes


def ordered(found: Iterable[str], given: Sequence[str], where: Path) -> tuple[str, ...]:
    """Return the classes of a folder in their order; that of text where none is given, as torchvision has it.

    Args:
        found: The class folders.
        given: The order, which may name classes that have no folder here; empty for none.
        where: The folder, for messages.

    Raises:
        DataError: a class folder that the order does not name.
    """
    classes = sorted(set(found))
    if not given:
        if classes != (by_number := sorted(classes, key=_as_number)):
            say_once(
                f"{where}: the classes are in the order of text, {first_few(classes, 4)}, as torchvision has them; in "
                f"that of numbers they would be {first_few(by_number, 4)}: data.classes sets another order"
            )
        return tuple(classes)
    if unknown := [name for name in classes if name not in set(given)]:
        nearest = did_you_mean(unknown[0], given)
        raise DataError(
            f"{where} has class folders that data.classes does not name: {first_few(unknown, 5)}",
            nearest or f"it names {first_few(list(given), 5)}",
        )
    return tuple(given)


def _read(given: str, folders: Sequence[Path]) -> tuple[list[str], str]:
    """Return the names in a file, and what to call it."""
    places = [folder / expand(given) for folder in folders]
    path = next((place for place in places if place.is_file()), places[0])
    try:
        text = read_text(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {reason(error)}",
            "data.classes is a list of names, or a file with one name a line or a JSON list",
        ) from error
    if not text.lstrip().startswith("["):
        return [line.strip() for line in text.splitlines() if line.strip()], str(path)
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no JSON list: {shorten(str(error))}", "or one name a line, without brackets"
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} is no JSON list of names", 'for example ["cat", "dog"]')
    return names, str(path)


def _as_number(name: str) -> tuple[int, int, str]:
    """Sort numbers by what they are, before other names."""
    return (0, int(name), name) if name.isascii() and name.isdigit() and len(name) < 10 else (1, 0, name)
