"""The size of images: one number for squares, height and width for rectangles. Nothing here imports torch."""

from __future__ import annotations

from typing import Any, TypeAlias

from rushkit.errors import UsageError, shell_line

# S for S x S, else (H, W). A square is always one number, so that it is written and compared in one way.
ImageSize: TypeAlias = int | tuple[int, int]


def as_size(height: int, width: int) -> ImageSize:
    """Return the size of images of this height and width, pixels."""
    return height if height == width else (height, width)


def sides(size: ImageSize) -> tuple[int, int]:
    """Return height and width, pixels."""
    return (size, size) if isinstance(size, int) else size


def size_words(size: ImageSize) -> str:
    """Return height and width in words: ``"24x16"``."""
    return "x".join(map(str, sides(size)))


def size_flag(size: ImageSize) -> str:
    """Return the size as ``--input-size`` takes it: ``"32"``, or ``"24x16"``."""
    return str(size) if isinstance(size, int) else size_words(size)


def size_line(size: ImageSize) -> str:
    """Return the words of a command that set the size: ``"--set data.image_size=32"``, quoted for a shell."""
    value = str(size) if isinstance(size, int) else f"[{size[0]},{size[1]}]"
    return shell_line("--set", f"data.image_size={value}")


def size_to_json(size: ImageSize) -> int | list[Any]:
    """Return the size as JSON and TOML hold it."""
    return size if isinstance(size, int) else [*size]


def size_from_json(value: object, least: int, most: int) -> ImageSize | None:
    """Return the size that JSON or TOML holds, each side from ``least`` to ``most`` pixels; None for no such size."""
    given: list[object] = [*value] if isinstance(value, list | tuple) else [value, value]
    whole = [side for side in given if isinstance(side, int) and not isinstance(side, bool)]
    if len(given) != 2 or len(whole) != 2 or min(whole) < least or max(whole) > most:
        return None
    return as_size(*whole)


def square(size: ImageSize, what: str, instead: str = "") -> int:
    """Return the side of a square. Raises UsageError for a rectangle, which ``what`` does not take.

    ``instead`` is the hint, where squares are not the way out.
    """
    if isinstance(size, int):
        return size
    raise UsageError(
        f"{what} takes squares, and the images are {size_words(size)}",
        instead or f"--set data.image_size={min(size)} makes squares of them, as data.fit says",
    )
