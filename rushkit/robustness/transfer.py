"""Query another model about the adversarial images of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rushkit.attacks.scoring import RULES, cast_votes
from rushkit.errors import UsageError
from rushkit.noises import is_deterministic
from rushkit.results.attacks import Transfer
from rushkit.results.intervals import figures_by_rule, vote_outcomes
from rushkit.results.logs import TransferBlock, TransferSubject
from rushkit.robustness.final_votes import final_votes
from rushkit.robustness.log_checks import check_transfer
from rushkit.robustness.saved_images import SavedImages
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup.components import build_noise
from rushkit.setup.model import Classifier, load_classifier
from rushkit.setup.outcomes import BLOCK
from rushkit.setup.resumable import Made, SharedLog, resumable
from rushkit.setup.subject import Subject, smoothed
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine


@dataclass(frozen=True)
class Target:
    """Another model, under its own noise, that is queried with images made against the attacked one."""

    classifier: Classifier
    machine: Machine
    chunk: int

    @property
    def deterministic(self) -> bool:
        """Whether it has no noise."""
        return is_deterministic(build_noise(self.classifier.recipe))

    def smoothed(self, m: int) -> SmoothedClassifier:
        """Return the model under its noise, voting with m draws in float32."""
        noise = build_noise(self.classifier.recipe)
        g = smoothed(self.classifier.network, noise, m, self.classifier.chunk(self.chunk))
        g.classes = self.classifier.classes
        return g


def transfer_target(checkpoint: Checkpoint, source: Classifier, machine: Machine, chunk: int) -> Target:
    """Load the model for ``--transfer-to``. Raises UsageError if its classes or image size differ from the source's."""
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


def transferred(
    run: Run, name: str, saved: SavedImages, subject: Subject, target: Target, m: int, votes: int, seed: int
) -> Transfer:
    """Query another model, under its own noise, about the adversarial images of a job; a stopped query can resume.

    Args:
        run: The run that the outcomes are written to.
        name: The name of the job.
        saved: The adversarial images of the job.
        subject: The attacked model and the N images.
        target: The other model.
        m: Number of draws in each vote.
        votes: T, the number of votes on each image.
        seed: Seeds the votes.

    Returns:
        The model, its noise, m and T, and the same figures by rule as for the attacked model.
    """
    checkpoint, noise = target.classifier.checkpoint, target.classifier.recipe.noise
    images, device, g = saved.images(), target.machine.device, target.smoothed(m)
    about = TransferSubject(model=checkpoint.hash, noise=noise, samples=m, votes=votes, seed=seed, block=BLOCK)
    positions, labels = images["indices"].tolist(), images["labels"].tolist()
    check = partial(check_transfer, images=positions, labels=labels, rules=RULES)
    log = SharedLog(run, f"{name}-on-{checkpoint.hash[:12]}.jsonl", about.to_table(), check)

    def make(start: int) -> Made:
        rows = slice(start, start + BLOCK)
        y = images["labels"][rows].to(device)
        keys, (x, _) = subject.indices[rows], subject.batch(rows)
        attacked = cast_votes(g, images["images"][rows].to(device), votes, seed, keys)
        counted = final_votes(m, attacked, cast_votes(g, x.to(device), votes, seed, keys, "clean"), y)
        block = TransferBlock(
            images=images["indices"][rows].tolist(),
            right=counted.right,
            clean_right=counted.clean_right,
            taken_for=counted.taken_for,
            clean_taken_for=counted.clean_taken_for,
        )
        return Made(block.to_table())

    def kept(done: int) -> str:
        return f"what the other model says of {done} of {len(subject)} images under {name} is kept"

    label = f"transfer {name}"
    with resumable(run, log, verb="attack", label=label, unit="images", total=len(subject), kept=kept) as work:
        for _ in work.in_rounds(range(log.done, len(subject), BLOCK), make):
            pass
    outcomes = vote_outcomes([TransferBlock(**line) for line in log.lines])
    return Transfer(
        model=str(checkpoint.path),
        hash=checkpoint.hash,
        noise=noise,
        samples=m,
        votes=votes,
        images=len(outcomes.images),
        rules=figures_by_rule(outcomes, votes),
        outcomes=outcomes,
    )


def _short(value: object) -> str:
    return f"{len(value)} classes ({', '.join(value[:3])}, ...)" if isinstance(value, tuple) else f"{value}"
