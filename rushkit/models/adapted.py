"""Somebody's classifier as rushkit measures it: images in [0, 1] to one row of logits an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.errors import UsageError, first_few, shorten, showable
from rushkit.models.answers import Answer, scores_of_labels, scores_of_probabilities
from rushkit.models.trial import code_of_others

# Shares that do not add up to 1 by more than rounding are no probabilities.
_SUM_SLACK = 1e-2


@dataclass(frozen=True)
class Reading:
    """How a module is fed, and what its outputs mean.

    Attributes:
        mean: Mean of each channel, pixel units; none: pixels go in as they are.
        std: Standard deviation of each channel; see ``mean``.
        output: Key, attribute or index of the logits among several outputs; "": found, if only one of them can be it.
        answers: What the module returns for an image.
        classes: K, needed where it answers labels; 0: not known.
        name: What messages call the module.
    """

    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    output: str = ""
    answers: Answer = "logits"
    classes: int = 0
    name: str = "the model"


class Adapted(nn.Module):
    """A module that returns one row of logits for each image, whatever the module inside takes and returns.

    Pixels go in as (x - mean) / std if there are mean and std, in the precision of the module's weights. Of several
    outputs one is taken. One logit an image stands for two classes. Probabilities become their logarithms, labels a row
    with one large logit.

    Args:
        module: (N, C, H, W) images -> what the reading says, alone or in a tuple or a mapping.
        reading: How it is fed, and what its outputs mean.

    Attributes:
        differentiable: Whether the outputs have a gradient; without one the module is run on images that need none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.module = module
        self.reading = reading
        self.differentiable = True
        for name, values in (("mean", reading.mean), ("std", reading.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.training = False

    @property
    def answer_kind(self) -> Answer:
        """What attacks can go by: logits where there is a gradient, else probabilities or the class alone."""
        if self.reading.answers == "labels":
            return "labels"
        return "logits" if self.differentiable else "probabilities"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K), float32 or in the module's wider precision, of images (N, C, H, W) in [0, 1].

        Raises:
            UsageError: the module returns something that its reading does not fit.
            PluginError: the module raises an error.
        """
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            given = self._run(x if self.differentiable else x.detach())
            return self._logits(_picked(given, self.reading, len(x)), len(x))

    def features(self, x: Tensor) -> Tensor:
        """Return what the module itself returns for images (N, C, H, W), flattened to (N, F) floating-point features.

        Raises:
            UsageError: it returns something else, or several things without a name.
        """
        features = _picked(self._run(x), self.reading, len(x), as_features=True)
        if not features.is_floating_point() or features.ndim < 2 or len(features) != len(x):
            raise UsageError(
                f"{self.reading.name} returned {_shape(features)} for {len(x)} images, and no features",
                "features are one row of real numbers an image; --output NAME chooses among several outputs",
            )
        return features.flatten(1)

    def _run(self, x: Tensor) -> Any:
        """Return what the module returns for images, which it gets in the precision of its weights."""
        dtype = self._dtype(x)
        if len(self.mean):
            # Not in half precision: the module gets rounded what is exact so far.
            x = x.to(torch.promote_types(x.dtype, dtype))
            x = (x - self.mean.to(x)) / self.std.to(x)
        with code_of_others(self.reading.name, x):
            return self.module(x.to(dtype))

    def _dtype(self, x: Tensor) -> torch.dtype:
        weights = (tensor for tensor in self.module.parameters() if tensor.is_floating_point())
        first = next(weights, None)
        return x.dtype if first is None else first.dtype

    def _logits(self, output: Tensor, images: int) -> Tensor:
        if self.reading.answers == "labels":
            return self._of_labels(output, images)
        single = output.numel() == images and output.ndim <= 2
        if not output.is_floating_point():
            raise UsageError(
                f"{self.reading.name} returned whole numbers ({str(output.dtype).removeprefix('torch.')} of "
                f"{_shape(output)}), and no {self.reading.answers}",
                "--answers labels, if it returns the class of each image"
                if single
                else "return the scores from before argmax, thresholds or rounding",
            )
        output = output if output.dtype == torch.float64 else output.float()
        if images == 1 and output.ndim == 1 and not single:
            # A squeeze has taken the batch away, where there is one image in it.
            output = output[None]
        if single:
            one = output.reshape(images)
            zero = torch.zeros_like(one) if self.reading.answers == "logits" else 1 - one
            output = torch.stack([zero, one], dim=1)
        if output.ndim != 2 or len(output) != images:
            raise UsageError(
                f"{self.reading.name} returned {_shape(output)} for {images} images; (N, classes) is needed",
                "pool over all places first: such as output.mean(dim=(2, 3))"
                if output.ndim == 4
                else "one row of logits an image",
            )
        return self._of_probabilities(output) if self.reading.answers == "probabilities" else output

    def _of_labels(self, output: Tensor, images: int) -> Tensor:
        labels = output.reshape(-1) if output.numel() == images and output.ndim <= 2 else None
        if labels is None or labels.is_complex() or bool((labels != labels.round()).any()):
            raise UsageError(
                f"{self.reading.name} returned {_shape(output)} for {images} images; with --answers labels it returns "
                "one whole number an image",
                "--answers probabilities takes one row of shares an image, --answers logits one row of scores",
            )
        low, high, classes = int(labels.min()), int(labels.max()), self.reading.classes
        if low < 0 or high >= classes:
            raise UsageError(
                f"{self.reading.name} returned the label {low if low < 0 else high}, outside 0..{classes - 1}",
                "its classes are others than those of the data: --classes says how many it has",
            )
        return scores_of_labels(labels.long(), classes)

    def _of_probabilities(self, output: Tensor) -> Tensor:
        low, sums = float(output.detach().min()), output.detach().sum(1)
        # A NaN fails both comparisons.
        if not (low >= -_SUM_SLACK and float((sums - 1).abs().max()) <= _SUM_SLACK):
            raise UsageError(
                f"{self.reading.name} returned shares that add up to {float(sums[(sums - 1).abs().argmax()]):.4g}, the "
                f"smallest {low:.4g}; with --answers probabilities they add up to 1",
                "leave --answers out if it returns logits",
            )
        return scores_of_probabilities(output)


class Features(nn.Module):
    """The outputs of an adapted module as features: (N, C, H, W) images in [0, 1] -> (N, F).

    Attributes:
        differentiable: Whether they have a gradient.
    """

    def __init__(self, adapted: Adapted) -> None:
        super().__init__()
        self.adapted = adapted
        self.differentiable = True
        self.training = False

    @property
    def answer_kind(self) -> Answer:
        """What an ascent can go by: features as logits, where there is a gradient."""
        return "logits" if self.differentiable else "probabilities"

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of images (N, C, H, W)."""
        return self.adapted.features(x)


def _picked(given: Any, reading: Reading, images: int, as_features: bool = False) -> Tensor:
    """Return the one output that has the logits, or the features."""
    output = reading.output
    if isinstance(given, Tensor):
        if output:
            raise UsageError(
                f"{reading.name} returned one tensor, and --output {shorten(output)!r} chooses among several",
                "leave --output out",
            )
        return given
    parts = _parts(given)
    if output:
        if output in parts:
            return parts[output]
        raise UsageError(
            f"{reading.name} returned no tensor {shorten(output)!r}: it has {_shown(parts)}",
            "choose one of them with --output",
        )
    if "logits" in parts and not as_features:
        return parts["logits"]
    rows = [part for part in parts.values() if part.is_floating_point() and part.ndim == 2 and len(part) == images]
    fitting = [part for part in rows if part.shape[1] == reading.classes and not as_features]
    for candidates in (rows, fitting, list(parts.values())):
        if len(candidates) == 1:
            return candidates[0]
    if not parts:
        raise UsageError(
            f"{reading.name} returned {type(given).__name__}, with no tensor in it", "it returns logits of (N, classes)"
        )
    what = "features" if as_features else "logits"
    raise UsageError(
        f"{reading.name} returned several things: {_shown(parts)}", f"say which of them has the {what}: --output NAME"
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
