"""Recognise a collapsed pre-training: its loss stands at that of equal projections, or its features are all alike."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from rushkit.data.memory import Split
from rushkit.models.network import Network
from rushkit.objectives import Contrasts
from rushkit.results.notes import Note
from rushkit.run.folder import Run
from rushkit.system import Machine
from rushkit.training.job import TrainingJob
from rushkit.training.knn import features

# A loss stands when that of so many epochs in a row, after the warm-up, is within this share of the loss of equal
# projections. A network that learns leaves it within an epoch or two.
STANDS_EPOCHS, STANDS_WITHIN = 3, 0.005
# Features of less spread than this are all the same, but for rounding.
_SPREAD = 1e-4
# The effective rank below which features lie on a line.
RANK = 1.1
# The images that the rank is measured on.
IMAGES = 256
_TRY = (
    "try a lower learning rate, a longer warm-up (--set pretrain.schedule.warmup_epochs=10), a larger batch or weaker "
    "noise"
)


def effective_rank(rows: Tensor) -> float:
    """Return the effective rank of rows (N, D) of unit length: how many directions their differences fill.

    It is the exponential of the entropy of the shares of variance along the principal directions (Roy & Vetterli 2007,
    of squared singular values), between 1 and D; 1 for rows that are all the same, infinite where one is NaN.
    """
    # Not every device has float64.
    rows = rows.cpu().double()
    if not rows.isfinite().all():
        return math.inf
    differences = rows - rows.mean(dim=0)
    if differences.square().sum(dim=1).mean() < _SPREAD:
        return 1.0
    shares = torch.linalg.svdvals(differences).square()
    shares = shares / shares.sum()
    return float(torch.exp(torch.special.entr(shares).sum()))


def stands_at(losses: list[float], chance: float) -> bool:
    """Return whether the last losses of epochs all lie at the loss of equal projections."""
    last = losses[-STANDS_EPOCHS:]
    return len(last) == STANDS_EPOCHS and all(abs(loss - chance) <= STANDS_WITHIN * chance for loss in last)


class CollapseWatch:
    """Warns once of a pre-training that has collapsed, and keeps a note for as long as it is.

    Args:
        job: The training; fine-tuning is not watched.
        run: Its run, in whose log the warning is.
        machine: Device of the features.

    Attributes:
        note: What is to be said of it after the last epoch; None for nothing.
    """

    def __init__(self, job: TrainingJob, run: Run, machine: Machine) -> None:
        self._job, self._run, self._machine = job, run, machine
        self._warned = self._looked = False
        self.note: Note | None = None

    def __call__(self, losses: list[float]) -> None:
        """Look at the training after an epoch, given the mean losses of all so far. All ranks must call it."""
        self._looked = True
        if self._job.stage != "pretrain":
            return
        with self._machine.uncompiled():
            rank = rank_of(self._job.product, self._job.split, self._machine)
        self.note = self._loss_note(losses) or self._rank_note(rank)
        if self.note is not None and not self._warned:
            self._warned = True
            self._run.speaker.warn(f"{self.note.text}; epoch {len(losses)}")

    def at_end(self, losses: list[float]) -> Note | None:
        """Return the note after the last epoch, which an earlier session of the run may have done."""
        if losses and not self._looked:
            self(losses)
        return self.note

    def _loss_note(self, losses: list[float]) -> Note | None:
        settings = self._job.settings
        if not isinstance(self._job.objective, Contrasts):
            return None
        chance = self._job.objective.chance_loss(settings.batch_size)
        if not stands_at(losses[settings.schedule.warmup_epochs :], chance):
            return None
        return Note(
            code="collapsed",
            text=f"collapse: the loss stands at ln(2B - 1) = {chance:.3f}, that of a network which gives all "
            f"{settings.batch_size} images of a batch the same projection; {_TRY}",
            figures={"loss": losses[-1], "chance_loss": chance},
        )

    def _rank_note(self, rank: float) -> Note | None:
        if rank >= RANK:
            return None
        images = min(len(self._job.split), IMAGES)
        return Note(
            code="collapsed",
            text=f"collapse: the features of {images} training images have effective rank {rank:.2f}: they are all "
            f"alike, or differ in one direction alone; {_TRY}",
            figures={"effective_rank": rank},
        )


def rank_of(network: Network, split: Split, machine: Machine) -> float:
    """Return the effective rank of an encoder's float32 features of the first images of a split, without noise."""
    full = replace(machine, precision="float32")
    return effective_rank(features(network.encoder, split.images[:IMAGES], full))
