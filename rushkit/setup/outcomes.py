"""Count noisy votes on every image of a split, and the accuracies that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.bar import Progress
from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.recipe.schema import Rule
from rushkit.setup.components import to_float
from rushkit.smoothing import SmoothedClassifier
from rushkit.votes import Tally

# Images that are counted together.
BLOCK = 256


@dataclass(frozen=True)
class Outcomes:
    """The votes for every image of a split, and its labels."""

    tally: Tally
    labels: Tensor

    def right(self, rule: Rule) -> Tensor:
        """Return (N,) bool: whether each prediction is the label."""
        return self.tally.predict(rule) == self.labels

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
    """Count the votes of ``samples`` draws for every image of a labelled split; all ranks get all of them.

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
    tallies: dict[int, Tally] = {}
    for start in ranks.own(range(0, len(split), BLOCK)):
        x = to_float(split.images[start : start + BLOCK].to(device))
        keys = indices[start : start + BLOCK]
        tallies[start] = g.keyed_tally(x, keys, seed, f"evaluate {samples}", samples)
        if progress is not None:
            # The other ranks work on as many blocks at the same time.
            progress.advance(min(BLOCK * ranks.world(), len(split) - start) * samples)
    # Each rank fills in its own rows, and the sum over ranks has all rows. A rank without a block learns K here.
    classes = ranks.largest(max((tally.votes.shape[1] for tally in tallies.values()), default=0))
    votes, confidence, squared = torch.zeros(3, len(split), classes, dtype=torch.float64)
    for start, tally in tallies.items():
        rows = slice(start, start + BLOCK)
        votes[rows], confidence[rows], squared[rows] = tally.votes, tally.confidence, tally.confidence_squared
    for whole in (votes, confidence, squared):
        ranks.total(whole)
    assert split.labels is not None
    return Outcomes(Tally(votes.long(), confidence, squared, samples), split.labels)
