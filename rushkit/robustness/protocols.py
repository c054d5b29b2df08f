"""The two ways to attack: ``paper``, which reproduces the RUSH paper's figures, and ``strict``, which a user may quote.

A protocol says which attacks run, with which options, and how often fresh noise votes on the images they return. A row
with other settings says so, and is not called strict unless its settings are at least as strong.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import Tensor, nn

from rushkit import registries
from rushkit.attacks.abilities import ChecksFit
from rushkit.attacks.apgd import APGD
from rushkit.attacks.autoattack import AutoAttack
from rushkit.attacks.losses import classes_needed
from rushkit.attacks.pgd import PGD
from rushkit.recipe.radius import eps_words
from rushkit.recipe.schema import Attack
from rushkit.results.attacks import Deviation, Protocol
from rushkit.results.notes import Note
from rushkit.robustness.deviations import ProtocolName, deviations_from, label_of
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

# The paper's m for I_F+ is 64; fewer draws than this hide the gradient, whatever the model votes with. It is also the
# EOT of official AutoAttack, which strict keeps for any m.
STRICT_SAMPLES = 20
STRICT_STEPS = 40
STRICT_RESTARTS = 2
STRICT_VOTES = 10
# Losses that fail for different reasons: eq. 7, its sum inside out, one that saturation cannot flatten, and the margin.
STRICT_LOSSES = ("nll", "ce", "dlr", "margin")
PAPER_STEPS = 40
# The attacks that strict has settings for. Any other one runs once, at its own, and is weaker than strict.
STRICT_ATTACKS = (PGD, APGD, AutoAttack)
# The paper's step, 2/255 for eps 8/255, in parts of eps.
PAPER_STEP = 1 / 4


# The options of an attack by name; the attack itself checks their types.
Options = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """One attack of a protocol.

    Attributes:
        label: The name that reports use, such as ``"pgd nll"``.
        name: The registered name of the attack.
        options: Its options, beside norm and eps.
    """

    label: str
    name: str
    options: Options

    def create(self, section: Attack, block: int) -> Any:
        """Make the attack under the section's norm and eps, with draws for the block that starts at ``block``."""
        options = self.options
        if "seed" in options:
            options = options | {"seed": derived_seed(options["seed"], "attack", block)}
        return registries.attacks.create(self.name, norm=section.norm, eps=section.eps, **options)


@dataclass(frozen=True)
class Plan:
    """The attacks of a protocol on one model.

    Attributes:
        protocol: The name of the protocol.
        candidates: The attacks; each image keeps the version that fools the model most.
        votes: T, how many independent votes of m draws judge each image.
        gradient_samples: Draws of noise in each gradient.
        panel: Whether the attack sees one panel of draws, as a model that is not random.
        notes: What a reader of the figures must know.
        deterministic: Whether there is no noise.
        deviations: Settings that differ from the protocol's.
    """

    protocol: ProtocolName
    candidates: tuple[Candidate, ...]
    votes: int
    gradient_samples: int
    panel: bool = False
    notes: tuple[Note, ...] = ()
    deterministic: bool = False
    deviations: tuple[Deviation, ...] = ()

    @property
    def label(self) -> Protocol:
        """The label of its row: ``weaker`` where the deviations make it weaker than strict."""
        return label_of(self.protocol, self.deviations)


def plan_attack(
    section: Attack,
    protocol: ProtocolName,
    samples: int,
    classes: int,
    seed: int,
    deterministic: bool = False,
    image_size: int | None = None,
) -> Plan:
    """Plan the attacks of a protocol under ``[[attack]]``; the section's own options come before the protocol's.

    Args:
        section: Type, norm, eps, draws a gradient and options.
        protocol: ``paper`` or ``strict``.
        samples: m of the smoothed classifier.
        classes: K; the DLR loss needs three, and four with a target.
        seed: Seeds every draw.
        deterministic: Whether there is no noise: one draw and one vote then say all.
        image_size: Side of the images; None: whether the attack fits them shows when it runs.

    Raises:
        UsageError: an attack, a norm or an option that does not exist or fit, or too few classes for the attack.
    """
    strict = protocol == "strict"
    factory = registries.attacks.get(section.type)
    known = signature(factory).parameters
    climbs = factory in (PGD, APGD)
    samples = 1 if deterministic else samples
    own: Options = {"seed": seed} if "seed" in known else {}
    notes: list[Note] = []
    if isinstance(factory, type) and issubclass(factory, AutoAttack):
        own["version"] = "standard" if deterministic else "rand"
        if "version" not in section.options and not deterministic:
            text = "version rand, the default on a smoothed model; set `version` to standard for the other"
            notes.append(Note(code="rand-version", text=text))
    version = section.options.get("version", own.get("version"))
    own_draws = _own_draws(strict, samples, str(version) if version else None, deterministic)
    gradient_samples = own_draws if deterministic else section.eot or own_draws
    if strict and "samples" in known:
        own["samples"] = gradient_samples
    if climbs:
        own |= _climb_options(section, known, strict, gradient_samples)
    options = own | section.options
    # PGD knows itself how to attack one panel of noise; anything else is shown a model without noise.
    panel = not strict and "noise" not in options and not deterministic
    if panel:
        text = f"one panel of {gradient_samples} draws stands for the model during the attack"
        notes.append(Note(code="one-panel", text=text, figures={"draws": gradient_samples}))
    losses = STRICT_LOSSES if strict and climbs and "loss" not in section.options else ()
    targeted = bool(section.options.get("targeted", False))
    fitting = [loss for loss in losses if classes >= classes_needed(loss, targeted)]
    if len(fitting) < len(losses):
        text = f"no DLR loss: {classes} classes are too few for it"
        notes.append(Note(code="no-dlr", text=text, figures={"classes": classes}))
    notes += _short_steps(section, {key: known[key].default for key in known} | options)
    candidates = [
        Candidate(f"{section.type} {loss}", section.type, options | {"loss": loss, "seed": derived_seed(seed, loss)})
        for loss in fitting
    ]
    planned = tuple(candidates) or (Candidate(_label(section, options), section.type, options),)
    for candidate in planned:
        attack = candidate.create(section, 0)
        if image_size is not None and isinstance(attack, ChecksFit):
            attack.check_fit(classes, image_size, image_size)
    return Plan(
        protocol,
        planned,
        votes=1 if deterministic else protocol_votes(protocol),
        gradient_samples=gradient_samples,
        panel=panel,
        notes=tuple(notes),
        deterministic=deterministic,
        deviations=_deviations(section, factory, strict, own, gradient_samples, own_draws, deterministic),
    )


def protocol_votes(protocol: ProtocolName) -> int:
    """Return how many votes of fresh noise a protocol takes of a model that has noise."""
    return STRICT_VOTES if protocol == "strict" else 1


def _own_draws(strict: bool, samples: int, version: str | None, deterministic: bool) -> int:
    """How many draws the protocol itself takes for each gradient."""
    if deterministic or not strict:
        return samples
    if version is None:
        return max(samples, STRICT_SAMPLES)
    # Official settings: EOT 20 in rand; standard queries the model as it is, with its own m.
    return STRICT_SAMPLES if version == "rand" else samples


def _deviations(
    section: Attack,
    factory: Any,
    strict: bool,
    own: Options,
    gradient_samples: int,
    own_draws: int,
    deterministic: bool,
) -> tuple[Deviation, ...]:
    """The settings that differ from the protocol's, but for seeds and those that have no effect without noise."""
    defaults = {name: parameter.default for name, parameter in signature(factory).parameters.items()}
    own = defaults | own | {"eot": own_draws}
    idle = ("seed", *(("noise", "selection_samples") if deterministic else ()))
    given = {"eot": gradient_samples} | {name: value for name, value in section.options.items() if name not in idle}
    if strict:
        if factory not in STRICT_ATTACKS:
            own["type"], given["type"] = tuple(known.__name__.lower() for known in STRICT_ATTACKS), section.type
        elif factory is not AutoAttack:
            own["loss"] = STRICT_LOSSES
        if factory is PGD:
            own["step_size"] = "eps/2 falling to 0"
        if "selection_samples" in defaults:
            own["selection_samples"] = max(own_draws, STRICT_SAMPLES)
    return tuple(deviations_from(own, given))


def _short_steps(section: Attack, options: Options) -> list[Note]:
    """Note where all steps of a fixed length, laid end to end, do not reach from the image to the ball's surface."""
    length = options.get("step_size", options.get("alpha"))
    steps = options.get("steps")
    if not isinstance(length, int | float) or not isinstance(steps, int) or not length * steps < section.eps:
        return []
    reach, radius = f"{length * steps:.4g}", eps_words(section.eps)
    text = f"{steps} steps of {length:.4g} reach {reach}, and the ball has the radius {radius}"
    return [Note(code="short-steps", text=text, figures={"reach": length * steps, "eps": section.eps})]


class OnePanel(nn.Module):
    """A smoothed classifier on one fixed panel of its draws: (N, K) log p̄ of a model that is not random.

    Args:
        g: The classifier; its m is the size of the panel.
        seed: Seeds the panel.
    """

    def __init__(self, g: SmoothedClassifier, seed: int) -> None:
        super().__init__()
        self.g = g
        self._seed = seed

    def forward(self, x: Tensor) -> Tensor:
        """Differentiable log p̄."""
        with self.g.fixed_noise(self._seed):
            log_prob: Tensor = self.g(x)
        return log_prob


def _climb_options(section: Attack, known: Any, strict: bool, gradient_samples: int) -> Options:
    """The protocol's options for an attack that climbs a loss."""
    if strict:
        wanted: Options = {"restarts": STRICT_RESTARTS, "noise": "fresh"}
        return {key: value for key, value in wanted.items() if key in known} | (
            {"steps": STRICT_STEPS} if known["steps"].default < STRICT_STEPS else {}
        )
    if "noise" not in known:
        return {}
    return {
        "samples": gradient_samples,
        "steps": PAPER_STEPS,
        "step_size": section.eps * PAPER_STEP or None,
        "random_start": False,
        "best": "last",
        "noise": "fixed",
    }


def _label(section: Attack, options: Options) -> str:
    """Such as ``"pgd nll"`` or ``"autoattack rand"``."""
    if section.type == "pgd":
        return f"pgd {options.get('loss', 'nll')}"
    return f"{section.type} {options['version']}" if "version" in options else section.type
