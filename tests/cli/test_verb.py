"""A command that takes groups of options, as Typer sees it and as it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from rushkit.cli.verb import verb


@dataclass(frozen=True)
class Size:
    """Two options in a group."""

    height: Annotated[int, typer.Option("--height")] = 3
    width: Annotated[int, typer.Option("--width")] = 4


@pytest.fixture
def measure():
    """An app of one command, and what it was called with."""
    calls, app = [], typer.Typer()

    @app.command()
    @verb
    def command(
        *, place: Annotated[str, typer.Argument()], size: Size, loud: Annotated[bool, typer.Option("--loud")] = False
    ) -> None:
        """Measure a place."""
        calls.append((place, size, loud))

    return app, calls


def test_the_options_of_a_group_stand_where_the_group_stands_and_debug_is_last(measure):
    app, _ = measure
    names = [parameter.name for parameter in typer.main.get_command(app).params]
    assert names[:6] == ["place", "height", "width", "loud", "imports", "debug"]


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("here", ("here", Size(), False)),
        ("here --width 7 --loud --debug", ("here", Size(width=7), True)),
    ],
)
def test_the_command_gets_its_groups_and_not_debug(measure, words, call):
    app, calls = measure
    app(words.split(), standalone_mode=False)
    assert calls == [call]


def test_help_is_that_of_the_command(measure):
    app, _ = measure
    assert typer.main.get_command(app).help == "Measure a place."
