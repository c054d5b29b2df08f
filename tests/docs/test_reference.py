"""The reference in docs/api/ has every public name, every component of rushkit's own and every record of a stage."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import rushkit
from rushkit import registries
from rushkit.results.base import Record
from rushkit.results.records import Results

API = Path(__file__).parents[2] / "docs" / "api"
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in sorted(API.glob("*.rst")))
MODULES = re.findall(r"^\.\. automodule:: (\S+)$", TEXT, re.MULTILINE)


def described() -> list[str]:
    """The classes and functions that the pages name, each by its whole name."""
    names, module = [], ""
    for directive, name in re.findall(r"^\.\. (currentmodule|autoclass|autofunction):: (\S+)$", TEXT, re.MULTILINE):
        if directive == "currentmodule":
            module = name
        else:
            names.append(name if name.startswith("rushkit.") else f"{module}.{name}")
    return names


def home(thing: object) -> str:
    """The whole name of a class or function where it is defined."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


@pytest.mark.parametrize("name", described())
def test_what_the_reference_names_is_there_with_a_docstring(name):
    module, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(module), attribute).__doc__


@pytest.mark.parametrize("name", sorted(set(rushkit.__all__) - {"__version__"}))
def test_everything_public_is_in_the_reference(name):
    thing = getattr(rushkit, name)
    if isinstance(thing, ModuleType):
        assert thing.__name__ in MODULES
    else:
        assert f"rushkit.{name}" in described() or thing.__module__ in MODULES


# The options of engines are in docs/scaling.md.
@pytest.mark.parametrize(
    "entry",
    [
        entry
        for registry in registries.ALL
        if registry is not registries.engines
        for entry in registry.entries()
        if entry.owner == "rushkit"
    ],
    ids=lambda entry: entry.name,
)
def test_every_component_of_rushkit_is_in_the_reference(entry):
    assert home(entry.load()) in described()


def parts(record: type[Record]) -> set[type[Record]]:
    """A record and the records in its fields, and in theirs."""
    found, annotations = {record}, [field.annotation for field in record.model_fields.values()]
    for annotation in annotations:
        annotations += get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, Record) and annotation is not record:
            found |= parts(annotation)
    return found


@pytest.mark.parametrize("record", get_args(Results), ids=lambda record: record.__name__)
def test_every_record_of_a_stage_is_in_the_reference_with_its_parts(record):
    assert {part.__module__ for part in parts(record)} <= set(MODULES)


@pytest.mark.parametrize("page", sorted(API.glob("*.rst")), ids=lambda page: page.stem)
def test_every_page_of_the_reference_is_in_its_contents(page):
    contents = (API / "index.rst").read_text(encoding="utf-8").partition(".. toctree::")[2].split()
    assert page.stem in contents or page.stem == "index"
