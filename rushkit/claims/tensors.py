"""Tensors inside an artifact, in safetensors' format: every name, type, shape and offset is checked before any use."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from rushkit.claims.problem import ArtifactError
from rushkit.errors import shorten, showable

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
# Of a deep network's thousand tensors with long names.
MOST_HEADER = 1 << 20
_MOST_NAME, _MOST_DIMENSIONS = 300, 8
_AGAIN = "get the artifact again from its author"

# Name -> type and shape.
Shapes = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


def dump_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors in safetensors' format, without metadata."""
    # Cloned, since tied weights may share memory and each is written in full.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data: bytes = safetensors.torch.save(plain)
    return data


def load_tensors(data: bytes, name: str, expected: Shapes | None = None) -> dict[str, Tensor]:
    """Return the tensors of a member, each in memory of its own.

    Args:
        data: The bytes of the member.
        name: What messages call it.
        expected: The tensors that it must hold, and no others; None: any.

    Raises:
        ArtifactError: the header is malformed, tensors overlap or leave gaps, or they are others than expected.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MOST_HEADER, len(data) - 8):
        raise ArtifactError(f"{name} is cut short, or its header is too long", _AGAIN)
    entries = _entries(data[8 : 8 + length], name)
    body, place = memoryview(data)[8 + length :], 0
    tensors: dict[str, Tensor] = {}
    for key, (kind, shape, start, end) in sorted(entries.items(), key=lambda entry: entry[1][2:]):
        size = math.prod(shape) * kind.itemsize
        if start != place or end - start != size or end > len(body):
            raise ArtifactError(
                f"{name}: {shorten(key)!r} does not have the bytes of its shape {_dims(shape)}, or not at its place",
                _AGAIN,
            )
        if expected is not None and expected.get(key) != (kind, shape):
            raise ArtifactError(
                f"{name}: {shorten(key)!r} is {_name_of(kind)} {_dims(shape)}, not {_wanted(expected, key)}", _AGAIN
            )
        tensors[key] = (
            torch.frombuffer(bytearray(body[start:end]) or bytearray(1), dtype=torch.uint8)[:size]
            .view(kind)
            .reshape(shape)
        )
        place = end
    if place != len(body):
        raise ArtifactError(f"{name} has {len(body) - place} bytes that belong to no tensor", _AGAIN)
    if expected is not None and (missing := sorted(set(expected) - set(tensors))):
        raise ArtifactError(f"{name} does not have {', '.join(missing)}", _AGAIN)
    return tensors


def _entries(text: bytes, name: str) -> dict[str, tuple[torch.dtype, tuple[int, ...], int, int]]:
    malformed = ArtifactError(f"{name} has a malformed header", _AGAIN)
    try:
        header = json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise malformed from error
    if not isinstance(header, dict):
        raise malformed
    entries = {}
    for key, entry in header.items():
        if len(key) > _MOST_NAME or showable(key) != key or "\n" in key or key == "__metadata__":
            raise ArtifactError(f"{name} has a tensor with an odd name: {shorten(key)!r}", _AGAIN, "RV17")
        try:
            kind, shape, (start, end) = _TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise malformed from error
        numbers = [*shape, start, end] if isinstance(shape, list) else [None]
        if (
            len(entry) != 3
            or len(shape) > _MOST_DIMENSIONS
            or not all(type(one) is int and 0 <= one < 1 << 40 for one in numbers)
        ):
            raise malformed
        entries[key] = (kind, tuple(shape), start, end)
    return entries


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("two keys of one name")
    return table


def _wanted(expected: Shapes, key: str) -> str:
    if key not in expected:
        return "in an artifact"
    kind, shape = expected[key]
    return f"{_name_of(kind)} {_dims(shape)}"


def _name_of(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _dims(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
