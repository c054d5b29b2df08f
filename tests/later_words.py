"""A command of a page, made small for a test: what is added takes the place of what the page says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Keys that commands have flags for.
_FLAGS = {
    f"{stage}.{key}": flag
    for stage in ("pretrain", "finetune")
    for key, flag in {"epochs": "--epochs", "batch_size": "--batch-size", "optimizer.lr": "--lr"}.items()
}


def replacing(words: Sequence[str], added: Sequence[str]) -> list[str]:
    """The words without the options that ``added`` gives again (of ``--set``: the keys), and then those."""
    again = {_name(part) for part in _parts(added)}
    kept = [part for part in _parts(words) if _name(part) not in again]
    return [word for part in kept for word in part] + list(added)


def _parts(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each option with its value, and each other word."""
    rest = list(words)
    while rest:
        length = 2 if rest[0].startswith("--") and len(rest) > 1 and not rest[1].startswith("-") else 1
        yield tuple(rest[:length])
        del rest[:length]


def _name(part: tuple[str, ...]) -> str | None:
    if len(part) == 1:
        return None
    if part[0] != "--set":
        return part[0]
    key = part[1].partition("=")[0]
    return _FLAGS.get(key, f"--set {key}")
