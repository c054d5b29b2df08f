"""JSON that has one form for one value, so that it can be hashed: sorted keys, no spaces, and floats as hex.

A float is ``{"hex": "0x1.0101010101010p-5"}``: decimal text would leave its last bits to whoever prints it.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from rushkit.files import JSON

_HEX = "hex"
# Integers are those of 64 bits.
_MOST_DIGITS = 19


def encode(value: JSON) -> bytes:
    """Return the canonical JSON of a value, in UTF-8.

    Raises:
        ValueError: a NaN or an infinity, or a table that looks like a float.
    """
    text = json.dumps(_with_hex(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def decode(data: bytes) -> JSON:
    """Return the value of a canonical JSON text.

    Raises:
        ValueError: it is no JSON, or not in its canonical form.
    """
    try:
        value: JSON = json.loads(data, object_hook=_float_or_table, parse_float=_no_float, parse_int=_whole)
        canonical = encode(value) == data
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it has half of a character") from error
    if not canonical:
        raise ValueError("it is not in its canonical form")
    return value


def digest(*parts: JSON) -> str:
    """Return the SHA-256 of the canonical JSON of a list of parts, as 64 hex digits."""
    return hashlib.sha256(encode(list(parts))).hexdigest()


def _with_hex(value: JSON) -> JSON:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        return {_HEX: value.hex()}
    if isinstance(value, list):
        return [_with_hex(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {_HEX}:
            raise ValueError(f"a table whose only key is {_HEX!r} reads as a float")
        return {key: _with_hex(item) for key, item in value.items()}
    return value


def _float_or_table(table: dict[str, Any]) -> JSON:
    if set(table) != {_HEX}:
        return table
    text = table[_HEX]
    if not isinstance(text, str):
        raise ValueError("a float is not written in hex")
    try:
        return float.fromhex(text)
    except OverflowError as error:
        raise ValueError("a float is too large") from error


def _no_float(text: str) -> float:
    raise ValueError("a float is written in decimals")


def _whole(text: str) -> int:
    if len(text.removeprefix("-")) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)
