"""Adversarial images of a run: kept block by block, put together, and asked of another model.

They are float32 as the attack made them: rounding to whole grey levels can move an image out of its ball.
"""

from __future__ import annotations

import contextlib
import glob
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rushkit.errors import CheckpointError, RushkitError, UsageError
from rushkit.noises import is_deterministic
from rushkit.run.checkpoint import SUFFIX, Checkpoint, load_checkpoint, save_checkpoint
from rushkit.run.files import JSON
from rushkit.run.folder import Run
from rushkit.smoothing import SmoothedClassifier
from rushkit.stages import build, ranks
from rushkit.stages.blocklog import BlockLog
from rushkit.stages.load import Classifier, load_classifier, recipe_of
from rushkit.stages.log_checks import check_transfer
from rushkit.stages.outcomes import BLOCK, smoothed
from rushkit.stages.robustness import figures
from rushkit.stages.scoring import RULES, count_right, score_seeds
from rushkit.system import Machine

FOLDER = "adversarial"
# Between a block's number and the suffix of what is known of it so far.
_PART = ".part"


class Album:
    """The adversarial images of one job: a file a block while it runs, one file when it is done.

    Args:
        run: Whose folder ``adversarial`` takes them.
        name: Of the job.
    """

    def __init__(self, run: Run, name: str) -> None:
        self._blocks = run.path / FOLDER / name
        self.path = run.path / FOLDER / f"{name}{SUFFIX}"
        run.subfolder(FOLDER)

    def resume(self, done: int) -> None:
        """Drop the images of blocks without an outcome: the process was killed between the two.

        Args:
            done: How many images have an outcome.

        Raises:
            RushkitError: images that have one are not here.
        """
        for path in self._paths():
            if int(path.stem) >= done:
                path.unlink()
        if not self.path.exists() and done != sum(len(block.tensors["labels"]) for block in self._kept()):
            raise RushkitError(
                f"{done} images were attacked without keeping what came out", "start a new run with --save"
            )

    def keep(self, start: int, x_adv: Tensor, labels: Tensor) -> None:
        """Write the images of a block, before its outcome is."""
        self._blocks.mkdir(exist_ok=True)
        save_checkpoint(self._blocks / f"{start:08d}{SUFFIX}", _tensors(x_adv, labels, start), {})

    def assemble(self, meta: dict[str, JSON]) -> Path:
        """One file of all blocks: ``images`` (N, C, H, W) float32, ``labels`` and ``indices`` (N,) int64.

        An index is a place in the limited split, not in the data set's own order.
        """
        if not self.path.exists():
            kept = self._kept()
            joined = {key: torch.cat([block.tensors[key] for block in kept]) for key in kept[0].tensors}
            save_checkpoint(self.path, joined, meta)
        for path in self._paths():
            path.unlink()
        # What is not ours stays, and the folder with it.
        with contextlib.suppress(OSError):
            self._blocks.rmdir()
        return self.path

    def drop(self) -> None:
        """Delete the images of an attack that failed."""
        for path in self._paths():
            path.unlink()
        with contextlib.suppress(OSError):
            self._blocks.rmdir()

    def images(self) -> dict[str, Tensor]:
        """What ``assemble`` wrote. Raises CheckpointError where it is gone or damaged."""
        return load_checkpoint(self.path).tensors

    def _paths(self) -> list[Path]:
        return sorted(self._blocks.glob("[0-9]" * 8 + SUFFIX))

    def _kept(self) -> list[Checkpoint]:
        return [load_checkpoint(path) for path in self._paths()]


class Partial:
    """What the attacks on the current block have found, so that a stop between two of them loses neither.

    Args:
        path: The file.
        subject: What it depends on; a file about something else is passed over.
    """

    def __init__(self, path: Path, subject: dict[str, Any]) -> None:
        self.path = path
        self._subject = subject

    def load(self, start: int) -> Checkpoint | None:
        """What was stored of the block that starts there."""
        try:
            stored = load_checkpoint(self.path)
        except CheckpointError:
            return None
        return stored if stored.meta.get("subject") == {**self._subject, "start": start} else None

    def save(self, start: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Store the state of the block that starts there."""
        save_checkpoint(self.path, tensors, {"subject": {**self._subject, "start": start}, **meta})


class Partials:
    """The partial files of a job's blocks.

    Args:
        folder: Where they lie.
        name: Of the job.
        subject: What they depend on.
    """

    def __init__(self, folder: Path, name: str, subject: dict[str, Any]) -> None:
        self._folder = folder
        self._name = name
        self._subject = subject

    def of(self, start: int) -> Partial:
        """That of the block that starts there."""
        return Partial(self._folder / f"{self._name}.{start:08d}{_PART}{SUFFIX}", self._subject)

    def clear(self, done: int) -> None:
        """Drop those of the first ``done`` images, which have an outcome."""
        for path in self._folder.glob(f"{glob.escape(self._name)}.{'[0-9]' * 8}{_PART}{SUFFIX}"):
            if int(path.name.removesuffix(f"{_PART}{SUFFIX}")[-8:]) < done:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Target:
    """Another model, under its own noise, that is asked about images made against this one."""

    classifier: Classifier
    machine: Machine
    chunk: int

    @property
    def deterministic(self) -> bool:
        """Whether it has no noise."""
        return is_deterministic(build.build_noise(self.classifier.recipe))

    def smoothed(self, m: int) -> SmoothedClassifier:
        """It, voting with m draws."""
        noise = build.build_noise(self.classifier.recipe)
        return smoothed(self.classifier.network, noise, m, self.classifier.chunk(self.chunk), self.machine)


def transfer_target(checkpoint: Checkpoint, source: Classifier, machine: Machine, chunk: int) -> Target:
    """The model that ``--transfer-to`` means. Raises UsageError where it has other classes or another image size."""
    other = load_classifier(checkpoint, machine)
    for what, theirs, ours in (
        ("classes", other.classes, source.classes),
        ("image size", other.image_size, source.image_size),
    ):
        if theirs != ours:
            raise UsageError(
                f"{checkpoint.path} has another {what} than the attacked model: {_short(theirs)}, not {_short(ours)}",
                "images transfer between models of the same data",
            )
    return Target(other, machine, chunk)


def rescore(run: Run, name: str, album: Album, clean: Tensor, target: Target, m: int, votes: int, seed: int) -> dict:
    """What another model, under its own noise, says of a job's adversarial images; it may be stopped and goes on.

    Args:
        run: Takes the outcomes.
        name: Of the job.
        album: Its images.
        clean: (N, C, H, W) uint8 originals.
        target: The other model.
        m: Draws a vote.
        votes: T.
        seed: Of the votes.

    Returns:
        The model, its noise, m and T, and the same figures by rule as of the attacked model.
    """
    checkpoint = target.classifier.checkpoint
    kept, device = album.images(), target.machine.device
    noise = recipe_of(checkpoint).noise.model_dump()
    subject = {"model": checkpoint.hash, "noise": noise, "samples": m, "votes": votes, "seed": seed, "block": BLOCK}
    path = run.subfolder("counts") / f"{name}-on-{checkpoint.hash[:12]}.jsonl"
    check = partial(check_transfer, images=kept["indices"].tolist(), rules=RULES)
    log = BlockLog(path, subject, check) if run.writes else None
    records = ranks.broadcast(None if log is None else log.records())
    done = sum(len(record["images"]) for record in records)
    g = target.smoothed(m)

    def ask(start: int) -> dict[str, Any]:
        rows = slice(start, start + BLOCK)
        y = kept["labels"][rows].to(device)
        score, score_clean = score_seeds(seed, start)
        return {
            "images": kept["indices"][rows].tolist(),
            "right": count_right(g, kept["images"][rows].to(device), y, votes, score),
            "clean_right": count_right(g, build.to_float(clean[rows].to(device)), y, votes, score_clean),
        }

    with run.speaker.progress(len(clean), f"transfer {name}", "images", start=done) as bar:
        for record in ranks.in_rounds(ask, range(done, len(clean), BLOCK)):
            if log is not None:
                log.append(record)
            records.append(record)
            bar.advance(len(record["images"]))
    about = {"model": str(checkpoint.path), "hash": checkpoint.hash, "noise": noise, "samples": m, "votes": votes}
    return {**about, **figures(records, votes)}


def _tensors(x_adv: Tensor, labels: Tensor, start: int) -> dict[str, Tensor]:
    return {
        "images": x_adv.detach().cpu().to(torch.float32),
        "labels": labels.cpu(),
        "indices": torch.arange(start, start + len(labels)),
    }


def _short(value: Any) -> str:
    return f"{len(value)} classes ({', '.join(value[:3])}, ...)" if isinstance(value, tuple) else f"{value}"
