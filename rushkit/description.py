"""What a registered component is, and the options that it takes: read off its docstring and its signature."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from rushkit import __version__
from rushkit.paths import read_text
from rushkit.recipe import toml
from rushkit.recipe.components import SUPPLIED
from rushkit.recipe.find import find_recipe
from rushkit.registrations import source_of
from rushkit.registry import BUILTIN_OWNER, Entry, Family, Registry, factory_parameters, option_types, type_words

_SECTION = re.compile(r"\n(?:Args|Attributes|Raises|Returns|Yields|Examples?):{1,2}\n")


@dataclass(frozen=True)
class Option:
    """An option of a component.

    Attributes:
        name: As a recipe writes it.
        type: The values that it takes, in words; empty where the component does not say.
        default: As TOML writes it; empty where there is none, and "left out" where it is None.
        required: Whether it must be given.
        description: What the docstring says of it.
    """

    name: str
    type: str
    default: str
    required: bool
    description: str


@dataclass(frozen=True)
class Description:
    """A registered component in words.

    Attributes:
        name: Its registered name.
        kind: The kind of component, such as ``"noise"``.
        registry: The group of its registry.
        owner: Who brings it, and ``version`` which one.
        source: The place in the code, the file that registered it, or the file of a recipe.
        description: What its docstring says, before the sections on arguments and errors.
        options: What a recipe may set.
        supplied: What rushkit passes by itself.
        more: What the docstring says of further options that the signature does not list; None if it takes none.
        stage: For an objective, the stage that it is of; else empty.
        members: The names that stand for a family such as ``torchattacks/*``, where they are known.
    """

    name: str
    kind: str
    registry: str
    owner: str
    version: str
    source: str
    description: str
    options: list[Option]
    supplied: list[str]
    more: str | None
    stage: str
    members: list[str]


def describe(registry: Registry, name: str) -> Description:
    """Return what is known of a component; imports it, but makes none.

    Args:
        registry: The registry that has it.
        name: Its name, with or without its owner; a family (``timm/*``) or a member of one (``timm/resnet18``) too.

    Raises:
        UsageError: unknown name, or a name that several owners bring.
        PluginError: it cannot be imported.
    """
    entry = registry.entry(name)
    version = entry.version or (__version__ if entry.owner == BUILTIN_OWNER else "")
    about: dict[str, Any] = {
        "kind": registry.kind,
        "registry": registry.group,
        "owner": entry.owner,
        "version": version,
    }
    if registry.kind == "recipe":
        path = find_recipe(name)
        return Description(entry.name, **about, source=str(path), **_NO_OPTIONS, description=_opening(path))
    of_family = entry.family_member(name) == "*"
    factory = entry.load() if of_family else registry.get(name)
    supplied = SUPPLIED.get(registry.kind, ())
    taken = {} if isinstance(factory, Family) else factory_parameters(factory)
    further = further_options(factory)
    words = argument_words(factory)
    return Description(
        entry.name if of_family or not entry.name.endswith("/*") else name,
        **about,
        source=_source(entry),
        description=_opening_words(factory),
        options=_options(factory, {option: taken[option] for option in taken if option not in supplied}, of_family),
        supplied=[option for option in taken if option in supplied],
        more=None if further is None else words.get(further, ""),
        stage=getattr(factory, "stage", "") if registry.kind == "objective" else "",
        members=[f"{entry.name[:-1]}{member}" for member in registry.members(entry)] if of_family else [],
    )


_NO_OPTIONS: dict[str, Any] = {"options": [], "supplied": [], "more": None, "stage": "", "members": []}


def argument_words(factory: Callable[..., Any]) -> dict[str, str]:
    """Return what a docstring says of each argument; of a class, what those of the classes above it say as well."""
    words: dict[str, str] = {}
    plain = factory.func if isinstance(factory, partial) else factory
    for owner in reversed(plain.__mro__) if isinstance(plain, type) else [plain]:
        rest = re.split(r"\n(?:Args|Attributes):\n", inspect.cleandoc(owner.__doc__ or ""), maxsplit=1)[-1]
        name = ""
        for line in rest.splitlines():
            if not line.startswith("    "):
                break
            if line[4] != " ":
                name, _, line = line.strip().partition(": ")
                words[name] = ""
            words[name] = f"{words[name]} {line.strip()}".strip()
    return words


def further_options(factory: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that takes options which the signature does not list; None if it has none."""
    parameters = inspect.signature(factory).parameters.values()
    return next((each.name for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD), None)


def _options(factory: Callable[..., Any], parameters: dict[str, inspect.Parameter], of_family: bool) -> list[Option]:
    types, words = option_types(factory), argument_words(factory)
    options = []
    for name, parameter in parameters.items():
        # The first argument of a family's factory is the rest of the name.
        if of_family and name == "name":
            continue
        required = parameter.default is inspect.Parameter.empty
        default = "" if required else "left out" if parameter.default is None else _value(parameter.default)
        kind = type_words(types[name]) if name in types else ""
        options.append(Option(name, kind, default, required, words.get(name, "")))
    return options


def _value(value: object) -> str:
    """Return a default as TOML writes it; one that no recipe could hold as Python does."""
    plain = list(value) if isinstance(value, tuple) else value
    storable = isinstance(plain, bool | int | float | str | list) and not toml.unstorable(plain)
    return toml.format_value(cast(toml.Toml, plain)) if storable else repr(value)


def _opening_words(factory: object) -> str:
    """Return a docstring without its sections; of an object that is called, that of its class."""
    plain = factory.func if isinstance(factory, partial) else factory
    owner = plain if isinstance(plain, type) or inspect.isroutine(plain) else type(plain)
    text = inspect.cleandoc(owner.__doc__ or "")
    # dataclass writes one of its own where there is none.
    if isinstance(owner, type) and text.startswith(f"{owner.__name__}("):
        return ""
    return _SECTION.split(f"\n{text}\n", maxsplit=1)[0].strip()


def _opening(recipe: Path) -> str:
    """Return the comment that a recipe opens with."""
    lines = []
    for line in read_text(recipe).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return "\n".join(lines).strip()


def _source(entry: Entry) -> str:
    registered = source_of(entry)
    if registered is None:
        return str(entry.target)
    return registered[0] or "registered by a decorator, in no file"
