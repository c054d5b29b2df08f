"""The losses that attacks maximise: functions of the logits of all draws, with one value for each image.

Each takes per-draw logits (m, N, K) (m = 1 for a deterministic model), labels (N,) and optionally targets (N,), and
returns (N,). The value grows as the label becomes less likely or, with a target, as the target becomes likelier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rushkit.errors import UsageError
from rushkit.smoothing import log_mean_softmax

LossName = Literal["nll", "ce", "dlr", "dlr-mean", "margin"]
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def nll(logits: Tensor, labels: Tensor, target: Tensor | None = None) -> Tensor:
    """Return −log p̄ of the label (eq. 7 of the RUSH paper), or log p̄ of the target."""
    log_prob = log_mean_softmax(logits)
    return -_pick(log_prob, labels) if target is None else _pick(log_prob, target)


def cross_entropy(logits: Tensor, labels: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the label's cross-entropy averaged over the draws, or minus the target's."""
    log_prob = torch.log_softmax(logits, dim=2).mean(dim=0)
    return -_pick(log_prob, labels) if target is None else _pick(log_prob, target)


def dlr(logits: Tensor, labels: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the difference of logits ratio, averaged over the draws (Croce and Hein 2020, eq. 6; with a target eq. 7).

    Raises:
        UsageError: there are fewer than 3 classes, or fewer than 4 with a target.
    """
    m, n, k = logits.shape
    repeated = None if target is None else target.repeat(m)
    return _difference_ratio(logits.reshape(m * n, k), labels.repeat(m), repeated).view(m, n).mean(dim=0)


def dlr_mean(logits: Tensor, labels: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the difference of logits ratio of log p̄; it raises the same errors as ``dlr``."""
    return _difference_ratio(log_mean_softmax(logits), labels, target)


def margin(logits: Tensor, labels: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the largest other log p̄ minus the label's; with a target, the target's minus the label's."""
    log_prob = log_mean_softmax(logits)
    rival = _best_other(log_prob, labels) if target is None else _pick(log_prob, target)
    return rival - _pick(log_prob, labels)


_LOSSES: dict[str, Loss] = {"nll": nll, "ce": cross_entropy, "dlr": dlr, "dlr-mean": dlr_mean, "margin": margin}


def get(name: str) -> Loss:
    """Return the loss called ``name``: nll, ce, dlr, dlr-mean or margin. Raises UsageError for another name."""
    if name not in _LOSSES:
        raise UsageError(f"unknown loss {name!r}", f"there are: {', '.join(_LOSSES)}")
    return _LOSSES[name]


def classes_needed(name: str, targeted: bool) -> int:
    """Return the smallest number of classes for which a loss is defined."""
    return (4 if targeted else 3) if name.startswith("dlr") else 2


def _difference_ratio(z: Tensor, labels: Tensor, target: Tensor | None) -> Tensor:
    needed = 3 if target is None else 4
    if z.shape[1] < needed:
        kind = "DLR" if target is None else "targeted DLR"
        raise UsageError(f"{kind} needs {needed} classes (the model has {z.shape[1]})", "use nll, ce or margin")
    largest = z.topk(needed, dim=1).values
    if target is None:
        return (_best_other(z, labels) - _pick(z, labels)) / (largest[:, 0] - largest[:, 2] + 1e-12)
    return (_pick(z, target) - _pick(z, labels)) / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + 1e-12)


def _pick(scores: Tensor, classes: Tensor) -> Tensor:
    return scores.gather(1, classes[:, None]).squeeze(1)


def _best_other(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
