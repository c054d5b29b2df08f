"""Collect losses and the figures of epochs for metrics.jsonl, and track the best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from rushkit.distributed import ranks
from rushkit.errors import NumericsError, PluginError
from rushkit.results.notes import Note
from rushkit.rounding import percent
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics

# Losses are read back from the device every so many steps, since each read is a device sync.
_STEPS_PER_READING = 20
_OWN = frozenset({"step", "epoch", "kind", "loss", "lr", "time"})
_NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class EpochLog:
    """The losses of steps, the figures of epochs, and the best epoch.

    Args:
        run: The run that the metrics are written to.
        stage: Name of the stage, for the hint about a loss that is not finite.
        best_by: The figure whose maximum marks the best epoch; None for no best epoch.
        patience: Epochs without a better one after which the training is over; 0: it is never over early.

    Attributes:
        epochs: The figures of the epochs that ended.
    """

    def __init__(self, run: Run, stage: str, best_by: str | None, patience: int = 0) -> None:
        self._run = run
        self._stage = stage
        self._best_by = best_by
        self._patience = patience
        self._best = -math.inf
        self._best_epoch = self._looked_at = 0
        self.epochs: list[dict[str, float]] = []
        self._unread: list[tuple[int, int, float, dict[str, Tensor]]] = []
        self._losses: dict[int, list[float]] = {}

    def restore(self, step: int) -> dict[str, float]:
        """Read the metrics up to the step at which a run resumes, and return the figures of its last full epoch."""
        lines = [line for line in read_metrics(self._run.metrics.path) if line.get("step", step + 1) <= step]
        for line in lines:
            if line.get("kind") == "step":
                self._losses.setdefault(line["epoch"] - 1, []).append(line["loss"])
        figures: dict[str, float] = {}
        for line in lines:
            if line.get("kind") == "epoch":
                self._losses.pop(line["epoch"] - 1, None)
                figures = {name: value for name, value in line.items() if name not in ("step", "epoch", "kind")}
                self._ended(figures)
        return figures

    def add(self, step: int, epoch: int, rate: float, loss: Tensor, noted: Mapping[str, Tensor] = _NOTHING) -> None:
        """Record the loss of a step (from 0), a scalar that may still be on the device, and what an objective noted.

        Raises:
            NumericsError: one of the losses so far is NaN or infinite.
            PluginError: a note has the name of a figure of the loop's own.
        """
        if taken := _OWN & noted.keys():
            raise PluginError(
                f"the objective notes {', '.join(sorted(taken))}, which the training itself writes",
                "give batch.note other names",
            )
        self._unread.append((step, epoch, rate, {"loss": loss, **noted}))
        if len(self._unread) >= _STEPS_PER_READING:
            self.read()

    def read(self) -> None:
        """Write the losses that are still on the device to the metrics. Raises NumericsError as ``add`` does."""
        if not self._unread:
            return
        parts = [part.float() for *_, figures in self._unread for part in figures.values()]
        means = iter((ranks.total(torch.stack(parts)) / ranks.world()).tolist())
        for step, epoch, rate, figures in self._unread:
            loss, *others = (next(means) for _ in figures)
            if not math.isfinite(loss):
                raise NumericsError(
                    f"the loss is {loss} at step {step + 1}; the last checkpoint was made before it",
                    f"try a lower learning rate or a warm-up: --set {self._stage}.schedule.warmup_epochs=10",
                )
            noted = dict(zip(list(figures)[1:], others, strict=True))
            self._run.metrics.append(step=step + 1, epoch=epoch + 1, kind="step", loss=loss, lr=rate, **noted)
            self._losses.setdefault(epoch, []).append(loss)
        self._unread.clear()

    def mean_loss(self, epoch: int) -> float:
        """Return the mean loss of a finished epoch (from 0), and forget it."""
        losses = self._losses.pop(epoch)
        return sum(losses) / len(losses)

    def end_epoch(self, epoch: int, step: int, figures: dict[str, float]) -> bool:
        """Write the figures of an epoch (from 0) that ended with a step (from 1), and return whether it is the best."""
        self._run.metrics.append(step=step, epoch=epoch + 1, kind="epoch", **figures)
        return self._ended(figures)

    @property
    def losses(self) -> list[float]:
        """The mean losses of the epochs that ended."""
        return [figures["loss"] for figures in self.epochs]

    def over(self) -> Note | None:
        """Return why the training is over before its last epoch; None if it goes on.

        It depends on the figures of epochs alone, so that a resumed training ends where an unbroken one does.
        """
        waited = self._looked_at - self._best_epoch
        if not self._patience or waited < self._patience or self._looked_at < len(self.epochs):
            return None
        return Note(
            code="stopped-early",
            text=f"stopped early after epoch {len(self.epochs)}: no better {str(self._best_by).replace('_', ' ')} than "
            f"that of epoch {self._best_epoch}, {percent(self._best)} %, for {waited} epochs",
            figures={"epoch": len(self.epochs), "best_epoch": self._best_epoch, "best": self._best},
        )

    def _ended(self, figures: dict[str, float]) -> bool:
        """Count an epoch, and return whether its figures are better than those of every epoch before it."""
        self.epochs.append(figures)
        value = figures.get(self._best_by or "")
        if value is None:
            return False
        self._looked_at = len(self.epochs)
        better = value > self._best
        if better:
            self._best, self._best_epoch = value, len(self.epochs)
        return better
