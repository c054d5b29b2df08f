"""From a recipe's name and the user's changes to a checked ``Recipe``: extend, override, explain.

Precedence: flag (``--set``) over environment over file over default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from rushkit import registries
from rushkit.errors import UsageError, did_you_mean, first_few, shorten
from rushkit.paths import reason
from rushkit.recipe import toml
from rushkit.recipe.components import COMPONENT_KEYS, component_lines
from rushkit.recipe.find import available, find_recipe
from rushkit.recipe.problems import KEYS_HINT, at, explain, recipe_error
from rushkit.recipe.radius import eps_words
from rushkit.recipe.schema import Attack, Recipe

# A key, its value, and where the value came from.
Override = tuple[str, Any, str]

ENVIRONMENT = {
    "RUSHKIT_DATA": "system.data_dir",
    "RUSHKIT_RUNS": "system.runs_dir",
    "RUSHKIT_DEVICE": "system.device",
    "RUSHKIT_PRECISION": "system.precision",
}

# Files that one recipe may be made of by ``extends``.
_LONGEST_CHAIN = 16

# Keys of which a component takes one: setting it takes the other away.
EXCLUSIVE = {"noise": frozenset({"scale", "std"})}


def load_recipe(
    name: str,
    changes: Sequence[str] | Mapping[str, Any] = (),
    environment: Mapping[str, str] | None = None,
    components: bool = False,
) -> Recipe:
    """Load a recipe with everything that overrides it.

    Args:
        name: A recipe's name or the path of a TOML file.
        changes: ``["pretrain.epochs=1"]`` as on the command line, or {"pretrain.epochs": 1}.
        environment: Stands in for ``os.environ``.
        components: Check the components' own options, too, which imports the components, and so torch.

    Returns:
        The checked recipe; its ``origins`` say where each value came from.

    Raises:
        UsageError: with every error at once, each with file and line.
    """
    table, origins = _read_chain(find_recipe(name), ())
    table.setdefault("name", Path(name).name.removesuffix(".toml"))
    overrides = [*_from_environment(environment), *_from_flags(changes)]
    return build_recipe(*_override(table, origins, overrides), components)


def default_runs_dir() -> str:
    """Where runs lie unless told otherwise: ``$RUSHKIT_RUNS``, else ``runs`` in the working folder."""
    return os.environ.get("RUSHKIT_RUNS") or "runs"


def read_recipe(text: str, origin: str) -> Recipe:
    """A resolved recipe back from the TOML text of a run folder or a checkpoint."""
    table = _parse(text, origin)
    return build_recipe(table, _places(text, origin))


def derive_recipe(
    recipe: Recipe,
    changes: Sequence[str] | Mapping[str, Any] = (),
    environment: Mapping[str, str] | None = None,
    system: Iterable[str] = ("seed",),
    flags: Iterable[Override] = (),
) -> Recipe:
    """The recipe of an earlier run for a new command, on this machine and under this command's flags.

    Where data and runs lie and what computes is this machine's business: of ``[system]`` only the seed is inherited,
    or the keys that ``system`` names. ``flags`` are the command's own, such as ``("certify.alpha", 0.01, "--alpha")``;
    one without a value was not given.
    """
    table, origins = recipe.resolved(), dict(recipe.origins)
    table["system"] = {key: table["system"][key] for key in system}
    kept = {f"system.{key}" for key in table["system"]}
    origins = {key: origin for key, origin in origins.items() if not key.startswith("system.") or key in kept}
    given = [flag for flag in flags if flag[1] is not None]
    return build_recipe(*_override(table, origins, [*_from_environment(environment), *_from_flags(changes), *given]))


def transfer_recipe(source: Recipe, target: str, image_size: int) -> Recipe:
    """The source's model on a target's data: ``finetune --from SOURCE --to TARGET``.

    A recipe of the target's name gives data, fine-tuning, evaluation and attacks; a data set of that name gives the
    data alone. Backbone, projector and noise stay the source's, and so does the image size that the encoder has seen.

    Raises:
        UsageError: neither a recipe nor a data set has this name.
    """
    table = source.resolved()
    if target in available() or target.endswith(".toml"):
        other = load_recipe(target)
        resolved, origins, name = other.resolved(), dict(other.origins), other.name
        for section in ("data", "finetune", "evaluate", "attack"):
            table[section] = resolved[section]
    elif target in registries.datasets:
        table["data"], origins, name = {"name": target}, {}, target
    else:
        known = sorted({*available(), *registries.datasets.names()})
        hint = did_you_mean(target, known, cutoff=0.4) or "see `rushkit recipe list` and `rushkit data list`"
        raise UsageError(f"{shorten(target)!r} is neither a recipe nor a data set", hint)
    table["data"]["image_size"] = image_size
    table["name"] = f"{source.name}-to-{name}"
    return build_recipe(table, origins)


def change_attacks(
    recipe: Recipe, kind: str | None, changes: Sequence[str] | Mapping[str, Any] = (), **values: Any
) -> Recipe:
    """The recipe with the attacks that ``rushkit attack`` was asked for.

    Args:
        recipe: Its own ``[[attack]]`` tables are the starting point.
        kind: Keep the table of this type, or make one with the first table's norm, eps, samples and split.
        changes: Of these, the ones to ``attack.INDEX`` apply to the tables that are kept.
        **values: Keys for every table; None changes nothing.
    """
    table, sections = recipe.resolved(), recipe.resolved()["attack"]
    if kind is not None:
        shared = {key: value for key, value in (sections[0] if sections else {}).items() if key in Attack.model_fields}
        sections = [next((part for part in sections if part["type"] == kind), shared | {"type": kind})]
    given = {key: value for key, value in values.items() if value is not None}
    table["attack"] = [part | given for part in sections]
    origins = dict(recipe.origins) | {f"attack.{i}.{key}": f"--{key}" for i in range(len(sections)) for key in given}
    origins |= {"attack.0.type": "--type"} if kind is not None else {}
    flags = [change for change in _from_flags(changes) if change[0].startswith("attack.")]
    changed = build_recipe(*_override(table, origins, flags))
    if "norm" in given and "eps" not in given and not any(key.endswith(".eps") for key, *_ in flags):
        for part in sections:
            if part["norm"] != given["norm"]:
                # The same number is another ball: 8/255 in l2 is next to nothing, and all would seem robust.
                raise UsageError(
                    f"--norm {given['norm']} without --eps: the recipe's eps {eps_words(part['eps'])} is a radius in "
                    f"{part['norm']}",
                    "give the radius in this norm, for example --norm l2 --eps 0.5",
                )
    return changed


def build_recipe(table: dict[str, Any], origins: Mapping[str, str] | None = None, components: bool = False) -> Recipe:
    """Validate plain data, with ``components`` their options as well. Raises UsageError with every error at once."""
    origins = dict(origins or {})
    # A noise table without options means the paper's scale only where no other noise is named.
    noise = table.get("noise")
    if isinstance(noise, dict) and noise.get("name", "uniform") == "uniform" and not {"scale", "std"} & noise.keys():
        table = table | {"noise": noise | {"scale": 0.3}}
    lines = [at(key, what, origins) for key, value in toml.flatten(table).items() if (what := toml.unstorable(value))]
    recipe = None
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        lines += [_explain(item, origins) for item in error.errors(include_url=False)]
    if components:
        lines += component_lines(table, origins)
    if recipe is None or lines:
        raise recipe_error(lines)
    recipe._origins.update(origins)
    return recipe


def parse_changes(changes: Sequence[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    """``a.b=v`` split at the first ``=``; v read as TOML, else taken as a text."""
    if isinstance(changes, Mapping):
        return list(changes.items())
    parsed: list[tuple[str, Any]] = []
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals or not key or not all(key.split(".")):
            raise UsageError(f"--set {shorten(change)!r} is not KEY=VALUE", "for example --set pretrain.epochs=100")
        if key.count(".") >= toml.MAX_DEPTH:
            raise UsageError(f"--set {shorten(key)!r} goes deeper than any key of a recipe", KEYS_HINT)
        try:
            read = toml.loads(f"value = {text}")
        except ValueError:
            read = {}
        value = read.get("value")
        # A date, or lines beyond the first: more than a value of a recipe.
        plain = isinstance(value, bool | int | float | str | list | dict) and len(read) == 1
        parsed.append((key, value if plain else text.strip()))
    return parsed


def get_key(table: dict[str, Any], key: str) -> Any:
    """The value at a dotted key, or None."""
    node: Any = table
    for part in key.split("."):
        if isinstance(node, list):
            node = node[int(part)] if part.isdecimal() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return node


def set_key(table: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set a dotted key in nested data in place; a number in the path is an index into an array of tables."""
    node: Any = table
    *parents, last = key.split(".")
    for depth, part in enumerate(parents, 1):
        place: Any = _index(node, key, depth - 1, origin) if isinstance(node, list) else part
        child = node[place] if isinstance(node, list) else node.get(place, {})
        if not isinstance(child, dict | list):
            raise UsageError(f"{origin}: {'.'.join(parents[:depth])} is a value, not a table", KEYS_HINT)
        # Nested data may be shared with the recipe that this one extends.
        node[place] = child.copy()
        node = node[place]
    if isinstance(node, list):
        node[_index(node, key, len(parents), origin)] = value
    else:
        node[last] = value


def _index(items: list, key: str, depth: int, origin: str) -> int:
    """The part of a dotted key at this depth, as the index of one of the items there."""
    parts = key.split(".")
    part, hint = parts[depth], KEYS_HINT
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    if not part.isdecimal() and items and isinstance(items[0], dict):
        hint = f"did you mean {'.'.join([*parts[:depth], '0', *parts[depth:]])}?"
    raise UsageError(f"{origin}: {part!r} must be an index below {len(items)}, how many there are", hint)


def _from_environment(environment: Mapping[str, str] | None) -> list[Override]:
    environment = os.environ if environment is None else environment
    return [(key, environment[word], word) for word, key in ENVIRONMENT.items() if environment.get(word)]


def _from_flags(changes: Sequence[str] | Mapping[str, Any]) -> list[Override]:
    return [(key, value, f"--set {key}") for key, value in parse_changes(changes)]


def _override(
    table: dict[str, Any], origins: dict[str, str], overrides: Iterable[Override]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Set each (key, value, origin). Another component first: it takes the options of the one before it away."""
    ordered = sorted(overrides, key=lambda override: not _names_component(override[0]))
    for key, value, origin in ordered:
        section = key.rpartition(".")[0]
        if _names_component(key):
            part = get_key(table, section)
            if isinstance(part, dict) and part.get(key.rpartition(".")[2], value) != value:
                kept = {name: item for name, item in part.items() if name in _fields(section.split("."))}
                set_key(table, section, kept, origin)
                gone = {f"{section}.{name}" for name in part.keys() - kept.keys()}
                origins = {path: old for path, old in origins.items() if path not in gone}
                origin += _took_away(part, key)
        rivals, part = _rivals(section, key.rpartition(".")[2]), get_key(table, section)
        if rivals and isinstance(part, dict):
            set_key(table, section, {name: item for name, item in part.items() if name not in rivals}, origin)
        set_key(table, key, value, origin)
        origins = {path: old for path, old in origins.items() if not path.startswith(f"{key}.")}
        origins |= {f"{key}.{path}" if path else key: origin for path in _leaves(value)}
    return table, origins


def _names_component(key: str) -> bool:
    section, _, last = key.rpartition(".")
    return last == COMPONENT_KEYS.get(section.partition(".")[0], "")


def _took_away(part: Mapping[str, Any], key: str) -> str:
    """What naming another component by this key took from its section, to be said behind the place that names it."""
    section, _, name = key.rpartition(".")
    fields = _fields(section.split("."))
    lost = [f"{option} = {shorten(toml.format_value(part[option]))}" for option in part if option not in fields]
    return f" (which takes away {first_few(lost)} of {part.get(name, 'the default')})" if lost else ""


def _rivals(section: str, key: str) -> frozenset[str]:
    """The keys that a key takes away."""
    group = EXCLUSIVE.get(section, frozenset())
    return group - {key} if key in group else frozenset()


def _read_chain(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """A file merged over what it extends: tables merge, arrays and values replace."""
    if path.resolve() in seen:
        names = " -> ".join(step.name for step in (*seen, path))
        raise UsageError(
            f"recipes extend each other in a circle: {names}",
            f'take out one `extends`, or extend rushkit\'s own with "rushkit/{path.stem}"',
        )
    if len(seen) == _LONGEST_CHAIN:
        raise UsageError(
            f"{path} is the recipe number {len(seen) + 1} that is extended, one by another",
            f"at most {_LONGEST_CHAIN} recipes make one: write some of them together",
        )
    try:
        text = toml.read_text(path)
    except (OSError, ValueError) as error:
        hint = f"it must be a text file in UTF-8, of at most {toml.MAX_CHARACTERS} characters"
        raise UsageError(f"the recipe {path} cannot be read: {reason(error)}", hint) from error
    table = _parse(text, str(path))
    origins = _places(text, str(path))
    parent = table.pop("extends", None)
    extends = origins.pop("extends", str(path))
    if parent is None:
        return table, origins
    if not isinstance(parent, str):
        raise UsageError(
            f"{extends}: extends: must be the name of one recipe (got {shorten(repr(parent))})",
            'for example extends = "cifar10"',
        )
    base, base_origins = _read_chain(find_recipe(parent, path.parent), (*seen, path.resolve()))
    # A recipe is called by its own name or its file's, never by that of the one it extends.
    base.pop("name", None)
    base_origins.pop("name", None)
    merged = _merge(base, table)
    for section, name in COMPONENT_KEYS.items():
        named, old = f"{section}.{name}", base.get(section)
        if named in origins and isinstance(old, dict) and get_key(merged, named) != old.get(name):
            origins[named] += _took_away(old, named)
    kept = {path for key in toml.flatten(merged) for path in _with_tables(key)}
    base_origins = {key: origin for key, origin in base_origins.items() if key in kept}
    return merged, base_origins | origins


def _with_tables(key: str) -> Iterator[str]:
    """A dotted key and the tables around it, up to the whole, whose key is empty."""
    while key:
        yield key
        key = key.rpartition(".")[0]
    yield ""


def _places(text: str, origin: str) -> dict[str, str]:
    """Dotted key -> file and line; the whole, whose key is empty, -> the file."""
    return {"": origin} | {key: f"{origin}:{line}" for key, line in toml.line_numbers(text).items()}


def _parse(text: str, origin: str) -> dict[str, Any]:
    try:
        return toml.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{origin} is not a valid recipe: {error}", "`rushkit recipe show cifar10` shows one"
        ) from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            name = COMPONENT_KEYS.get(key, "")
            if name in value and value[name] != old.get(name, value[name]):
                # Another component: the options of the one before it do not fit.
                old = {field: item for field, item in old.items() if field in _fields([key])}
            rivals = frozenset().union(*(_rivals(key, name) for name in value))
            old = {field: item for field, item in old.items() if field not in rivals}
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _explain(error: Any, origins: Mapping[str, str]) -> str:
    """One pydantic error as ``file:line: key: what is wrong (got ...); did you mean ...?``."""
    path = [str(part) for part in error["loc"]]
    key, what = ".".join(path), "unknown key"
    if error["type"] == "extra_forbidden":
        near = did_you_mean(path[-1], _fields(path[:-1]), most=1)
        what += f"; {near}" if near else ""
    else:
        what = explain(error)
    return at(key, what, origins)


def _fields(path: Iterable[str]) -> list[str]:
    """The known keys of a section."""
    model: Any = Recipe
    for part in path:
        if part.isdecimal():
            continue
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        arguments = getattr(annotation, "__args__", ())
        model = arguments[0] if arguments else annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _leaves(value: Any) -> Iterator[str]:
    yield ""
    if isinstance(value, dict):
        yield from toml.flatten(value)
