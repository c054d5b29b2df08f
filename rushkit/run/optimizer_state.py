"""An optimizer's state as named tensors and JSON, so that a checkpoint can hold it without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import JsonValue

from rushkit.errors import CheckpointError
from rushkit.files import JSON
from rushkit.results.base import Record

_PREFIX = "optimizer"
# What torch knows of a parameter, or of a group of them: tensors and settings by name.
Values = dict[str, Any]


class _Stored(Record):
    """The part of an optimizer's state that a checkpoint stores as JSON."""

    kind: str
    state: dict[str, dict[str, JsonValue]]
    groups: list[dict[str, JsonValue]]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, JSON]]:
    """Return the state as tensors (``optimizer.state.INDEX.NAME``) and JSON (everything that is no tensor).

    The tensors are the optimizer's own, not copies: store them before the next step.
    """
    saved = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    state = {
        str(index): _split(values, f"{_PREFIX}.state.{index}", tensors) for index, values in saved["state"].items()
    }
    groups = [_split(group, f"{_PREFIX}.group.{index}", tensors) for index, group in enumerate(saved["param_groups"])]
    return tensors, {"kind": type(optimizer).__name__, "state": state, "groups": groups}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], saved: Mapping[str, JSON]
) -> None:
    """Put a state from ``optimizer_tensors`` back, exactly; other tensors among ``tensors`` are ignored.

    Raises:
        CheckpointError: the state belongs to another optimizer or other parameters.
    """
    kind = type(optimizer).__name__
    fix = "resume with the recipe that the run was started with"
    try:
        stored = _Stored.model_validate(saved)
        if stored.kind != kind:
            raise CheckpointError(f"the checkpoint holds the state of {stored.kind}, not of {kind}", fix)
        current = optimizer.state_dict()["param_groups"]
        groups = [_joined(group, f"{_PREFIX}.group.{index}", tensors) for index, group in enumerate(stored.groups)]
        for group, now in zip(groups, current, strict=True):
            # JSON has no tuples; the optimizer's own group says where one belongs.
            group.update({key: tuple(group[key]) for key, value in now.items() if isinstance(value, tuple)})
        state = {
            int(index): _joined(values, f"{_PREFIX}.state.{index}", tensors) for index, values in stored.state.items()
        }
        _check_shapes(optimizer, state)
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        _lay_out_as_parameters(optimizer)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the stored state of {kind} does not fit this one: {error}", fix) from error


def _split(values: Values, prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, JSON]:
    """Move tensors into ``tensors``; in their place the JSON has ``{"tensor": name}``."""
    rest: dict[str, JSON] = {}
    for key, value in values.items():
        if isinstance(value, torch.Tensor):
            tensors[f"{prefix}.{key}"] = value
            rest[key] = {"tensor": f"{prefix}.{key}"}
        else:
            rest[key] = value
    return rest


def _joined(values: Mapping[str, JsonValue], prefix: str, tensors: Mapping[str, torch.Tensor]) -> Values:
    # Cloned: the optimizer updates its state in place, and the checkpoint's tensors are not its to change.
    return {
        key: tensors[f"{prefix}.{key}"].clone() if isinstance(value, dict) and "tensor" in value else value
        for key, value in values.items()
    }


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give each buffer the strides of its parameter: fused kernels walk through both as flat memory."""
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _check_shapes(optimizer: torch.optim.Optimizer, state: Mapping[int, Values]) -> None:
    """Refuse a buffer that is neither a scalar nor of its parameter's shape: torch itself would take it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state.items():
        for key, value in values.items():
            shape = parameters[index].shape
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != shape:
                raise ValueError(f"{key} of parameter {index} has shape {list(value.shape)}, not {list(shape)}")
