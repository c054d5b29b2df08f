"""Apply the flags of a command to the attacks of a recipe: ``--type``, ``--norm``, ``--eps`` and so on."""

from __future__ import annotations

from rushkit import registries
from rushkit.errors import UsageError, shorten
from rushkit.recipe.draft import Draft
from rushkit.recipe.load import build_recipe
from rushkit.recipe.overrides import Changes, from_changes, override
from rushkit.recipe.radius import eps_words
from rushkit.recipe.schema import Attack, Recipe
from rushkit.recipe.sections import parse_number
from rushkit.recipe.toml import Given, Toml, plain

# The keys that say which images are attacked, and change no attack.
_IMAGES = ("limit", "skip", "split")


def change_attacks(recipe: Recipe, kind: str | None, changes: Changes = (), **values: Given) -> Recipe:
    """Return the recipe with the attacks that ``rushkit attack`` was asked for.

    Args:
        recipe: Its own ``[[attack]]`` tables are the starting point.
        kind: Keep the table of this type, or make one with the first table's norm, eps, samples and split.
        changes: Of these, the ones to ``attack.INDEX`` apply to the tables that are kept.
        **values: Keys for every table; None changes nothing. A list of radii as ``eps`` repeats every table for each
            of them.

    Raises:
        UsageError: a wrong key or value, a radius that is given twice, or another norm without its radius.
    """
    radii = values.pop("eps", None)
    several = radii if isinstance(radii, list) else []
    if not several:
        values["eps"] = radii
    radius_given = radii is not None
    attacks = recipe.attack
    if kind is not None:
        kind = registries.attacks.written(kind)
        attacks = [next((attack for attack in attacks if attack.type == kind), _like_first(attacks, kind))]
    flags = {key: plain(value) for key, value in values.items() if value is not None}
    origins = dict(recipe.origins) | {f"attack.{i}.{key}": f"--{key}" for i in range(len(attacks)) for key in flags}
    if kind is not None:
        origins["attack.0.type"] = "--type"
    draft = Draft(recipe.resolved() | {"attack": [attack.model_dump() | flags for attack in attacks]}, origins)
    overrides = [change for change in from_changes(changes) if change[0].startswith("attack.")]
    override(draft, overrides)
    if several:
        _repeat(draft, [str(radius) for radius in several])
    changed = build_recipe(draft.table, draft.origins)
    radius_given |= any(key.endswith(".eps") for key, *_ in overrides)
    if "norm" in flags and not radius_given:
        _check_same_norm(attacks, flags["norm"])
    return changed


def radii_of(text: str | None) -> str | list[str] | None:
    """Return the radius or the radii that ``--eps`` gives: ``"2/255,4/255"`` -> ["2/255", "4/255"].

    Raises:
        UsageError: one of them is empty.
    """
    if text is None or "," not in text:
        return text
    radii = [part.strip() for part in text.split(",")]
    if not all(radii):
        raise UsageError(f"--eps {shorten(text)!r} has an empty radius", "for example --eps 2/255,4/255,8/255")
    return radii


def _repeat(draft: Draft, radii: list[str]) -> None:
    """Repeat every attack for each radius.

    Raises:
        UsageError: a radius is given twice.
    """
    numbers = [parse_number(radius) for radius in radii]
    for place, number in enumerate(numbers):
        if number in numbers[:place]:
            raise UsageError(f"--eps gives {radii[place]} twice", "give each radius once")
    tables = draft.table["attack"]
    assert isinstance(tables, list)
    attacks = [(index, table) for index, table in enumerate(tables) if isinstance(table, dict)]
    origins = {path: origin for path, origin in draft.origins.items() if not path.startswith("attack.")}
    repeated: list[Toml] = []
    for index, table in attacks:
        for radius in radii:
            prefix, number = f"attack.{index}.", len(repeated)
            repeated.append({**table, "eps": radius})
            origins |= {
                f"attack.{number}.{path.removeprefix(prefix)}": origin
                for path, origin in draft.origins.items()
                if path.startswith(prefix)
            }
            origins[f"attack.{number}.eps"] = "--eps"
    draft.table["attack"], draft.origins = repeated, origins


def change_published(recipe: Recipe, kind: str | None, changes: Changes = (), **values: Given) -> Recipe:
    """Return the recipe for ``rushkit attack --protocol published``, which runs its attacks as they are written.

    Args:
        recipe: ``--set`` has been applied to it.
        kind: The flag ``--type``.
        changes: ``--set``.
        **values: The other flags, by key; only ``limit``, ``skip`` and ``split`` may be given.

    Raises:
        UsageError: a flag that would change a published attack, or a change to ``[[attack]]``, which does not run.
    """
    flags = {key: plain(value) for key, value in {"type": kind, **values}.items() if value is not None}
    if others := [key for key in flags if key not in _IMAGES]:
        raise UsageError(
            f"--protocol published runs the attacks of the recipe as they are written, and --{others[0]} would change "
            "them",
            f"leave --{others[0]} out, or say which one to change: --set published.0.{others[0]}=...",
        )
    for key, *_ in from_changes(changes):
        if key.partition(".")[0] == "attack":
            raise UsageError(
                f"--set {key}: the attacks of [[attack]] do not run under --protocol published",
                "set keys of published.0, or choose another protocol",
            )
    draft = Draft(recipe.resolved(), dict(recipe.origins))
    for number in range(len(recipe.published)):
        for key, value in flags.items():
            draft.set(f"published.{number}.{key}", value, f"--{key}")
    return build_recipe(draft.table, draft.origins)


def _like_first(attacks: list[Attack], kind: str) -> Attack:
    """Return an attack of another type with the keys of the first attack, but none of its options."""
    shared = attacks[0].model_dump(include=set(Attack.key_names())) if attacks else {}
    return Attack.model_validate(shared | {"type": kind})


def _check_same_norm(attacks: list[Attack], norm: Given) -> None:
    for attack in attacks:
        if attack.norm != norm:
            # The same number is another ball: 8/255 in l2 is next to nothing, and all would seem robust.
            raise UsageError(
                f"--norm {norm} without --eps: the recipe's eps {eps_words(attack.eps)} is a radius in {attack.norm}",
                "give the radius in this norm, for example --norm l2 --eps 0.5",
            )
