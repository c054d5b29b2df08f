"""Read TOML with line numbers, and write the few kinds of values that recipes hold.

A recipe may be anybody's: what is read is bounded in size, depth and the size of its integers, in time that grows with
the length of the text.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from rushkit.paths import is_unicode, open_file

# A value as TOML has it, and None for a key that is left out.
Toml: TypeAlias = "str | int | float | bool | list[Toml] | dict[str, Toml] | None"
Table: TypeAlias = dict[str, Toml]
# What Python code may give for such a value.
Given: TypeAlias = "str | int | float | bool | Sequence[Given] | Mapping[str, Given] | None"
# The options of a component, by name.
Options: TypeAlias = Mapping[str, Given]

# The longest recipe that ships has 3 kB.
MAX_CHARACTERS = 1 << 16
# Parts of a dotted key and nested brackets together; the schema's own keys go four deep.
MAX_DEPTH = 16

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
# The parts of a text that decide where a statement ends. A string that is never closed reaches to the end, where
# tomllib reports it.
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    | (?P<string>
        \"{3} (?:\\[\s\S] | [^\\])*? (?: \"{3} \"{0,2} | \Z )
      | '{3} [\s\S]*? (?: '{3} '{0,2} | \Z )
      | " (?:\\. | [^"\\\n])* "?
      | ' [^'\n]* '?
    )
    | (?P<other> [^\#"'\r\n]+ | \r?\n | \r )""",
    re.VERBOSE,
)
# What may stand between the parts of one dotted key.
_NOT_IN_KEY = re.compile(r"[^A-Za-z0-9_.\- \t]")


def read_text(path: Path) -> str:
    """Read the text of a TOML file, up to the longest that a recipe may be.

    Raises:
        OSError: the file cannot be read.
        ValueError: not UTF-8, or longer than ``MAX_CHARACTERS``.
    """
    with open_file(path) as file:
        data = file.read(4 * MAX_CHARACTERS + 1)
    # As text files are read: without the mark that some editors put first, and every end of line is "\\n".
    text = data.decode("utf-8-sig").replace("\r\n", "\n")
    _check_length(text)
    return text


def loads(text: str) -> Table:
    """Parse a TOML text from an untrusted source.

    Raises:
        ValueError: not TOML, longer than ``MAX_CHARACTERS``, nested deeper than ``MAX_DEPTH``, or with an integer
            beyond 64 bits.
    """
    _check_length(text)
    # Before tomllib, whose work grows with the square of a key's parts.
    bare = "".join("s" if kind == "string" else part for kind, part in _tokens(text) if kind != "comment")
    if any(part.count(".") >= MAX_DEPTH for part in _NOT_IN_KEY.split(bare)):
        raise _too_deep()
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    # The only other one is Python's own, of thousands of digits.
    except ValueError:
        raise _too_wide() from None
    except RecursionError:
        raise _too_deep() from None
    _check_values(table)
    return table


def _check_length(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"longer than {MAX_CHARACTERS} characters")


def _too_deep() -> ValueError:
    return ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _too_wide() -> ValueError:
    return ValueError("an integer beyond 64 bits")


def _check_values(table: Table) -> None:
    waiting: list[tuple[Toml, int]] = [(table, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                raise _too_deep()
            items = value.values() if isinstance(value, dict) else value
            waiting += ((item, depth + 1) for item in items)
        elif what := unstorable(value):
            raise ValueError(what)


def unstorable(value: object) -> str:
    """Say why a value, or one in a list, cannot be written as TOML; empty if it can."""
    if isinstance(value, list | tuple):
        return next(filter(None, map(unstorable, value)), "")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "an integer beyond 64 bits"
    if isinstance(value, str) and not is_unicode(value):
        return f"no text in UTF-8: {value!r}"
    return ""


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and text of each token: comment, string or other; a line's end is a token of its own."""
    for match in _TOKEN.finditer(text):
        yield match.lastgroup or "other", match[0]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line (from 1) at which each statement of a valid TOML text begins, and the statement.

    A statement ends with the first line that ends outside of strings and brackets.
    """
    number, start, depth = 1, 1, 0
    parts: list[str] = []
    for kind, part in (*_tokens(text), ("other", "\n")):
        if kind == "other":
            depth += part.count("[") + part.count("{") - part.count("]") - part.count("}")
        if kind == "other" and part.endswith("\n") and depth <= 0:
            statement = "".join(parts)
            if statement.strip():
                yield start, statement
            parts, start = [], number + 1
        elif kind != "comment":
            parts.append(part)
        number += part.count("\n")


def plain(value: Given) -> Toml:
    """Return the value with its sequences as lists and its mappings as dictionaries, as TOML reads them."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    return [plain(item) for item in value] if isinstance(value, Sequence) else value


def flatten(table: Table, prefix: str = "") -> Table:
    """Nested tables and arrays of tables -> {"a.b": value, "attack.0.eps": value}."""
    flat: Table = {}
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{path}.")
        elif tables := tables_in(value):
            for index, item in enumerate(tables):
                flat |= flatten(item, f"{path}.{index}.")
        else:
            flat[path] = value
    return flat


def tables_in(value: Toml) -> list[Table]:
    """Return the tables of an array of tables; an empty list for any other value."""
    if not isinstance(value, list):
        return []
    tables = [item for item in value if isinstance(item, dict)]
    return tables if len(tables) == len(value) else []


def line_numbers(text: str) -> dict[str, int]:
    """Map each dotted key to the line (from 1) where a valid TOML text sets it; a table has its header's line."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, statement in _statements(text):
        if statement.lstrip().startswith("["):
            prefix = _header(statement.strip(), counts)
            lines.setdefault(prefix, number)
            continue
        for key in flatten(tomllib.loads(statement)):
            path = f"{prefix}.{key}" if prefix else key
            while path and path not in lines:
                lines[path] = number
                path = path.rpartition(".")[0]
    return lines


def _header(line: str, counts: dict[str, int]) -> str:
    """``[a.b]`` -> "a.b"; the second ``[[a]]`` -> "a.1", and ``[a.b]`` behind it -> "a.1.b"."""
    parts: list[str] = []
    node: Toml = tomllib.loads(line)
    while isinstance(node, dict) and node:
        key, inner = next(iter(node.items()))
        parts.append(key)
        node = inner[0] if isinstance(inner, list) else inner
    path = ""
    for depth, part in enumerate(parts, 1):
        path = f"{path}.{part}" if path else part
        if line.startswith("[[") and depth == len(parts):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = f"{path}.{counts[path]}"
    return path


def dumps(table: Table) -> str:
    """Write a TOML text that ``tomllib`` reads back to the same data. None values are left out."""
    return "\n".join(_table_lines(table, "")).strip() + "\n"


def _table_lines(table: Table, prefix: str) -> list[str]:
    plain: list[str] = []
    nested: list[str] = []
    for key, value in table.items():
        name = _format_key(key)
        if isinstance(value, dict):
            nested += ["", f"[{prefix}{name}]", *_table_lines(value, f"{prefix}{name}.")]
        elif tables := tables_in(value):
            for item in tables:
                nested += ["", f"[[{prefix}{name}]]", *_table_lines(item, f"{prefix}{name}.")]
        elif value is not None:
            plain.append(f"{name} = {format_value(value)}")
    return plain + nested


def format_value(value: Toml) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # repr keeps every digit; "1e-05" is a float in TOML as well.
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_format_key(key)} = {format_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, str):
        # JSON's escapes are valid TOML, but for DEL, which JSON leaves raw.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _format_key(key: str) -> str:
    return key if _BARE_KEY.match(key) else format_value(key)
