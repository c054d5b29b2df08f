"""Read other people's weights from a .pt or .safetensors file without running any code in it."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from rushkit.errors import CheckpointError, NumericsError, first_few, shell_line, shorten
from rushkit.foreign.bounds import PickledObject, check_bounds
from rushkit.foreign.bystanders import standing_in
from rushkit.foreign.claims import claim_of
from rushkit.foreign.other_kinds import converted_name, refuse_other_kinds
from rushkit.paths import read_file, reason
from rushkit.results.imported import Origin

# What trainers call the part of their file that has the weights; the first one that is there is taken.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module", "teacher")
_WIDE = (torch.float16, torch.bfloat16, torch.float64)
# The pickle protocol in files of torch.save from before they were zip archives.
_TORCH_PROTOCOL = 2
# Containers in one another that are looked into; a dictionary may contain itself.
_MOST_CONTAINERS = 8
# Where AdvCL's fine-tuning keeps the head that it trains, beside the network.
_HEAD_BESIDE = "classifier"
# Tied weights stand in a file once and under several names.
_MOST_NAMES_A_TENSOR = 4
_KEYS_SHOWN = 12


@dataclass(frozen=True)
class ForeignWeights:
    """Weights that rushkit did not train.

    Attributes:
        tensors: Name to tensor, floating-point ones as float32.
        origin: Where they are from, and what was done to get there.
        mean: Mean of each channel, where the origin says it; else empty.
        std: Standard deviation of each channel; see ``mean``.
        beside: Keys that stand in the file beside the state dict, by which some code can be told.
    """

    tensors: dict[str, Tensor]
    origin: Origin
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    beside: frozenset[str] = frozenset()


def read_foreign(path: str | Path) -> ForeignWeights:
    """Read the tensors of a .pt, .pth or .safetensors file.

    Args:
        path: The file; its first bytes say of which kind it is, not its name.

    Raises:
        CheckpointError: no such file, or one that is empty, damaged, no file of weights, or one of pickled objects.
        NumericsError: NaN or infinite weights.
    """
    path = Path(path)
    try:
        data = read_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}", "check the path") from error
    if not data:
        raise CheckpointError(f"{path} is empty", "the download or copy failed: get the file again")
    refuse_other_kinds(path, data)
    digest = hashlib.sha256(data).hexdigest()
    notes: list[str] = []
    beside: dict[str, Any] = {}
    if data[8:9] == b"{":
        stored = _safetensors(path, data)
    else:
        stored = _state_dict(_torch_load(path, data), path, notes, beside)
    _check_sizes(stored, len(data), path)
    tensors, converted = as_float32(stored, str(path))
    origin = Origin(file=str(path), sha256=digest, renamed={}, ignored=[], notes=[*notes, *converted])
    return ForeignWeights(tensors, origin.with_changes(claim=claim_of(beside)), beside=frozenset(beside))


def how_to_convert(path: Path) -> str:
    """Explain how the owner of a file that holds more than tensors can convert it.

    The line keeps the dictionaries of a file with their tensors, numbers and texts, and the state dict of each module.
    """
    kept = (
        "{k: w for k, v in m.items() if (w := keep(v)) is not None} if isinstance(m, dict) else "
        'keep(m.state_dict()) if hasattr(m, "state_dict") else m if torch.is_tensor(m) or type(m) in (int, str) else '
        "float(m) if isinstance(m, float) else None"
    )
    code = (
        f"import torch; keep = lambda m: {kept}; "
        f'm = torch.load({json.dumps(str(path))}, map_location="cpu", weights_only=False); '
        f"torch.save(keep(m), {json.dumps(converted_name(path))})"
    )
    return (
        "such a file can run code when it is opened, so rushkit does not; if you trust it, convert it where it was "
        f"written, with its own packages installed:\n{shell_line('python', '-c', code)}"
    )


def _safetensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    # Which error it is that a damaged header raises depends on the version of safetensors.
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}", "it was cut short or altered: get it again"
        ) from error


def _torch_load(path: Path, data: bytes) -> Any:
    if data[:1] == b"\x80" and data[1:2] > bytes([_TORCH_PROTOCOL]):
        raise CheckpointError(f"{path} is a pickle that torch.save did not write", how_to_convert(path))
    try:
        check_bounds(data, str(path))
        with standing_in():
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except PickledObject as error:
        raise _objects(path, error.name) from error
    # A file that is no archive of torch's can raise nearly anything in its reader.
    except Exception as error:
        text = str(error)
        refused = "Weights only load failed" in text
        # An operand that it does not know is the sign of garbage, unless the file does begin as a pickle does.
        if refused and ("Unsupported operand" not in text or data.startswith(b"\x80")):
            named = re.search(r"GLOBAL ([\w.]+)", text)
            raise _objects(path, named[1] if named else "") from error
        raise CheckpointError(
            f"{path} is neither a whole safetensors file nor a whole file of torch.save ({type(error).__name__})",
            "it is damaged or of another kind: get it again",
        ) from error


def _objects(path: Path, name: str) -> CheckpointError:
    what = f" ({shorten(name)})" if name else ""
    return CheckpointError(f"{path} holds pickled objects beside tensors{what}", how_to_convert(path))


def _state_dict(content: Any, path: Path, notes: list[str], beside: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state dict inside the containers that torch.load returned.

    Sentences on what was skipped are added to ``notes``, what stands beside the containers to ``beside``.
    """
    head: dict[str, Tensor] = {}
    # Each pass adds one sentence.
    while isinstance(content, Mapping) and not _is_state_dict(content) and len(notes) < _MOST_CONTAINERS:
        name = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if name is None:
            break
        for key, value in content.items():
            if isinstance(key, str) and key != name:
                beside.setdefault(key, value)
        head = _head_beside(content)
        others = _keys(key for key in content if key != name and not (head and key == _HEAD_BESIDE))
        notes.append(
            f"the weights are taken from its {name!r}"
            + (f", a head from {_HEAD_BESIDE!r}" if head else "")
            + (f"; not looked at: {others}" if others else "")
        )
        content = content[name]
    if not _is_state_dict(content):
        mapping = isinstance(content, Mapping)
        held = f"a dictionary of {_keys(content) or 'nothing'}" if mapping else f"a {type(content).__name__}"
        raise CheckpointError(
            f"{path} holds {held}, and no state dict",
            f"save the model's state_dict() alone, or under one of: {', '.join(CONTAINERS)}",
        )
    return head | dict(content)


def _head_beside(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the linear layer that a container may have under ``classifier``, its names beginning with that."""
    found = content.get(_HEAD_BESIDE)
    if not isinstance(found, Mapping) or not _is_state_dict(found) or len(found) != 2:
        return {}
    if {name.rpartition(".")[2] for name in found} != {"weight", "bias"}:
        return {}
    return {f"{_HEAD_BESIDE}.{name}": tensor for name, tensor in found.items()}


def _keys(keys: Iterable[Any]) -> str:
    """List the first keys of a dictionary; a key that is not text is named by its type."""
    return first_few([shorten(key) if isinstance(key, str) else f"a {type(key).__name__}" for key in keys], _KEYS_SHOWN)


def _check_sizes(tensors: Mapping[str, Tensor], length: int, path: Path) -> None:
    """Raise CheckpointError for tensors that take far more memory than the file has bytes, as expanded ones do."""
    dense = {name: tensor for name, tensor in tensors.items() if tensor.layout is torch.strided and not tensor.is_meta}
    for name, tensor in dense.items():
        size = max(tensor.nbytes, tensor.untyped_storage().nbytes())
        if size > length:
            raise CheckpointError(
                f"the tensor {shorten(name)!r} of {path} takes {size} bytes, and the file has {length}",
                "save it with tensor.contiguous(), where it was written",
            )
    total = sum(tensor.nbytes for tensor in dense.values())
    if total > _MOST_NAMES_A_TENSOR * length:
        raise CheckpointError(
            f"the tensors of {path} take {total} bytes, and the file has {length}",
            "save each of them once, where they were written",
        )


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def as_float32(tensors: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """Convert floating-point tensors to float32; return the tensors, and sentences on what was converted.

    Raises:
        CheckpointError: a tensor that is not dense real numbers.
        NumericsError: a NaN or an infinity.
    """
    converted: dict[str, int] = {}
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise CheckpointError(
                f"the tensor {shorten(name)!r} of {source} ({kind}) is not dense real numbers", "save it as float32"
            )
        if tensor.dtype in _WIDE:
            converted[kind] = converted.get(kind, 0) + 1
            tensor = tensor.float()
        # Parameters come as such; each gets memory of its own.
        made[name] = tensor.detach().clone()
    broken = [name for name, tensor in made.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        named = first_few([shorten(name) for name in broken])
        raise NumericsError(
            f"{source} has NaN or infinite weights in {named}",
            "the model diverged, or overflowed in half precision: take an earlier checkpoint",
        )
    return made, [f"{count} tensors of {kind} are converted to float32" for kind, count in converted.items()]
