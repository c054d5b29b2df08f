"""The recipe in a run's folder as a plain table, for lists of many runs. Nothing here imports torch."""

from __future__ import annotations

import re

from rushkit.recipe import toml
from rushkit.recipe.schema import with_paper_scale
from rushkit.recipe.toml import Table
from rushkit.run.info import RunInfo
from rushkit.run.names import RECIPE_FILE

# The section of a resolved recipe, as it is written: to read all of thousands of recipes takes seconds.
_NOISE = re.compile(r"^\[noise\]\n(?:[^\[\n][^\n]*\n)*", re.MULTILINE)


def stored_recipe(run: RunInfo) -> Table:
    """Return the resolved recipe of a run, unchecked; empty if it cannot be read."""
    try:
        return toml.loads(toml.read_text(run.path / RECIPE_FILE))
    except (OSError, ValueError, RecursionError):
        return {}


def noise_of_run(run: RunInfo) -> str:
    """Return the noise of a run's recipe in words: "uniform 0.3", "gaussian std 0.25"; empty if it cannot be read."""
    try:
        section = _NOISE.search(toml.read_text(run.path / RECIPE_FILE))
        noise = toml.loads(section[0]).get("noise") if section else None
    except (OSError, ValueError, RecursionError):
        return ""
    if not isinstance(noise, dict) or "name" not in noise:
        return ""
    options = {key: value for key, value in with_paper_scale(noise).items() if key != "name" and value is not None}
    words = [f"{value}" if key == "scale" else f"{key} {value}" for key, value in options.items()]
    return " ".join([str(noise["name"]), *words])
