"""Predict every image of a split by noisy votes, and the accuracies that follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from rushkit.bar import Progress
from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.recipe.schema import Rule
from rushkit.setup.components import to_float
from rushkit.smoothing import SmoothedClassifier

# Images that are counted together.
BLOCK = 256


@dataclass(frozen=True)
class Outcomes:
    """The predictions for every image of a split, and its labels.

    Attributes:
        predicted: Rule -> (N,) int64 classes.
        labels: (N,) int64.
    """

    predicted: dict[Rule, Tensor]
    labels: Tensor

    def right(self, rule: Rule) -> Tensor:
        """Return (N,) bool: whether each prediction is the label."""
        return self.predicted[rule] == self.labels

    def accuracy(self, rule: Rule) -> float:
        """Return the share of images whose prediction is the label."""
        return self.right(rule).double().mean().item()


def count_outcomes(
    g: SmoothedClassifier,
    split: Split,
    samples: int,
    seed: int,
    device: torch.device,
    progress: Progress | None = None,
    indices: Tensor | None = None,
) -> Outcomes:
    """Predict every image of a labelled split by the votes of ``samples`` draws; all ranks get all predictions.

    Args:
        g: The model under its noise.
        split: uint8 images with labels.
        samples: m.
        seed: Seeds the draws, with the index of each image.
        device: The device of the model.
        progress: Displays the number of passes done.
        indices: (N,) int64, the index of each image; None for its position in the split. An image of a part of a split
            has the draws that it has in the whole one where the index is that in the whole one.
    """
    indices = torch.arange(len(split)) if indices is None else indices
    predicted: dict[Rule, Tensor] = {rule: torch.zeros(len(split), dtype=torch.int64) for rule in get_args(Rule)}
    for start in ranks.own(range(0, len(split), BLOCK)):
        x = to_float(split.images[start : start + BLOCK].to(device))
        keys = indices[start : start + BLOCK]
        tally = g.keyed_tally(x, keys, seed, f"evaluate {samples}", samples)
        for rule, classes in predicted.items():
            # Only the class is kept: the votes of 50,000 images for 1000 classes take gigabytes.
            classes[start : start + BLOCK] = tally.predict(rule)
        if progress is not None:
            # The other ranks work on as many blocks at the same time.
            progress.advance(min(BLOCK * ranks.world(), len(split) - start) * samples)
    # Each rank fills in its own rows, and the sum over ranks has all rows.
    for classes in predicted.values():
        ranks.total(classes)
    assert split.labels is not None
    return Outcomes(predicted, split.labels)
