"""Recognise files that are no state dict by their first bytes or their structure, and say what to do with each."""

from __future__ import annotations

from pathlib import Path

from rushkit.errors import CheckpointError, shell_line
from rushkit.foreign.bounds import ZIP_START, archive_names

# Fields of ONNX's ModelProto (onnx/onnx.proto): the version, the graph, and the largest number of all.
_VERSION, _GRAPH, _LAST_FIELD = 1, 7, 26
_SAVED_MODEL_FIELDS = {1, 2}
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
# Fields that are looked at: a model has some dozens of its own, the rest lies inside them.
_MOST_FIELDS = 1000
_OTHER_FRAMEWORK = (
    "its network must be built in PyTorch, as a backbone of a plugin or a module of your own, and its arrays saved as "
    "that network's state dict; docs/import-export.md has an example"
)


def converted_name(path: Path) -> str:
    """Return the name of the file that a line of Python converts a file to: it must not take the file's own place."""
    return f"{path.stem}-converted.pt"


def refuse_other_kinds(path: Path, data: bytes) -> None:
    """Raise CheckpointError for a file that is known to be of another kind than a state dict, and say which.

    Args:
        path: The file, for the message.
        data: All of it.
    """
    kind = _by_first_bytes(path, data) or _by_archive(path, data) or _by_fields(path, data)
    if kind is not None:
        what, hint = kind
        raise CheckpointError(f"{path} is {what}", hint)


def _by_first_bytes(path: Path, data: bytes) -> tuple[str, str] | None:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights", "download the file itself, not the page about it"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not weights", "fetch the file itself: git lfs pull"
    if data.startswith(b"\x89HDF\r\n\x1a\n"):
        return "an HDF5 file, as Keras writes, and no state dict", _OTHER_FRAMEWORK
    if data.startswith(b"\x93NUMPY"):
        return "one numpy array, and no state dict", "a state dict has a name for each tensor: torch.save(dict, FILE)"
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite graph, and no state dict", _OTHER_FRAMEWORK
    if data.startswith(b"GGUF"):
        return "a GGUF file, of language models", "rushkit takes image classifiers"
    packed = data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"Rar!"))
    if packed or data[257:262] == b"ustar":
        return "a packed archive, not weights", "unpack it, and name the file of weights that is in it"
    return None


def _by_archive(path: Path, data: bytes) -> tuple[str, str] | None:
    if not data.startswith(ZIP_START):
        return None
    names = archive_names(data)
    if any(name.endswith("constants.pkl") for name in names):
        code = f"import torch; torch.save(torch.jit.load({str(path)!r}).state_dict(), {converted_name(path)!r})"
        return "a TorchScript archive, which holds code", (
            f"save its weights alone, where it was written:\n{shell_line('python', '-c', code)}"
        )
    if "model.weights.h5" in names:
        return "a Keras model, and no state dict", _OTHER_FRAMEWORK
    if names and all(name.endswith(".npy") for name in names):
        arrays = f"numpy.load({str(path)!r})"
        code = (
            "import numpy, torch; torch.save({name: torch.from_numpy(array) for name, array in "
            f"{arrays}.items()}}, {converted_name(path)!r})"
        )
        return "a file of numpy arrays, and no state dict", (
            f"if they are a PyTorch network's, under its names:\n{shell_line('python', '-c', code)}"
        )
    if names and not any(name.endswith("data.pkl") for name in names):
        return "a zip archive that torch.save did not write", "unpack it, and name the file of weights that is in it"
    return None


def _by_fields(path: Path, data: bytes) -> tuple[str, str] | None:
    """Recognise the files that are one message of Protocol Buffers."""
    if data[:1] != b"\x08" or not (fields := set(_fields(data))):
        return None
    if {_VERSION, _GRAPH} <= fields and max(fields) <= _LAST_FIELD:
        return (
            "an ONNX graph, and no state dict",
            "import takes the weights of a PyTorch network: the .pt or .safetensors that it was exported from; the "
            f"graph as it is can be measured: {shell_line('--model', f'onnx:{path}')}",
        )
    if fields == _SAVED_MODEL_FIELDS:
        return "a TensorFlow SavedModel, and no state dict", _OTHER_FRAMEWORK
    return None


def _fields(data: bytes) -> list[int]:
    """Return the number of each field of a message; none of data that is no message, or has very many."""
    place = 0
    seen: list[int] = []
    while place < len(data) and len(seen) < _MOST_FIELDS:
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if not number:
            return []
        if kind == _VARINT:
            _, place = _varint(data, place)
        elif kind == _BYTES:
            length, place = _varint(data, place)
            place += length
        else:
            place += _FIXED.get(kind, len(data) + 1)
        seen.append(number)
    return seen if place == len(data) else []


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of at most ten bytes, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    return 0, len(data) + 1
