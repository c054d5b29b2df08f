"""Apply the flags of a command to the attacks of a recipe: ``--type``, ``--norm``, ``--eps`` and so on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rushkit import registries
from rushkit.errors import UsageError, shell_line, shorten
from rushkit.recipe.draft import Draft
from rushkit.recipe.load import build_recipe
from rushkit.recipe.overrides import Changes, from_changes, override
from rushkit.recipe.radius import eps_words
from rushkit.recipe.schema import Attack, Recipe
from rushkit.recipe.sections import parse_number
from rushkit.recipe.toml import Given, Toml, plain

# Radii of balls of about the size of l-inf 8/255 on images of 32x32 pixels, for messages.
_EXAMPLES = {"linf": "8/255", "l2": "0.5", "l1": "12"}
# The keys that say which images are attacked, and change no attack.
_IMAGES = ("limit", "skip", "split")


def change_attacks(recipe: Recipe, kind: str | None, changes: Changes = (), **values: Given) -> Recipe:
    """Return the recipe with the attacks that ``rushkit attack`` was asked for.

    Args:
        recipe: Its own ``[[attack]]`` tables are the starting point.
        kind: Keep the table of this type, or make one with the first table's norm, eps, samples and split.
        changes: Of these, the ones to ``attack.INDEX`` apply to the tables that are kept.
        **values: Keys for every table; None changes nothing. A list of radii as ``eps`` repeats every table for each
            of them; a list of norms as ``norm``, with as many radii, for each norm with its radius.

    Raises:
        UsageError: a wrong key or value, a radius or a norm that is given twice, norms without a radius each, or
            another norm without its radius.
    """
    balls = list(balls_of(values.pop("norm", None), values.pop("eps", None)))
    radius_given = balls[0]["eps"] is not None
    if len(balls) == 1:
        values |= balls[0]
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
    if len(balls) > 1:
        _repeat(draft, balls)
    changed = build_recipe(draft.table, draft.origins)
    radius_given |= any(key.endswith(".eps") for key, *_ in overrides)
    if "norm" in flags and not radius_given:
        _check_same_norm(attacks, flags["norm"])
    return changed


def several(text: str | None, flag: str) -> str | list[str] | None:
    """Return the value or the values that ``--norm`` or ``--eps`` gives: ``"2/255,4/255"`` -> ["2/255", "4/255"].

    Raises:
        UsageError: one of them is empty.
    """
    if text is None or "," not in text:
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        what, example = ("norm", "linf,l2 --eps 8/255,0.5") if flag == "--norm" else ("radius", "2/255,4/255,8/255")
        raise UsageError(f"{flag} {shorten(text)!r} has an empty {what}", f"for example {flag} {example}")
    return parts


def balls_of(norm: Given, eps: Given) -> Iterator[dict[str, Given]]:
    """Yield the balls that norms and radii stand for, each as the keys ``norm`` and ``eps``.

    One norm, or none, goes with each of several radii. Several norms take one radius each, in their order: the same
    number is another ball in another norm.

    Raises:
        UsageError: a norm or a radius that is given twice, or several norms without one radius each.
    """
    if not isinstance(norm, list):
        radii: list[Given] = [str(radius) for radius in eps] if isinstance(eps, list) and eps else [eps]
        numbers = [_comparable(radius) for radius in radii]
        for place, number in enumerate(numbers):
            if number in numbers[:place]:
                raise UsageError(f"--eps gives {radii[place]} twice", "give each radius once")
        yield from ({"norm": norm, "eps": radius} for radius in radii)
        return
    norms = [str(one) for one in norm]
    example = shell_line("--norm", ",".join(norms), "--eps", ",".join(_EXAMPLES.get(one, "0.5") for one in norms))
    radii = list(eps) if isinstance(eps, list) else [] if eps is None else [eps]
    if twice := next((one for place, one in enumerate(norms) if one in norms[:place]), None):
        radii_in_one = shell_line("--norm", twice, "--eps", "2/255,4/255")
        raise UsageError(f"--norm gives {shorten(twice)} twice", f"for several radii in one norm: {radii_in_one}")
    if len(radii) != len(norms):
        given = "there is 1" if len(radii) == 1 else f"there are {len(radii) or 'none'}"
        raise UsageError(
            f"each of the {len(norms)} norms of --norm needs a radius of its own, and {given}",
            f"in the order of the norms, for example {example}; several radii for each of several norms are tables "
            "[[attack]] of a recipe",
        )
    yield from ({"norm": one, "eps": radius} for one, radius in zip(norms, radii, strict=True))


def _comparable(radius: Given) -> Given:
    """Return the number that a radius says, or what it is if that is none: the recipe's own check says so later."""
    try:
        number: Given = parse_number(radius)
    except ValueError:
        return radius
    return number


def _repeat(draft: Draft, balls: Sequence[Mapping[str, Given]]) -> None:
    """Repeat every attack for each ball."""
    tables = draft.table["attack"]
    assert isinstance(tables, list)
    attacks = [(index, table) for index, table in enumerate(tables) if isinstance(table, dict)]
    origins = {path: origin for path, origin in draft.origins.items() if not path.startswith("attack.")}
    repeated: list[Toml] = []
    for index, table in attacks:
        for ball in balls:
            prefix, number = f"attack.{index}.", len(repeated)
            given = {key: plain(value) for key, value in ball.items() if value is not None}
            repeated.append({**table, **given})
            origins |= {
                f"attack.{number}.{path.removeprefix(prefix)}": origin
                for path, origin in draft.origins.items()
                if path.startswith(prefix)
            }
            origins |= {f"attack.{number}.{key}": f"--{key}" for key in given}
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
