"""The recipe in a run's folder as a plain table, for lists of many runs. Nothing here imports torch."""

from __future__ import annotations

from rushkit.recipe import toml
from rushkit.recipe.schema import with_paper_scale
from rushkit.recipe.toml import Table
from rushkit.run.info import RunInfo
from rushkit.run.names import RECIPE_FILE


def stored_recipe(run: RunInfo) -> Table:
    """Return the resolved recipe of a run, unchecked; empty if it cannot be read."""
    try:
        return toml.loads(toml.read_text(run.path / RECIPE_FILE))
    except (OSError, ValueError, RecursionError):
        return {}


def noise_in(recipe: Table) -> str:
    """Return the noise of a stored recipe in words: "uniform 0.3", "gaussian std 0.25"; empty if it has none."""
    noise = recipe.get("noise")
    if not isinstance(noise, dict) or "name" not in noise:
        return ""
    options = {key: value for key, value in with_paper_scale(noise).items() if key != "name" and value is not None}
    words = [f"{value}" if key == "scale" else f"{key} {value}" for key, value in options.items()]
    return " ".join([str(noise["name"]), *words])


def noise_of_run(run: RunInfo) -> str:
    """Return ``noise_in`` of a run's recipe."""
    return noise_in(stored_recipe(run))
