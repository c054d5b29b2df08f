"""What another model says of the adversarial images of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from rushkit.attacks.scoring import RULES, count_right, score_seeds
from rushkit.distributed import ranks
from rushkit.errors import UsageError
from rushkit.noises import is_deterministic
from rushkit.results.intervals import figures
from rushkit.robustness.log_checks import check_transfer
from rushkit.robustness.saved_images import Album
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.log import BlockLog, Table
from rushkit.setup import components
from rushkit.setup.model import Classifier, load_classifier, recipe_of
from rushkit.setup.outcomes import BLOCK
from rushkit.setup.subject import smoothed
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine


@dataclass(frozen=True)
class Target:
    """Another model, under its own noise, that is asked about images made against this one."""

    classifier: Classifier
    machine: Machine
    chunk: int

    @property
    def deterministic(self) -> bool:
        """Whether it has no noise."""
        return is_deterministic(components.build_noise(self.classifier.recipe))

    def smoothed(self, m: int) -> SmoothedClassifier:
        """It, voting with m draws."""
        noise = components.build_noise(self.classifier.recipe)
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


def rescore(
    run: Run, name: str, album: Album, clean: Tensor, target: Target, m: int, votes: int, seed: int
) -> dict[str, Any]:
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
    subject: Table = {
        "model": checkpoint.hash,
        "noise": noise,
        "samples": m,
        "votes": votes,
        "seed": seed,
        "block": BLOCK,
    }
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
            "clean_right": count_right(g, components.to_float(clean[rows].to(device)), y, votes, score_clean),
        }

    with run.speaker.progress(len(clean), f"transfer {name}", "images", start=done) as bar:
        for record in ranks.in_rounds(ask, range(done, len(clean), BLOCK)):
            if log is not None:
                log.append(record)
            records.append(record)
            bar.advance(len(record["images"]))
    about = {"model": str(checkpoint.path), "hash": checkpoint.hash, "noise": noise, "samples": m, "votes": votes}
    return {**about, **figures(records, votes)}


def _short(value: Any) -> str:
    return f"{len(value)} classes ({', '.join(value[:3])}, ...)" if isinstance(value, tuple) else f"{value}"
