"""Refuse a command line that sets the same thing twice, since one of the two values would be dropped silently."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from typer import Context, Typer
from typer.core import TyperCommand, TyperOption

from rushkit.errors import UsageError

if TYPE_CHECKING:
    from rushkit.recipe.toml import Toml

_CERTIFY = {"norm": "certify.norm", "samples": "certify.samples", "alpha": "certify.alpha"}
# Of every verb that has these flags.
_SYSTEM = {"seed": "system.seed", "device": "system.device"}
_TRAINING = {
    "epochs": "{verb}.epochs",
    "batch_size": "{verb}.batch_size",
    "lr": "{verb}.optimizer.lr",
    "split": "{verb}.split",
    "every": "{verb}.save_every",
    "keep": "{verb}.keep",
    "track": "system.trackers",
}
_BALL = {"norm": "attack.#.norm", "eps": "attack.#.eps"}
_IMAGES = {name: f"(attack|published).#.{name}" for name in ("limit", "skip", "split")}
# Verb -> parameter of its command -> the key of the recipe that it sets; # stands for any index.
SETS: dict[str, dict[str, str]] = {
    "pretrain": _TRAINING,
    "finetune": _TRAINING,
    "evaluate": {name: f"evaluate.{name}" for name in ("samples", "limit", "skip", "split")},
    "attack": _BALL
    | {"kind": "attack.#.type"}
    | {name: f"attack.#.{name}" for name in ("samples", "eot", "effort", "target", "eight_bit", "smallest")}
    | _IMAGES,
    "audit": _BALL | {"samples": "attack.#.samples", "split": "attack.#.split", "skip": "attack.#.skip"},
    "probe": _BALL,
    "predict": _CERTIFY,
    "certify": _CERTIFY
    | {"radius": "certify.radii", "skip": "certify.skip", "limit": "certify.limit", "split": "certify.split"},
}


def keys_of_flags(verb: str) -> dict[str, str]:
    """Return the keys of a recipe that the parameters of a verb's command set, as in ``SETS``."""
    return _SYSTEM | SETS.get(verb, {})


class OnceCommand(TyperCommand):
    """A command that accepts each option with a single value once, and sets each key of the recipe once.

    Raises:
        UsageError: an option is given twice, or ``--set`` gives a key two values, or a key is set by ``--set`` and by
            the flag for it.
    """

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the command line as Typer does, and refuse what Typer would drop."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        self._refuse_repeated(order)
        rest = super().parse_args(ctx, args)
        if changes := ctx.params.get("changes"):
            changed_by = _refuse_contradictions(changes)
            self._refuse_beside_flags(ctx, changed_by)
        return rest

    def _refuse_repeated(self, order: Sequence[object]) -> None:
        for parameter in order:
            # A repeated switch changes nothing, and an argument cannot be repeated.
            if not isinstance(parameter, TyperOption) or parameter.multiple or parameter.is_flag:
                continue
            if (times := order.count(parameter)) > 1:
                flag = parameter.opts[0]
                raise UsageError(f"{flag} is given {times} times", f"it takes one value: leave the other {flag} out")

    def _refuse_beside_flags(self, ctx: Context, changed_by: Mapping[str, str]) -> None:
        verb = str(ctx.command.name)
        for parameter in self.params:
            pattern = keys_of_flags(verb).get(str(parameter.name))
            given = ctx.params.get(str(parameter.name))
            # A flag with a default sets its key even where it is not given. A 0 is given, though it equals False.
            if pattern is None or given is None or given is False or given == []:
                continue
            key = pattern.format(verb=verb).replace(".", r"\.").replace("#", "[0-9]+")
            twice = next((leaf for leaf in changed_by if re.fullmatch(key, leaf)), None)
            if twice is not None:
                flag = parameter.opts[0]
                raise UsageError(
                    f"{flag} sets {twice}, and so does --set {changed_by[twice]}", "say it once: leave that --set out"
                )


def take_once(app: Typer) -> None:
    """Let every command of an app and of its groups be a ``OnceCommand``."""
    for command in app.registered_commands:
        command.cls = OnceCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            take_once(group.typer_instance)


def _refuse_contradictions(changes: list[str]) -> dict[str, str]:
    """Return each key that the changes set, with its change. Raises UsageError if one change undoes another."""
    from rushkit.recipe.overrides import parse_changes
    from rushkit.recipe.schema import section_at

    changed_by: dict[str, str] = {}
    values: dict[str, Toml] = {}
    for (key, value), change in zip(parse_changes(changes), changes, strict=True):
        leaves = dict(_leaves(key, value))
        for leaf, part in leaves.items():
            section, _, name = leaf.rpartition(".")
            model = section_at(section)
            group = model.EXCLUSIVE if model else frozenset()
            rivals = {f"{section}.{rival}" for rival in group} - {leaf} if name in group else set()
            # A table replaces everything that was in it.
            replaced = {known for known in changed_by if known.startswith(f"{key}.")} - {leaf}
            changed = {leaf} if values.get(leaf, part) != part else set()
            if undone := sorted(changed_by.keys() & (rivals | replaced | changed)):
                raise UsageError(
                    f"--set {change} undoes --set {changed_by[undone[0]]}", "say it once: leave one of them out"
                )
        changed_by |= dict.fromkeys(leaves, change)
        values |= leaves
    return changed_by


def _leaves(key: str, value: Toml) -> Iterator[tuple[str, Toml]]:
    """Yield the single keys that a change sets, also those inside a table or an array of tables."""
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        value = {str(index): part for index, part in enumerate(value)}
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(f"{key}.{name}", part)
    else:
        yield key, value
