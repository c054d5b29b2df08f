"""Turn the records that documents are made of into pydantic models of what is written of them.

A pydantic record is one already. Of a dataclass every field is written, but of ``Figures`` only what they declare.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model

from rushkit.description import argument_words
from rushkit.results.jsonable import NO_KEY, Figures, Spread, is_left_out, key_of, key_properties, spread_of

# Aliases of ``recipe.toml`` that name themselves, which pydantic cannot follow.
_ALIASES = {"Toml": JsonValue, "Table": dict[str, JsonValue]}
_SECTION = re.compile(r"\n(?:Args|Attributes|Raises|Returns|Yields|Examples?):{1,2}\n")
_MODELS: dict[type, type[BaseModel]] = {}
# The items of a list, in the keys that pydantic leaves out.
_ITEMS = "__all__"


def written(annotation: Any) -> Any:
    """Return a type in which every dataclass is replaced by the model of what is written of it."""
    return _with_classes(annotation, lambda kind: _dataclass_model(kind) if is_dataclass(kind) else kind)


def opening_words(owner: object) -> str:
    """Return what a docstring says before its sections, as one line."""
    text = inspect.cleandoc(getattr(owner, "__doc__", None) or "")
    return _plain(_SECTION.split(f"{text}\n", maxsplit=1)[0])


def key_words(kind: type) -> dict[str, str]:
    """Return what the docstring of a class, and of those above it, says of each attribute."""
    words = argument_words(kind)
    return {name.strip(): _plain(text) for names, text in words.items() for name in names.split(",")}


def _plain(text: str) -> str:
    """Return the text of a docstring on one line, code as Markdown marks it."""
    return " ".join(text.replace("``", "`").split())


@dataclass(frozen=True)
class _Key:
    """A key of an object: the type of its value, what it is, and the options of pydantic's ``Field``."""

    annotation: Any
    words: str | None
    options: Mapping[str, Any] = field(default_factory=dict)


def _dataclass_model(kind: type) -> type[BaseModel]:
    # One for each, or a schema would tell them apart by long names.
    if kind not in _MODELS:
        _MODELS[kind] = _model(kind, _keys(kind))
    return _MODELS[kind]


def _model(kind: type, keys: Mapping[str, _Key]) -> type[BaseModel]:
    # pydantic has names of its own that a key may have, such as ``schema``.
    made: dict[str, Any] = {
        f"key_{place}": (one.annotation, Field(alias=key, description=one.words, **one.options))
        for place, (key, one) in enumerate(keys.items())
    }
    config = ConfigDict(extra="forbid", defer_build=True)
    model: type[BaseModel] = create_model(
        kind.__name__, __config__=config, __doc__=opening_words(kind), __module__=kind.__module__, **made
    )
    return model


def _keys(kind: type) -> dict[str, _Key]:
    """Return the keys that are written of a dataclass: name -> what it holds."""
    hints = get_type_hints(kind, localns=_ALIASES, include_extras=True)
    words, keys = key_words(kind), dict[str, _Key]()
    for one in fields(kind):
        if (how := spread_of(one.metadata)) is not None:
            keys |= _spread_keys(hints[one.name], how)
        elif is_left_out(one.metadata):
            there = tuple(part for part in get_args(hints[one.name]) if part is not NoneType)
            keys[key_of(one)] = _Key(written(Union[there]), words.get(one.name), {"default": None})  # noqa: UP007
        elif not NO_KEY.items() <= one.metadata.items():
            keys[key_of(one)] = _Key(written(hints[one.name]), words.get(one.name))
    if issubclass(kind, Figures):
        for name, getter in key_properties(kind).items():
            hint = get_type_hints(getter, localns=_ALIASES, include_extras=True)["return"]
            keys[name] = _Key(written(hint), opening_words(getter) or None)
    return keys


def _spread_keys(hint: Any, how: Spread) -> dict[str, _Key]:
    """Return the keys of a record that stands among others; where it may be None, they all may be missing."""
    inner = next(part for part in (get_args(hint) or (hint,)) if part is not NoneType)
    keys = _record_keys(inner, how) if issubclass(inner, BaseModel) else _keys(inner)
    optional = {"default": None} if get_args(hint) else {}
    return {key: replace(one, options={**one.options, **optional}) for key, one in keys.items()}


def _record_keys(kind: type[BaseModel], how: Spread) -> dict[str, _Key]:
    """Return the keys of a pydantic record that are taken."""
    words, keys = key_words(kind), dict[str, _Key]()
    for name, one in kind.model_fields.items():
        left_out = how.without.get(name)
        if one.exclude or left_out is True or (how.only is not None and name not in how.only):
            continue
        annotation = _without(one.annotation, left_out)
        if one.metadata:
            annotation = Annotated[annotation, *one.metadata]
        options = {} if one.is_required() else {"default": one.get_default(call_default_factory=True)}
        keys[one.alias or name] = _Key(annotation, one.description or words.get(name), options)
    return keys


def _without(annotation: Any, keys: Any) -> Any:
    """Return a type whose records have lost some keys: those of pydantic's ``exclude``."""
    if not keys:
        return annotation
    inner = keys.get(_ITEMS, keys) if isinstance(keys, Mapping) else keys
    how = Spread(without=inner if isinstance(inner, Mapping) else dict.fromkeys(inner, True))
    return _with_classes(
        annotation, lambda kind: _model(kind, _record_keys(kind, how)) if issubclass(kind, BaseModel) else kind
    )


def _with_classes(annotation: Any, change: Callable[[type], Any]) -> Any:
    """Return a type in which each class is replaced by what ``change`` makes of it."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if not parts:
        return change(annotation) if isinstance(annotation, type) else annotation
    if origin is Annotated:
        return Annotated[_with_classes(parts[0], change), *parts[1:]]
    changed = tuple(_with_classes(part, change) for part in parts)
    if origin in (Union, UnionType):
        return Union[changed]  # noqa: UP007 - of a tuple
    return annotation if changed == parts or origin is None else origin[changed]
