"""A recipe before validation: plain data with the origin of each value, and what a change to it removes."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.errors import UsageError, first_few, shorten
from rushkit.recipe import toml
from rushkit.recipe.origins import Origins, with_tables
from rushkit.recipe.problems import KEYS_HINT
from rushkit.recipe.schema import Section, section_at
from rushkit.recipe.toml import Table, Toml


@dataclass
class Draft:
    """A recipe that has not been checked yet.

    Attributes:
        table: Its nested tables.
        origins: Where each value comes from.
    """

    table: Table
    origins: Origins

    def get(self, key: str) -> Toml:
        """Return the value at a dotted key, or None."""
        node: Toml = self.table
        for part in key.split("."):
            if isinstance(node, list):
                node = node[int(part)] if part.isdecimal() and int(part) < len(node) else None
            else:
                node = node.get(part) if isinstance(node, dict) else None
        return node

    def set(self, key: str, value: Toml, origin: str) -> None:
        """Set a dotted key; a number in it is an index into an array of tables.

        Another component takes the options of the one before it away, and a key takes those away that exclude it.

        Raises:
            UsageError: a part of the key is a value and no table, or an index that is not there.
        """
        section, _, name = key.rpartition(".")
        old, new = self.get(section), {name: value}
        if isinstance(old, dict) and (lost := _displaced(section, old, new)):
            self._put(section, {option: item for option, item in old.items() if option not in lost}, origin)
            for option in lost:
                self.origins.pop(f"{section}.{option}", None)
            origin += _took_away(section, old, new)
        self._put(key, value, origin)
        self.origins = {path: place for path, place in self.origins.items() if not path.startswith(f"{key}.")}
        leaves = toml.flatten(value) if isinstance(value, dict) else {}
        self.origins |= {key: origin} | {f"{key}.{path}": origin for path in leaves}

    def extended_by(self, over: Draft) -> Draft:
        """Return this draft with another one over it: tables merge, arrays and values replace."""
        merged, origins = _merged(self.table, over.table, ""), dict(over.origins)
        for section, new in over.table.items():
            old, model = self.table.get(section), section_at(section)
            name = f"{section}.{model.NAMED_BY}" if model else ""
            if isinstance(old, dict) and isinstance(new, dict) and name in origins:
                origins[name] += _took_away(section, old, new)
        stays = {path for key in toml.flatten(merged) for path in with_tables(key)}
        return Draft(merged, {key: place for key, place in self.origins.items() if key in stays} | origins)

    def _put(self, key: str, value: Toml, origin: str) -> None:
        """Set a dotted key and nothing else. Tables along the key are copied, since another recipe may share them."""
        *parents, last = key.split(".")
        node: Table | list[Toml] = self.table
        for depth, part in enumerate(parents):
            index = _index(node, key, depth, origin) if isinstance(node, list) else 0
            child = node[index] if isinstance(node, list) else node.get(part, {})
            if not isinstance(child, dict | list):
                raise UsageError(f"{origin}: {'.'.join(parents[: depth + 1])} is a value, not a table", KEYS_HINT)
            inner = child.copy()
            if isinstance(node, list):
                node[index] = inner
            else:
                node[part] = inner
            node = inner
        if isinstance(node, list):
            node[_index(node, key, len(parents), origin)] = value
        else:
            node[last] = value


def _index(items: list[Toml], key: str, depth: int, origin: str) -> int:
    """Return the part of a dotted key at this depth as an index into the items."""
    parts = key.split(".")
    part, hint = parts[depth], KEYS_HINT
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    if not part.isdecimal() and items and isinstance(items[0], dict):
        hint = f"did you mean {'.'.join([*parts[:depth], '0', *parts[depth:]])}?"
    raise UsageError(f"{origin}: {part!r} must be an index below {len(items)}, how many there are", hint)


def _merged(base: Table, over: Table, prefix: str) -> Table:
    merged = dict(base)
    for key, value in over.items():
        old, section = merged.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(value, dict):
            lost = _displaced(section, old, value)
            stays = {name: item for name, item in old.items() if name not in lost}
            merged[key] = _merged(stays, value, f"{section}.")
        else:
            merged[key] = value
    return merged


def _displaced(section: str, old: Table, new: Table) -> set[str]:
    """Return the keys that a section loses when new ones are set: options of another component, and excluded keys."""
    model = section_at(section)
    if model is None:
        return set()
    lost = set(_options_lost(model, old, new))
    if model.EXCLUSIVE & new.keys():
        lost |= (model.EXCLUSIVE & old.keys()) - new.keys()
    return lost


def _took_away(section: str, old: Table, new: Table) -> str:
    """Return a remark on the options that another component removes, to follow the place that names it."""
    model = section_at(section)
    lost = _options_lost(model, old, new) if model else []
    if model is None or not lost:
        return ""
    options = [f"{option} = {shorten(toml.format_value(old[option]))}" for option in lost]
    return f" (which takes away {first_few(options)} of {old[model.NAMED_BY]})"


def _options_lost(model: type[Section], old: Table, new: Table) -> list[str]:
    """Return the options of the old component where the new keys name another component."""
    name = model.NAMED_BY
    if not name or name not in old or name not in new or str(new[name]).casefold() == str(old[name]).casefold():
        return []
    return [option for option in old if option not in model.key_names()]
