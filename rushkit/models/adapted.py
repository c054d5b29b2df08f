"""Somebody's classifier as rushkit measures it: images in [0, 1] to one row of logits an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.errors import UsageError, first_few, shorten, showable
from rushkit.models.answers import Answer, scores_of_labels, scores_of_probabilities

# Shares that do not add up to 1 by more than rounding are no probabilities.
_SUM_SLACK = 1e-2


class Adapted(nn.Module):
    """A module that returns one row of logits for each image, whatever the module inside takes and returns.

    Pixels go in as (x - mean) / std if there are mean and std, in the precision of the module's weights. Of several
    outputs one is taken. One logit an image stands for two classes. Probabilities become their logarithms, labels a row
    with one large logit.

    Args:
        module: (N, C, H, W) images -> what ``answers`` says, alone or in a tuple or a mapping.
        mean: Mean of each channel, pixel units; none: pixels go in as they are.
        std: Standard deviation of each channel; see ``mean``.
        output: Key, attribute or index of the logits among several outputs; "": found, if only one of them can be it.
        answers: What the module returns for an image.
        classes: K, needed where it answers labels; 0: not known.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        output: str = "",
        answers: Answer = "logits",
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.module = module
        self.output = output
        self.answers: Answer = answers
        self.classes = classes
        self._normalises = bool(mean)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64).view(-1, 1, 1), persistent=False)
        self.training = False

    @property
    def answer_kind(self) -> Answer:
        """What the module answers with."""
        return self.answers

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K), float32 or in the module's wider precision, of images (N, C, H, W) in [0, 1]."""
        if self._normalises:
            x = (x - self.mean.to(x)) / self.std.to(x)
        given = self.module(x.to(self._dtype(x)))
        return self._logits(_picked(given, self.output, len(x)), len(x))

    def _dtype(self, x: Tensor) -> torch.dtype:
        weights = (tensor for tensor in self.module.parameters() if tensor.is_floating_point())
        first = next(weights, None)
        return x.dtype if first is None else first.dtype

    def _logits(self, output: Tensor, images: int) -> Tensor:
        if self.answers == "labels":
            return self._of_labels(output, images)
        output = output if output.dtype == torch.float64 else output.float()
        if self.answers == "probabilities":
            return _of_probabilities(output, images)
        if output.shape in ((images,), (images, 1)):
            logit = output.reshape(images)
            return torch.stack([torch.zeros_like(logit), logit], dim=1)
        return output

    def _of_labels(self, output: Tensor, images: int) -> Tensor:
        labels = output.reshape(-1) if output.shape in ((images,), (images, 1)) else None
        if labels is None or labels.is_complex() or bool((labels != labels.round()).any()):
            raise UsageError(
                f"the model returned {_shape(output)} for {images} images; with --answers labels it returns one whole "
                "number an image",
                "--answers probabilities takes one row of shares an image, --answers logits one row of scores",
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.classes:
            raise UsageError(
                f"the model returned the label {low if low < 0 else high}, outside 0..{self.classes - 1}",
                "its classes are others than those of the data: --classes says how many it has",
            )
        return scores_of_labels(labels.long(), self.classes)


def _of_probabilities(output: Tensor, images: int) -> Tensor:
    """Return log p of shares (N, K), or of the share (N,) of the second of two classes."""
    if output.shape in ((images,), (images, 1)):
        second = output.reshape(images)
        output = torch.stack([1 - second, second], dim=1)
    if output.ndim == 2 and len(output):
        low, sums = float(output.detach().min()), output.detach().sum(1)
        if low < -_SUM_SLACK or float((sums - 1).abs().max()) > _SUM_SLACK:
            raise UsageError(
                f"the model returned shares that add up to {float(sums[(sums - 1).abs().argmax()]):.4g}, the smallest "
                f"{low:.4g}; with --answers probabilities they add up to 1",
                "leave --answers out if it returns logits",
            )
    return scores_of_probabilities(output)


def _picked(given: Any, output: str, images: int) -> Tensor:
    """Return the one output that has the logits."""
    if isinstance(given, Tensor):
        if output:
            raise UsageError(
                f"the model returned one tensor, and --output {shorten(output)!r} chooses among several",
                "leave --output out",
            )
        return given
    parts = _parts(given)
    if output:
        if output in parts:
            return parts[output]
        raise UsageError(
            f"the model returned no tensor {shorten(output)!r}: it has {_shown(parts)}",
            "choose one of them with --output",
        )
    if "logits" in parts:
        return parts["logits"]
    rows = [name for name, part in parts.items() if part.is_floating_point() and part.ndim == 2 and len(part) == images]
    if len(rows) == 1:
        return parts[rows[0]]
    if not parts:
        raise UsageError(
            f"the model returned {type(given).__name__}, with no tensor in it", "it returns logits of (N, classes)"
        )
    raise UsageError(
        f"the model returned several things: {_shown(parts)}", "say which of them has the logits: --output NAME"
    )


def _parts(given: Any) -> dict[str, Tensor]:
    """Return the tensors in a mapping, a tuple or an object with attributes, by key, index or name."""
    items: Iterable[tuple[str, Any]]
    if isinstance(given, Mapping):
        items = ((str(key), value) for key, value in given.items())
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        names = getattr(given, "_fields", None)
        keys = names if isinstance(names, tuple) and len(names) == len(given) else range(len(given))
        items = ((str(key), value) for key, value in zip(keys, given, strict=True))
    else:
        items = getattr(given, "__dict__", {}).items()
    return {key: value for key, value in items if isinstance(value, Tensor)}


def _shown(parts: Mapping[str, Tensor]) -> str:
    return first_few([f"{showable(shorten(name, 40))} {_shape(part)}" for name, part in parts.items()], 6)


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
