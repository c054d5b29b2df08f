"""Messages about mistakes in a recipe: each with its place and key, and all of them in one error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic_core import ErrorDetails

from rushkit.errors import UsageError, did_you_mean, first_few, shorten
from rushkit.recipe import toml
from rushkit.recipe.keys import keys_ending_in
from rushkit.recipe.origins import at
from rushkit.recipe.schema import section_at

KEYS_HINT = (
    "docs/recipe-keys.md says what each key may be, `rushkit recipe show NAME --resolved --origins` what it is and why"
)

# Errors that one message lists; behind them it says how many there are.
_LISTED = 20

# pydantic's types of errors, in the words of component options.
_MUST = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "list_type": "must be a list",
    "model_type": "must be a table",
    "string_too_short": "must not be empty",
}


class FileError(UsageError):
    """Everything that is wrong with a file of the user's: the message lists the first lines and counts the rest.

    Args:
        what: What kind of file it is.
        lines: What is wrong, each line with its place.
        hint: Where one finds what is right.
    """

    def __init__(self, what: str, lines: Sequence[str], hint: str) -> None:
        self.lines = tuple(lines)
        listed = [f"  {line}" for line in lines[:_LISTED]]
        more = [f"  and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        several = "\n".join([f"the {what} has {len(lines)} errors:", *listed, *more])
        super().__init__(lines[0] if len(lines) == 1 else several, hint)


def recipe_error(lines: Sequence[str]) -> FileError:
    """Return one error that lists the first of the lines and counts the rest."""
    return FileError("recipe", lines, KEYS_HINT)


def error_line(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    """Return one of pydantic's errors as ``file:line: key: what is wrong (got ...); did you mean ...?``."""
    *section, name = map(str, error["loc"])
    if error["type"] == "extra_forbidden":
        model = section_at(".".join(section))
        # Of a table that is not there, the keys in it say what it may be a part of.
        inner = [f"{name}.{leaf}" for leaf in toml.flatten(error["input"])] if isinstance(error["input"], dict) else []
        elsewhere = [key for leaf in inner for key in keys_ending_in(leaf)]
        known = model.key_names() if model else ()
        what = "unknown key" + (_did_you_mean(elsewhere) or nearest_key(name, known, ".".join(section)))
    else:
        what = explain(error)
        if error["type"] in ("model_type", "list_type") and isinstance(error["input"], str):
            # [noise] is a table, and its name was given instead.
            what += "".join(f"; did you mean {key}={error['input']}?" for key in keys_ending_in(name) if not section)
    return at(".".join([*section, name]), what, origins)


def nearest_key(name: str, known: Iterable[str], section: str = "") -> str:
    """Return ``"; did you mean ...?"`` for an unknown key: a key of its own section, or those elsewhere that end in it.

    Args:
        name: The key, without its section.
        known: The keys that the section has.
        section: The section, dotted.
    """
    inside = [key for key in keys_ending_in(name) if section and key.startswith(f"{section}.")]
    near = did_you_mean(name, known, most=1, cutoff=0.6)
    if inside or not near:
        return _did_you_mean(inside or keys_ending_in(name))
    return f"; {near}"


def _did_you_mean(keys: Sequence[str]) -> str:
    return f"; did you mean {first_few(keys, separator=' or ')}?" if keys else ""


def explain(error: ErrorDetails) -> str:
    """Say what is wrong with a value, from one of pydantic's errors: ``must be a number (got 'fast')``."""
    if error["type"] == "missing":
        return "is missing"
    given = shorten(repr(error["input"]))
    message = _MUST.get(error["type"])
    if error["type"] == "too_short":
        least = error["ctx"]["min_length"]
        message = "must not be empty" if least == 1 else f"must have at least {least} items"
    if message is None:
        message = error["msg"].removeprefix("Value error, ").removeprefix("Input ").removesuffix(".")
        message = message.replace("should", "must", 1)
    # A sentence of a validator's own may name the value by itself.
    return message if error["type"] == "value_error" and given in message else f"{message} (got {given})"
