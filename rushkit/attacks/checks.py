"""Check the input of every attack, in one place."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from rushkit import checked
from rushkit.attacks import Norm
from rushkit.errors import UsageError
from rushkit.models.answers import ANSWERS, Answer
from rushkit.recipe.radius import check_eps

__all__ = ["check_answers", "check_ball", "check_counts", "check_eps", "check_labels", "checked_images"]

_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
# rushkit's own attacks, to suggest for a norm that another does not support: these have every norm.
_OWN = ("pgd", "apgd", "cascade", "autoattack", "fab", "square")
# rushkit's own attacks that ask a model without gradients, by what it answers with.
_ASK_FOR: dict[Answer, tuple[str, ...]] = {
    "logits": _OWN,
    "probabilities": ("square", "hopskipjump"),
    "labels": ("hopskipjump",),
}
_NORMS: tuple[Norm, ...] = get_args(Norm)


def checked_images(x: Tensor, y: Tensor | None, num_classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Return checked copies of images and labels, contiguous and on the images' device.

    Returns:
        x as float32 (float64 stays) and y as int64.

    Raises:
        UsageError: labels are missing or out of range, shapes are not (N, C, H, W) and (N,), or pixels lie outside
            [0, 1].
    """
    x = checked.checked_images(x)
    if y is None:
        raise UsageError("the attack needs labels, and this data set has none", "choose a labelled split")
    if not isinstance(y, Tensor) or y.shape != x.shape[:1] or y.dtype not in _WHOLE:
        got = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        fix = "probabilities or one-hot rows: y.argmax(dim=1)" if getattr(y, "ndim", 1) == 2 else "one class an image"
        fix = fix if isinstance(y, Tensor) else "torch.as_tensor(...) makes a tensor of them"
        raise UsageError(f"labels are whole numbers of shape ({len(x)},) (got {got})", fix)
    checked.check_pixels(x)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    with torch.inference_mode(False):
        # Without a memory format the copy would keep the layout of an expanded or permuted tensor.
        x = x.detach().to(dtype, memory_format=torch.contiguous_format, copy=True).clamp(0, 1)
        y = y.detach().to(x.device, torch.int64, memory_format=torch.contiguous_format, copy=True)
    check_labels(y, num_classes)
    return x, y


def check_labels(y: Tensor, num_classes: int | None) -> None:
    """Raise UsageError for a label that the model has no class for."""
    if int(y.amin()) < 0 or (num_classes is not None and int(y.amax()) >= num_classes):
        classes = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
        raise UsageError(
            f"labels must be {classes} (got {int(y.amin())} to {int(y.amax())})", "does the model fit the data?"
        )


def check_counts(attack: str, **counts: int) -> None:
    """Raise UsageError for a number of steps, queries or the like that is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{attack}: {name} must be at least 1 (got {count})")


def check_answers(attack: str, asks: Answer, answers: Answer) -> None:
    """Raise UsageError if an attack asks for more than a model answers with.

    Args:
        attack: Its name.
        asks: What the attack needs.
        answers: What the model answers with.
    """
    if ANSWERS.index(answers) <= ANSWERS.index(asks):
        return
    needs = "gradients" if asks == "logits" else "probabilities"
    raise UsageError(
        f"{attack} needs {needs}, and the model answers with {answers} alone",
        f"attacks that need no more than {answers}: {', '.join(_ASK_FOR[answers])}",
    )


def check_ball(attack: str, norm: str, eps: float, norms: tuple[Norm, ...] = _NORMS) -> None:
    """Raise UsageError for a norm that the attack lacks, or a radius that is not in pixel units."""
    if norm not in norms:
        elsewhere = f"; attacks in {norm}: {', '.join(_OWN)}" if norm in _NORMS else ""
        raise UsageError(f"{attack} has no norm {norm!r}", f"it has: {', '.join(norms)}{elsewhere}")
    check_eps(norm, eps)
