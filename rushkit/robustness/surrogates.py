"""Attack through a stand-in: compare it with the model, and tell whether what fools it fools the model as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.attacks.guard import untouched
from rushkit.attacks.pgd import PGD
from rushkit.attacks.result import NothingFinite
from rushkit.attacks.scoring import count_right
from rushkit.models.draws import global_draws
from rushkit.models.precision import as_taken
from rushkit.noises import noisy_images
from rushkit.recipe.schema import Attack
from rushkit.results.adaptive import SurrogateUsed
from rushkit.results.notes import Note
from rushkit.robustness.jobs import Job, with_own_attacks
from rushkit.rounding import percent
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup.model import Classifier, load_classifier
from rushkit.setup.subject import Subject
from rushkit.setup.surrogate import Surrogate, make_surrogate_of
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine, derived_seed, generator

# Images on which a stand-in is compared with the model, steps of the attack on it alone, and draws in its gradients.
IMAGES, STEPS, DRAWS = 64, 20, 16
# Share of clean images below which a stand-in that answers otherwise is warned of.
AGREES_FROM = 0.9
# Share of the pixels of clean images above which a slope of zero is told.
_FLAT_FROM = 0.5


@dataclass(frozen=True)
class Compared:
    """A stand-in beside the model.

    Attributes:
        used: What the record keeps.
        flat: Share of the pixels of clean images, under the model's noise, at which the slope of all logits is zero.
        trial: What its trial showed, a sentence each.
    """

    used: SurrogateUsed
    flat: float
    trial: Sequence[str]

    def notes(self) -> list[Note]:
        """Return what a reader of the attack's figures should know."""
        used = self.used
        figures = {"agreement": used.agreement, "fooled": float(used.fooled), "carried": float(used.carried)}
        text = (
            f"the surrogate {used.code} answers {percent(used.agreement)} % of {used.images} clean images as the model "
            f"does; of {used.fooled} that fool it alone, {used.carried} fool the model too"
        )
        notes = [Note(code="surrogate-compared", text=text, figures=figures)]
        if used.agreement < AGREES_FROM:
            text = (
                f"the surrogate {used.code} answers only {percent(used.agreement)} % of clean images as the model "
                "does: its slopes may lead elsewhere, and a figure that is not low says little"
            )
            notes.append(Note(code="surrogate-disagrees", text=text, figures={"agreement": used.agreement}))
        if self.flat > _FLAT_FROM:
            text = (
                f"the slope of the surrogate {used.code} is zero at {percent(self.flat)} % of the pixels of clean "
                "images: a clamp passes none beyond its ends; clamp outside of it, or pass the slope through"
            )
            notes.append(Note(code="surrogate-flat", text=text, figures={"flat": self.flat}))
        return [*notes, *(Note(code="surrogate-behaves", text=text) for text in self.trial)]


def surrogates_of(jobs: Sequence[Job], classifier: Classifier) -> dict[str, Surrogate]:
    """Return the stand-in of each surrogate that jobs name, made and tried once; see ``make_surrogate_of``."""
    said = dict.fromkeys(job.section.surrogate for job in jobs if job.section.surrogate)
    return {name: make_surrogate_of(classifier, name) for name in said}


def check_named_code(jobs: Sequence[Job], checkpoint: Checkpoint) -> None:
    """Make the own attacks that jobs name, and the stand-ins, tried on a CPU, before there is a run.

    Raises:
        UsageError: as ``with_own_attacks`` and ``make_surrogate_of``.
        PluginError: the code raises an error.
    """
    with_own_attacks(jobs)
    if any(job.section.surrogate for job in jobs):
        surrogates_of(jobs, load_classifier(checkpoint, Machine(torch.device("cpu"), "float32")))


def compared(surrogate: Surrogate, subject: Subject, section: Attack, m: int, seed: int) -> Compared:
    """Compare a stand-in with the model on the first images of a subject, and attack the stand-in alone on them.

    Both see the same draws. The attack is PGD on the margin; what it finds is asked of the model by one vote of m
    draws.

    Args:
        surrogate: The stand-in.
        subject: The model and the images.
        section: Norm and eps of the ball.
        m: Number of draws in a vote.
        seed: Seeds every draw.
    """
    x, y = subject.batch(slice(0, IMAGES))
    keys, own = subject.indices[: len(x)], subject.classifier.random
    seed = derived_seed(seed, "surrogate")
    noisy = noisy_images(subject.noise, x, generator(seed, "surrogate", device=x.device))
    alone = SmoothedClassifier(surrogate.alone, subject.noise, min(m, DRAWS), subject.chunk or None, 0, own_draws=own)
    real = subject.smoothed(m)
    answers = [_answers(network, noisy, seed) for network in (surrogate.alone, subject.classifier.network)]
    clean = torch.tensor(count_right(real, x, y, 1, seed, keys, "surrogate clean")["majority"]) > 0
    fooled = carried = torch.zeros_like(clean)
    if section.eps > 0:
        attack = PGD(section.norm, section.eps, steps=STEPS, loss="margin", samples=alone.samples, seed=seed)
        try:
            result = attack.run(alone, x, y)
        except NothingFinite as error:
            result = error.result
        fooled = result.success.cpu() & clean
        after = torch.tensor(count_right(real, result.x_adv, y, 1, seed, keys, "surrogate")["majority"]) > 0
        carried = fooled & ~after
    used = SurrogateUsed(
        code=surrogate.code,
        sha256=surrogate.sha256,
        stands_for=surrogate.stands_for,
        images=len(x),
        agreement=float((answers[0] == answers[1]).double().mean()),
        fooled=int(fooled.sum()),
        carried=int(carried.sum()),
    )
    return Compared(used, _flat(surrogate.network, noisy, seed), surrogate.notes)


def _answers(network: nn.Module, x: Tensor, seed: int) -> Tensor:
    """Return the classes (N,) that a network answers with; it draws the same at every call."""
    with torch.no_grad(), untouched(network, seed), global_draws(seed, "surrogate", device=x.device):
        answers: Tensor = network(as_taken(network, x)).argmax(dim=1)
    return answers


def _flat(network: nn.Module, x: Tensor, seed: int) -> float:
    """Return the share of pixels at which the slope of the weighted sum of all logits is zero."""
    with torch.inference_mode(False), untouched(network, seed), torch.enable_grad():
        probe = x.clone().requires_grad_()
        with global_draws(seed, "surrogate", device=x.device):
            logits = network(as_taken(network, probe))
        weights = torch.linspace(1, 2, logits.shape[1], device=x.device)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), probe)
    return float((gradient == 0).double().mean())
