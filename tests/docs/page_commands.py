"""The commands that stand on a page, the recipes that it shows, and what makes a command small enough for a test."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Programs that the tests of the pages leave out, and why.
NOT_RUN = {
    "git": "clones from the network",
    "python3": "makes an environment",
    "source": "goes into the environment",
    "cd": "goes into the clone",
    "make": "installs an environment; its targets are what CI runs",
    "benchmarks/gpu.sh": "measures a GPU for minutes; tests/bench runs its parts",
    "python": "trains the tutorial's model, as its test does; or measures for an hour, whose parts tests/bench runs",
    "env": "runs tests of pages in a browser, as CI does",
    "pip": "installs; tests/plugins does it, into a folder of its own",
}


@dataclass(frozen=True)
class Block:
    """A block of code on a page: its language, its text, and the number of its first line."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """One command of a page: its words after ``rushkit``, and what the page says after ``#``."""

    words: tuple[str, ...]
    comment: str

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def verb(self) -> str:
        return self.words[0]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """Every fenced block of a page's text."""
    found = re.finditer(r"^(`{3,})(.*)\n((?:.*\n)*?)\1$", text, re.MULTILINE)
    return [Block(block[2], block[3], text[: block.start()].count("\n") + 1) for block in found]


def commands(text: str) -> list[Command]:
    """Every command in the ``sh`` blocks of a page's text, and those of rushkit in its scripts (``bash``), in order."""
    return [command for line in _lines(text) for command in _commands_of(line)]


def examples(text: str) -> list[Command]:
    """The examples in the generated page of commands, and the commands in a recipe's opening comment."""
    lines = re.findall(r"^(?:Example: |# Command: +|# {6,})(rushkit .*)$", text, re.MULTILINE)
    return [command for line in lines for command in _commands_of(line)]


def recipes(text: str) -> dict[str, str]:
    """The recipes that a page shows: each ``toml`` block with a schema, under the last file name before it."""
    found = {}
    for block in re.finditer(r"```toml\n(schema = 1\n.*?)```", text, re.DOTALL):
        *_, name = re.findall(r"[\w-]+\.toml", text[: block.start()])
        found[name] = block[1]
    return found


def inline(text: str) -> list[tuple[str, ...]]:
    """The words after ``rushkit`` of every command that a sentence names."""
    return [tuple(span.split()) for span in re.findall(r"`rushkit ([^`\n]+)`", text)]


def _lines(text: str) -> Iterator[str]:
    """The lines of the blocks, those that end in a backslash joined with the next."""
    for block in blocks(text):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "sh":
            yield from filter(str.strip, lines)
        elif block.language == "bash":
            yield from (line for line in lines if " -m rushkit " in line)


def _commands_of(line: str) -> Iterator[Command]:
    code, _, comment = re.sub(r"\s#\s", "\0", f" {line}").partition("\0")
    for part in code.split("&&"):
        words = shlex.split(part)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            del words[0]
        if not words or words[0].startswith("#"):
            continue
        if "rushkit" in words and (words[0] == "rushkit" or words[words.index("rushkit") - 1] == "-m"):
            yield Command(tuple(words[words.index("rushkit") + 1 :]), comment.strip())
        else:
            assert words[0] in NOT_RUN, f"{line!r}: neither a command of rushkit nor one that NOT_RUN excepts"
