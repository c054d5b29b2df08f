#!/usr/bin/env python3
"""Write the pages that follow from the code: docs/commands.md and docs/recipe-keys.md.

Run it after changing a command, an option or a recipe key; a test fails while the pages differ from what it writes.
"""

from __future__ import annotations

import html
import inspect
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from rushkit.recipe import toml
from rushkit.recipe.load import COMPONENT_KEYS
from rushkit.recipe.schema import Recipe

HERE = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/generate.py; change the code, then run it. -->\n\n"


def commands() -> str:
    """Every command with its options, as Typer documents them."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "commands.md"
        typer = [sys.executable, "-m", "typer", "rushkit.cli.app", "utils", "docs", "--name", "rushkit"]
        subprocess.run([*typer, "--title", "Commands", "--output", str(page)], check=True, capture_output=True)
        return NOTE + html.unescape(page.read_text(encoding="utf-8"))


def recipe_keys() -> str:
    """Every key of a recipe with its default."""
    lines = ["# Recipe keys", "", "Defaults are what a recipe has that says nothing. `required` has none.", ""]
    for name, field in Recipe.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            continue
        header = f"[[{name}]]" if field.annotation is not section else f"[{name}]"
        default = field.default if isinstance(field.default, BaseModel) else None
        lines += [f"## `{header}`", "", inspect.cleandoc(section.__doc__ or ""), ""]
        if name in COMPONENT_KEYS:
            lines += [f"Takes the options of the component that `{COMPONENT_KEYS[name]}` names, too.", ""]
        lines += ["| key | default | |", "|---|---|---|", *_rows(section, default, ""), ""]
    return NOTE + "\n".join(lines)


def _rows(section: type[BaseModel], default: BaseModel | None, prefix: str) -> list[str]:
    rows = []
    for name, field in section.model_fields.items():
        value = getattr(default, name) if default is not None else field.get_default(call_default_factory=True)
        nested = _section(field.annotation)
        if nested is not None:
            rows += _rows(nested, value if isinstance(value, BaseModel) else None, f"{prefix}{name}.")
            continue
        shown = "required" if value is PydanticUndefined else f"`{toml.format_value(value)}`"
        rows.append(f"| `{prefix}{name}` | {shown} | {field.description or ''} |")
    return rows


def _section(annotation: object) -> type[BaseModel] | None:
    """The model behind a field that is a table or an array of tables."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


PAGES = {"commands.md": commands, "recipe-keys.md": recipe_keys}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (HERE / page).write_text(write(), encoding="utf-8")
