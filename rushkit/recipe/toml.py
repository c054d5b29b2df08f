"""TOML with line numbers on the way in, and the few kinds of values that recipes hold on the way out."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables and arrays of tables -> {"a.b": value, "attack.0.eps": value}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                flat |= flatten(item, f"{path}.{index}.")
        else:
            flat[path] = value
    return flat


def line_numbers(text: str) -> dict[str, int]:
    """Dotted key -> the line (from 1) where a valid TOML text sets it; tables have their header's line."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    pending, start = "", 0
    # Not splitlines, which also splits at characters that may stand inside a string.
    for number, line in enumerate(text.split("\n"), 1):
        if not pending:
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            if stripped.startswith("["):
                prefix = _header(stripped, counts)
                lines.setdefault(prefix, number)
                continue
            start = number
        # A statement may run over several lines; it is whole as soon as it parses on its own.
        pending += line + "\n"
        try:
            statement = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        pending = ""
        for key in flatten(statement):
            path = f"{prefix}.{key}" if prefix else key
            while path and path not in lines:
                lines[path] = start
                path = path.rpartition(".")[0]
    return lines


def _header(line: str, counts: dict[str, int]) -> str:
    """``[a.b]`` -> "a.b"; the second ``[[a]]`` -> "a.1", and ``[a.b]`` behind it -> "a.1.b"."""
    parsed = tomllib.loads(line)
    parts: list[str] = []
    node: Any = parsed
    while isinstance(node, dict) and node:
        key = next(iter(node))
        parts.append(key)
        node = node[key][0] if isinstance(node[key], list) else node[key]
    path = ""
    for depth, part in enumerate(parts, 1):
        path = f"{path}.{part}" if path else part
        if line.startswith("[[") and depth == len(parts):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = f"{path}.{counts[path]}"
    return path


def dumps(table: dict[str, Any]) -> str:
    """A TOML text that ``tomllib`` reads back to the same data. None values are left out."""
    return "\n".join(_table_lines(table, "")).strip() + "\n"


def _table_lines(table: dict[str, Any], prefix: str) -> list[str]:
    plain, nested = [], []
    for key, value in table.items():
        name = _format_key(key)
        if isinstance(value, dict):
            nested += ["", f"[{prefix}{name}]", *_table_lines(value, f"{prefix}{name}.")]
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for item in value:
                nested += ["", f"[[{prefix}{name}]]", *_table_lines(item, f"{prefix}{name}.")]
        elif value is not None:
            plain.append(f"{name} = {format_value(value)}")
    return plain + nested


def format_value(value: Any) -> str:
    """One value as TOML writes it."""
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
