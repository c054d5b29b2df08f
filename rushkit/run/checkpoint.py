"""Checkpoints: named tensors and JSON metadata in one safetensors file, verified by a hash.

The file's metadata has one key, ``rushkit``, whose JSON holds the format version, the caller's metadata and a hash over
that metadata and every tensor's name, type, shape and bytes. Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from rushkit.errors import CheckpointError
from rushkit.files import JSON, plain_json, write_atomic
from rushkit.paths import open_file, read_file, reason

SCHEMA = 1

# How safetensors calls the types that it can hold.
_TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# The format's own limit on its header.
_MAX_HEADER = 100_000_000
_WRITE_SIZE = 1 << 24
# What safetensors and torch raise on headers that parse but make no sense, over the versions of both.
_READ_ERRORS = (
    SafetensorError,
    ArithmeticError,
    AssertionError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
# What of the metadata of a training stage is shown, where it is there.
_TOLD = ("stage", "epoch", "step")
_DAMAGED_HINT = (
    "the file was cut short or altered; use an earlier checkpoint, or resume its run: that finds the last whole one"
)
# What a caller stores beside the tensors: keys of its own, and JSON values.
Meta = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file.

    Attributes:
        tensors: Name to tensor; each has memory of its own.
        meta: The JSON that was stored with them.
        path: The file.
        hash: Hash of the tensors and the metadata, from the file; checkpoints with the same hash are the same.
    """

    tensors: dict[str, torch.Tensor]
    meta: Meta
    path: Path
    hash: str = ""

    def __repr__(self) -> str:
        made = [f"{key} {self.meta[key]}" for key in _TOLD if key in self.meta]
        return f"Checkpoint({', '.join([repr(str(self.path)), *made, f'{len(self.tensors)} tensors'])})"


def save_checkpoint(path: str | Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, JSON]) -> None:
    """Write a checkpoint atomically: a kill or a full disk leaves what was at ``path`` before.

    Args:
        path: The file, in a folder that exists.
        tensors: Name to tensor of any shape, on any device; views and shared memory are written out in full.
        meta: JSON values; finite numbers only.

    Raises:
        CheckpointError: a tensor that the format cannot hold.
        NumericsError: a NaN or an infinity in ``meta``.
        RushkitError: no room or no permission.
    """
    path = Path(path)
    ready = {name: _ready(name, tensor) for name, tensor in tensors.items()}
    # Widest elements first, so that every tensor starts at a multiple of its element size.
    names = sorted(ready, key=lambda name: (-ready[name].element_size(), name))
    stored = plain_json(meta, "meta")
    document = {"schema": SCHEMA, "hash": _content_hash(ready, stored), "meta": stored}
    header: dict[str, JSON] = {"__metadata__": {"rushkit": json.dumps(document)}}
    end = 0
    for name in names:
        tensor = ready[name]
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def chunks() -> Iterator[bytes | memoryview]:
        yield len(text).to_bytes(8, "little")
        yield text
        for name in names:
            data = _bytes(ready[name])
            for offset in range(0, len(data), _WRITE_SIZE):
                yield data[offset : offset + _WRITE_SIZE]

    write_atomic(path, chunks(), 8 + len(text) + end)


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu", verify: bool = True) -> Checkpoint:
    """Read a checkpoint and check it against its hash.

    Args:
        path: The file.
        device: Where the tensors go.
        verify: False skips the hash, not the checks of the format.

    Raises:
        CheckpointError: missing, empty, cut short, not safetensors, not ours, altered, or of a newer rushkit.
    """
    path = Path(path)
    data = _read(path)
    stated, meta = _document(path, _header(path, data))
    try:
        tensors = safetensors.torch.load(data)
    except _READ_ERRORS as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}", _DAMAGED_HINT) from error
    if verify and _content_hash(tensors, meta) != stated:
        raise CheckpointError(f"checkpoint {path} is altered: its content does not match its hash", _DAMAGED_HINT)
    placed = {name: tensor.to(device) for name, tensor in tensors.items()}
    return Checkpoint(placed, meta, path, stated)


def checkpoint_hash(path: str | Path) -> str | None:
    """Return the hash in a checkpoint's header, without reading the tensors; None if the header is not whole."""
    try:
        with open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _MAX_HEADER)))
        return _document(Path(path), header)[0]
    except (OSError, ValueError, RecursionError, CheckpointError, AttributeError):
        return None


def _ready(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor as contiguous memory of the CPU."""
    if tensor.layout is not torch.strided or tensor.dtype not in _TYPE_NAMES or name == "__metadata__":
        kind = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
        raise CheckpointError(f"the tensor {name!r} ({kind}) cannot be stored", "store it as dense floats or integers")
    return tensor.detach().cpu().contiguous()


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _content_hash(tensors: Mapping[str, torch.Tensor], meta: JSON) -> str:
    digest = hashlib.blake2b(json.dumps(meta, sort_keys=True).encode(), digest_size=32)
    for name in sorted(tensors):
        tensor = tensors[name]
        # As JSON, a name cannot run into the type or the bytes that follow it.
        digest.update(json.dumps([name, _TYPE_NAMES.get(tensor.dtype, "?"), list(tensor.shape)]).encode())
        if tensor.numel():
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _read(path: Path) -> bytes:
    try:
        data = read_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no checkpoint {path}", "check the path; `rushkit runs list` shows runs"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {reason(error)}", "a checkpoint is one readable file"
        ) from error
    if not data:
        raise CheckpointError(f"checkpoint {path} is empty", _DAMAGED_HINT)
    return data


def _header(path: Path, data: bytes) -> dict[str, JSON]:
    """Return the safetensors header; the errors tell files that were cut short from foreign ones."""
    foreign = CheckpointError(
        f"{path} is not a safetensors file", "if rushkit wrote it, it is damaged: use the one before it"
    )
    if len(data) < 9:
        raise CheckpointError(f"checkpoint {path} is cut short: {len(data)} bytes", _DAMAGED_HINT)
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or length > _MAX_HEADER:
        raise foreign
    if 8 + length > len(data):
        raise CheckpointError(f"checkpoint {path} is cut short: {len(data)} bytes", _DAMAGED_HINT)
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise foreign from error
    if expected > len(data):
        raise CheckpointError(f"checkpoint {path} is cut short: {len(data)} of {expected} bytes", _DAMAGED_HINT)
    return header


def _document(path: Path, header: dict[str, JSON]) -> tuple[str, Meta]:
    """Return the hash and the caller's metadata under the key ``rushkit``, whose version and form are checked."""
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or "rushkit" not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a rushkit checkpoint",
            "only checkpoints that rushkit wrote can be used",
        )
    malformed = CheckpointError(f"checkpoint {path} is damaged: its metadata is malformed", _DAMAGED_HINT)
    try:
        document: Any = json.loads(metadata["rushkit"])
    except (ValueError, TypeError, RecursionError) as error:
        raise malformed from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise CheckpointError(
            f"checkpoint {path} has format {schema}; this rushkit reads up to {SCHEMA}", "upgrade rushkit"
        )
    if schema != SCHEMA or not isinstance(document.get("hash"), str) or not isinstance(document.get("meta"), dict):
        raise malformed
    return document["hash"], document["meta"]
