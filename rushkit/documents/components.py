"""What ``rushkit plugins`` and ``rushkit recipe`` print under ``--json``."""

from __future__ import annotations

from dataclasses import dataclass, field

from rushkit.recipe.toml import Toml
from rushkit.results.jsonable import LEFT_OUT, Figures, called


@dataclass(frozen=True)
class Component(Figures):
    """A registered component.

    Attributes:
        registry: The group of its registry, such as ``rushkit.noises``.
        name: Its registered name.
        owner: The distribution that brings it.
        version: The owner's version.
        problem: Why it cannot be used; empty if it can. Only with ``--check``.
    """

    registry: str
    name: str
    owner: str
    version: str
    problem: str | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class Components(Figures):
    """Every registered component."""

    components: list[Component]


@dataclass(frozen=True)
class NewPlugin(Figures):
    """A plugin that was written to start from.

    Attributes:
        name: The component's name.
        kind: What the plugin brings.
        project: Its folder.
        files: The files in it.
    """

    name: str
    kind: str
    project: str
    files: list[str]


@dataclass(frozen=True)
class Listed(Figures):
    """A recipe or a study in a list.

    Attributes:
        origin: Where it comes from: a path, ``rushkit``, or a plugin's name.
        about: The first line of its comment, or why it cannot be used.
    """

    origin: str = field(metadata=called("from"))
    about: str


@dataclass(frozen=True)
class CheckedRecipe(Figures):
    """A recipe that is in order.

    Attributes:
        recipe: Its name.
        ok: Always true: what is wrong with a recipe is an error.
    """

    recipe: str
    ok: bool = True


@dataclass(frozen=True)
class KeyOrigin(Figures):
    """A key of a resolved recipe.

    Attributes:
        value: Its value.
        origin: Where that comes from: a file and its line, a flag, a variable of the environment, or ``default``.
    """

    value: Toml
    origin: str = field(metadata=called("from"))
