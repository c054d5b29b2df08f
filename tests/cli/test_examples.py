"""The example that each command's help ends with: it parses, and where that is cheap it is run as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
import typer
from commands import TINY, sets

from rushkit.cli.app import app

ROOT = typer.main.get_command(app)


def verbs(command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something; a group may do something by itself."""
    inside = getattr(command, "commands", {})
    if path and (not inside or command.invoke_without_command):
        yield path
    for name, each in inside.items():
        yield from verbs(each, (*path, name))


def at(path: tuple[str, ...]):
    """The command behind the words."""
    command = ROOT
    for word in path:
        command = command.commands[word]
    return command


def example(path: tuple[str, ...]) -> list[str]:
    """The command line of its epilogue, without the program."""
    before, program, line = (at(path).epilog or "").partition("Example: rushkit ")
    assert program, f"rushkit {' '.join(path)} has no example"
    assert not before
    return shlex.split(line)


@pytest.mark.parametrize("path", list(verbs(ROOT)), ids=" ".join)
def test_the_example_is_of_the_command_and_parses(path):
    words = example(path)
    assert tuple(words[: len(path)]) == path
    at(path).make_context(" ".join(path), words[len(path) :])


@pytest.mark.parametrize(
    "path",
    [
        ("recipe", "list"),
        ("recipe", "show"),
        ("recipe", "copy"),
        ("recipe", "check"),
        ("data", "list"),
        ("plugins",),
        ("runs", "list"),
        ("runs", "clean"),
    ],
    ids=" ".join,
)
def test_a_cheap_example_works_as_pasted(cli, path):
    said = cli(*example(path))
    assert said.code == 0, said.err


def test_the_example_of_evaluate_works_as_pasted_after_those_of_training(cli):
    # Digits under the name of the examples' recipe: what is evaluated is not what this is about.
    assert cli("pretrain", "--recipe", "digits", "-q", *sets(*TINY, "name=cifar10")).code == 0
    assert cli("finetune", "--from", "cifar10", "-q").code == 0
    said = cli(*example(("evaluate",)))
    assert said.code == 0, said.err
