"""docs/recipe-keys.md has every key of a recipe and every option of rushkit's own components, each described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from rushkit import registries
from rushkit.recipe import schema
from rushkit.recipe.components import SUPPLIED
from rushkit.registry import factory_parameters

PAGE = (Path(__file__).parents[2] / "docs" / "recipe-keys.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in PAGE.splitlines() if line[:2] == "| "]
SECTIONS = [each for each in vars(schema).values() if isinstance(each, type) and issubclass(each, BaseModel)]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_has_a_description(section):
    for name, field in section.model_fields.items():
        parts = (field.annotation, *getattr(field.annotation, "__args__", ()))
        is_table = any(isinstance(part, type) and issubclass(part, BaseModel) for part in parts)
        assert is_table or field.description, f"{section.__name__}.{name} has no description"


def test_every_row_of_the_page_says_what_is_allowed_and_what_it_means():
    rows = [row for row in ROWS if row[0].startswith("`")]
    assert len(rows) > 100
    for key, _, allowed, words in rows:
        assert allowed, key
        assert words, key


@pytest.mark.parametrize(
    "registry, name, option",
    [
        (registry, entry.name, option)
        for registry in registries.ALL
        # The options of engines stand in a study: docs/scaling.md.
        if registry is not registries.engines
        for entry in registry.entries()
        if entry.owner == "rushkit" and not entry.name.endswith("/*")
        for option in factory_parameters(entry.load(), SUPPLIED.get(registry.kind, ()))
    ],
)
def test_every_option_of_a_shipped_component_is_there(registry, name, option):
    heading = re.search(rf'^With `\w+ = "{name}"`:$(.*?)(?=^With|^##|\Z)', PAGE, re.MULTILINE | re.DOTALL)
    listed = heading[1] if heading else re.search(rf"^- `{name}`: (.*)$", PAGE, re.MULTILINE)[1]
    assert f"`{option}`" in listed or f"`{option} = " in listed
