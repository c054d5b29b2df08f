"""The commands, flags and keys that a text names, checked against those that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache

from typer.main import get_command

from rushkit import registries
from rushkit.cli.app import app
from rushkit.recipe.schema import section_at
from rushkit.registry import factory_parameters

# A placeholder in the text of an f-string.
HOLE = "\x00"
_COMMAND = re.compile(r"\brushkit ((?:[a-z]|\x00)[^`;\n]*)")
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
_SET = re.compile(r"--set ([a-z_]+(?:\.[a-z_]+)+)=")
# Flags of all commands, and those of git, which rushkit calls.
_FOREIGN = {"help", "debug", "version", "porcelain", "untracked-files"}
# Tables with keys of a component's own, which its own tests check.
_OPEN = {"backbone", "noise", "data", "attack"}


@cache
def commands() -> dict[tuple[str, ...], frozenset[str]]:
    """Every command by its words, with its flags; groups have none."""
    found: dict[tuple[str, ...], frozenset[str]] = {}

    def add(words: tuple[str, ...], command) -> None:
        flags = (flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts))
        found[words] = frozenset(flag.removeprefix("--") for flag in flags if flag.startswith("--"))
        for name, inner in getattr(command, "commands", {}).items():
            add((*words, name), inner)

    add((), get_command(app))
    return found


@cache
def options_of_objectives() -> frozenset[str]:
    """The options of all objectives, which are keys of ``[pretrain]`` and ``[finetune]``."""
    known = registries.objectives
    return frozenset(name for entry in known.entries() for name in factory_parameters(known.get(entry.name)))


def wrong_commands(text: str) -> Iterator[str]:
    """Yield what is wrong with each ``rushkit ...`` in a text: a command that there is not, or a flag that it lacks.

    Prose such as "rushkit reads it" is no command: one has a backtick before it, or a flag, a name in capitals or,
    after a colon, nothing behind it.
    """
    for match in _COMMAND.finditer(text):
        words = match[1].split()
        before = text[: match.start()]
        if len(words) == 1:
            meant = before.endswith(("`", ": "))
        else:
            meant = before.endswith("`") or (words[0][-1] != ":" and bool(re.match(r"--|[A-Z]{3}|'", words[1])))
        verb = words[0].rstrip(".,:)`'\"")
        if HOLE in verb or ((verb,) not in commands() and not meant):
            continue
        if (verb,) not in commands():
            yield f"there is no command rushkit {verb}"
            continue
        path: tuple[str, ...] = (verb,)
        if any(known[:1] == path and len(known) == 2 for known in commands()):
            second = words[1].rstrip(".,:)`'\"") if len(words) > 1 else ""
            if re.fullmatch("[a-z]+", second) and (verb, second) not in commands():
                yield f"there is no command rushkit {verb} {second}"
                continue
            path = (verb, second) if (verb, second) in commands() else path
        # A comma ends the command; the flags behind it are checked as those of any.
        for flag in _FLAG.findall(match[1].partition(", ")[0]):
            if flag not in commands()[path] | _FOREIGN:
                yield f"rushkit {' '.join(path)} has no --{flag}"


def wrong_flags(text: str) -> Iterator[str]:
    """Yield the flags of a text that no command has."""
    known = frozenset().union(*commands().values()) | _FOREIGN
    for flag in _FLAG.findall(text):
        if flag.rstrip("-") not in known:
            yield f"no command has --{flag}"


def wrong_keys(text: str) -> Iterator[str]:
    """Yield the keys behind ``--set`` that no recipe has; those of components are theirs to check."""
    for key in _SET.findall(text):
        section, _, name = key.rpartition(".")
        model = section_at(section)
        known = () if model is None else (*model.key_names(), *options_of_objectives())
        if name not in known and section not in _OPEN:
            yield f"there is no key {key}"


def problems(text: str) -> list[str]:
    """Return everything that is wrong with the commands, flags and keys of a text."""
    return [*wrong_commands(text), *wrong_flags(text), *wrong_keys(text)]


def repeats(hint: str, arguments: Sequence[str]) -> bool:
    """Whether a hint offers the very command that failed."""
    for match in _COMMAND.finditer(hint):
        with suppress(ValueError):
            if shlex.split(match[1].rstrip(".")) == list(arguments):
                return True
    return False
