"""A callable from numpy images to probabilities or labels as a module: a model that only answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rushkit.errors import UsageError, shorten


class BlackBox(nn.Module):
    """A callable that is asked with numpy images, as a torch module without weights and gradients.

    Args:
        answer: float32 (N, C, H, W) with pixels in [0, 1], which noise may leave -> an array of N answers, or a tuple
            or a mapping of arrays.
        name: What messages call it.
    """

    def __init__(self, answer: Callable[[Any], Any], name: str = "the model") -> None:
        super().__init__()
        self.answer = answer
        self._name = name
        self.training = False

    def forward(self, x: Tensor) -> Any:
        """Return the answers for images (N, C, H, W), on their device.

        Raises:
            UsageError: the answers are no numbers.
        """
        # A copy: what the callable does to its images stays with it.
        given = self.answer(x.detach().float().cpu().numpy().copy())
        if isinstance(given, dict):
            return {name: self._tensor(part, x) for name, part in given.items()}
        if isinstance(given, tuple):
            return tuple(self._tensor(part, x) for part in given)
        return self._tensor(given, x)

    def _tensor(self, answers: Any, x: Tensor) -> Tensor:
        if isinstance(answers, Tensor):
            return answers.detach().to(x.device)
        try:
            array = np.asarray(answers)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            raise UsageError(
                f"{self._name} answered {type(answers).__name__} {shorten(repr(answers), 60)} for {len(x)} images",
                "it returns a numpy array: (N, classes) probabilities, or (N,) labels as whole numbers",
            )
        # Big-endian arrays, wide floats and negative strides are nothing for torch.
        kind = np.float64 if array.dtype.kind == "f" and array.dtype.itemsize > 4 else np.float32
        whole = array.dtype.kind != "f"
        return torch.from_numpy(np.array(array, dtype=np.int64 if whole else kind, order="C")).to(x.device)
