"""Resolve the model that a verb works on: the run that ``--from`` names, and its recipe with the command's flags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rushkit.cli.given import Measured, put_fronts, resolve_given
from rushkit.errors import UsageError
from rushkit.paths import expand_text

if TYPE_CHECKING:
    from rushkit.recipe.overrides import Override
    from rushkit.recipe.schema import Recipe
    from rushkit.recipe.toml import Given
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker
    from rushkit.setup.given import Purpose


def runs_root(changes: list[str] | None) -> str:
    """Return the folder of runs under flags and environment, before there is a recipe."""
    from rushkit.recipe.load import default_runs_dir
    from rushkit.recipe.overrides import parse_changes

    return expand_text(str(dict(parse_changes(changes or [])).get("system.runs_dir") or default_runs_dir()))


def check_flags(changes: list[str] | None, flags: Iterable[Override] = ()) -> None:
    """Raise UsageError for keys and values that no recipe could take, before a run is looked for."""
    from rushkit.recipe.command_line import check_command_line

    check_command_line(changes or [], flags)


def attack_flags(**keys: Given) -> list[Override]:
    """Return flags that change every attack as changes of the first attack, for checking."""
    return [(f"attack.0.{key}", value, f"--{key}") for key, value in keys.items()]


def open_source(
    spec: str | None, changes: list[str] | None, verbs: str | Sequence[str], speaker: Speaker
) -> Checkpoint:
    """Load the checkpoint that ``--from`` means. Where no run is named, the speaker says which one is used."""
    from rushkit.recipe.registered import REGISTERED, open_registered
    from rushkit.run.source import resolve_from

    source = resolve_from(spec, runs_root(changes), verbs)
    if spec is None and source.run is not None:
        speaker.say(f"from the newest run that fits: {source.run.path}")
    checkpoint = source.load(warn=speaker.warn)
    for altered in open_registered(checkpoint.meta.get(REGISTERED)):
        speaker.warn(altered)
    return checkpoint


def resolve_classifier(
    measured: Measured,
    changes: list[str] | None,
    speaker: Speaker,
    flags: Iterable[Override] = (),
    purpose: Purpose = "data",
) -> tuple[Recipe, Checkpoint]:
    """Load the fine-tuned checkpoint that ``--from`` means, and derive its recipe under ``--set`` and flags.

    Where ``--model`` names a classifier, return that one, and a recipe to measure it by; ``purpose`` is for it alone.
    """
    if measured.model is not None:
        return resolve_given(measured, changes, speaker, list(flags), purpose)
    from rushkit.recipe.load import derive_recipe
    from rushkit.setup.model import recipe_of

    checkpoint = open_source(measured.source, changes, "finetune", speaker)
    stored = recipe_of(checkpoint)
    recipe = derive_recipe(stored, changes or [], flags=flags)
    if recipe.backbone != stored.backbone:
        raise UsageError(
            f"{checkpoint.path} holds a {stored.backbone.name}, and --set cannot make another backbone of it",
            "pre-train and fine-tune the other one, then name its run with --from",
        )
    return put_fronts(measured, recipe, checkpoint, speaker)
