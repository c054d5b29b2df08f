"""The two ways to attack: ``paper``, which reproduces the RUSH paper's figures, and ``strict``, which a user may quote.

A protocol says which attacks run, with which options, and how often fresh noise votes on what they return.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

from torch import Tensor, nn

from rushkit import registries
from rushkit.attacks.autoattack import AutoAttack
from rushkit.attacks.losses import classes_needed
from rushkit.attacks.search import GradientAttack
from rushkit.recipe.schema import Attack
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

ProtocolName = Literal["paper", "strict"]

# The paper's m for I_F+ is 64; fewer draws than this hide the gradient, whatever the model votes with. It is also the
# EOT of official AutoAttack, which strict keeps for any m.
STRICT_SAMPLES = 20
STRICT_STEPS = 40
STRICT_RESTARTS = 2
STRICT_VOTES = 10
# Losses that fail for different reasons: eq. 7, its sum inside out, one that saturation cannot flatten, and the margin.
STRICT_LOSSES = ("nll", "ce", "dlr", "margin")
PAPER_STEPS = 40
# How the note on a row under paper begins that was run with options of its own.
OTHER_THAN_PAPER = "not the paper's settings"
# The paper's step, 2/255 for eps 8/255, in parts of eps.
PAPER_STEP = 1 / 4


@dataclass(frozen=True)
class Candidate:
    """One attack of a protocol.

    Attributes:
        label: How reports call it, such as ``"pgd nll"``.
        name: Its registered name.
        options: What it is made with, beside norm and eps.
    """

    label: str
    name: str
    options: dict[str, Any]

    def create(self, section: Attack, block: int) -> Any:
        """The attack under the section's norm and eps, with draws of its own for the block that starts at ``block``."""
        options = self.options
        if "seed" in options:
            options = options | {"seed": derived_seed(options["seed"], "attack", block)}
        return registries.attacks.create(self.name, norm=section.norm, eps=section.eps, **options)


@dataclass(frozen=True)
class Plan:
    """What a protocol does with one model.

    Attributes:
        protocol: Its name.
        candidates: The attacks; each image keeps the one that fits it best.
        votes: T, how many independent votes of m draws judge each image.
        gradient_samples: Draws of noise in each gradient.
        panel: Whether the attack sees one panel of draws, as a model that is not random.
        notes: What a reader of the figures must know.
        deterministic: Whether there is no noise.
    """

    protocol: ProtocolName
    candidates: tuple[Candidate, ...]
    votes: int
    gradient_samples: int
    panel: bool = False
    notes: tuple[str, ...] = ()
    deterministic: bool = False


def plan_attack(
    section: Attack, protocol: ProtocolName, samples: int, classes: int, seed: int, deterministic: bool = False
) -> Plan:
    """What a protocol does under ``[[attack]]``; the section's own options come before the protocol's.

    Args:
        section: Type, norm, eps, draws a gradient and options.
        protocol: ``paper`` or ``strict``.
        samples: m of the smoothed classifier.
        classes: K; the DLR loss needs three, and four with a target.
        seed: Of every draw.
        deterministic: Whether there is no noise: one draw and one vote then say all.

    Raises:
        UsageError: an attack, a norm or an option that does not exist or fit.
    """
    strict = protocol == "strict"
    factory = registries.attacks.get(section.type)
    known = signature(factory).parameters
    suite = isinstance(factory, type) and issubclass(factory, AutoAttack)
    climbs = isinstance(factory, type) and issubclass(factory, GradientAttack)
    gradient_samples = section.eot or (max(samples, STRICT_SAMPLES) if strict else samples)
    if deterministic:
        samples = gradient_samples = 1
    options: dict[str, Any] = {"seed": seed} if "seed" in known else {}
    notes: list[str] = []
    if suite:
        options["version"] = section.options.get("version") or ("standard" if deterministic else "rand")
        if "version" not in section.options and not deterministic:
            notes.append("version rand, the default on a smoothed model; set `version` to standard for the other")
        if strict and not section.eot and not deterministic:
            # Official settings: EOT 20 in rand; standard asks the model as it is, with its own m.
            gradient_samples = STRICT_SAMPLES if options["version"] == "rand" else samples
    if strict and "samples" in known:
        options["samples"] = gradient_samples
    if climbs:
        options |= _climb_options(section, known, strict, gradient_samples)
    if not strict:
        notes += other_than_paper(
            section, {key: known[key].default for key in known} | options, gradient_samples, samples
        )
    options |= section.options
    # PGD knows itself how to attack one panel of noise; anything else is shown a model without noise.
    panel = not strict and "noise" not in options and not deterministic
    if panel:
        notes.append(f"one panel of {gradient_samples} draws stands for the model during the attack")
    losses = STRICT_LOSSES if strict and climbs and "loss" not in section.options else ()
    targeted = bool(section.options.get("targeted", False))
    fitting = [loss for loss in losses if classes >= classes_needed(loss, targeted)]
    if len(fitting) < len(losses):
        notes.append(f"no DLR loss: {classes} classes are too few for it")
    if strict:
        notes += weaker_than_strict(section, suite, climbs, options, gradient_samples, deterministic)
    candidates = [
        Candidate(f"{section.type} {loss}", section.type, options | {"loss": loss, "seed": derived_seed(seed, loss)})
        for loss in fitting
    ]
    chosen = tuple(candidates) or (Candidate(_label(section, options), section.type, options),)
    for candidate in chosen:
        candidate.create(section, 0)
    votes = 1 if deterministic else protocol_votes(protocol)
    return Plan(protocol, chosen, votes, gradient_samples, panel, tuple(notes), deterministic)


def protocol_votes(protocol: ProtocolName) -> int:
    """How many votes of fresh noise a protocol asks a model that has noise for."""
    return STRICT_VOTES if protocol == "strict" else 1


def other_than_paper(section: Attack, own: dict[str, Any], gradient_samples: int, samples: int) -> list[str]:
    """A note on options that differ from the protocol's ``own``: such a row does not reproduce the paper's."""
    given = {key: value for key, value in section.options.items() if key != "seed"}
    changed = [f"{key} {value}" for key, value in given.items() if value != own.get(key)]
    if gradient_samples != samples:
        changed.append(f"{gradient_samples} draws a gradient")
    return [f"{OTHER_THAN_PAPER}: {', '.join(changed)}"] if changed else []


def weaker_than_strict(
    section: Attack,
    suite: bool,
    climbs: bool,
    options: dict[str, Any],
    gradient_samples: int,
    deterministic: bool = False,
) -> list[str]:
    """Notes on settings that fall short of what ``strict`` stands for; the row is to be read with them."""
    if not suite and not climbs:
        return [f"{section.type} alone is less than strict asks for: several losses, restarts, fresh noise"]
    least = {"steps": 100 if suite else STRICT_STEPS, "restarts": STRICT_RESTARTS}
    short = [f"{key} {options[key]}" for key, value in least.items() if key in options and options[key] < value]
    if gradient_samples < STRICT_SAMPLES and options.get("version") != "standard" and not deterministic:
        short.append(f"{gradient_samples} draws a gradient")
    weak: dict[str, Any] = {"noise": "fixed", "best": "last", "random_start": False}
    if deterministic:
        del weak["noise"]
    short += [f"{key} {options[key]}" for key, value in weak.items() if options.get(key) == value and key in options]
    if climbs and "loss" in section.options:
        short.append(f"loss {section.options['loss']} only")
    return [f"weaker than strict asks for: {', '.join(short)}"] if short else []


class OnePanel(nn.Module):
    """A smoothed classifier on one fixed panel of its draws: (N, K) log p̄ of a model that is not random.

    Args:
        g: The classifier; its m is the size of the panel.
        seed: Of the panel.
    """

    def __init__(self, g: SmoothedClassifier, seed: int) -> None:
        super().__init__()
        self.g = g
        self._seed = seed

    def forward(self, x: Tensor) -> Tensor:
        """Differentiable log p̄."""
        with self.g.fixed_noise(self._seed):
            return self.g(x)


def _climb_options(section: Attack, known: Any, strict: bool, gradient_samples: int) -> dict[str, Any]:
    """The protocol's options of an attack that climbs a loss."""
    if strict:
        wanted: dict[str, Any] = {"restarts": STRICT_RESTARTS, "noise": "fresh"}
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


def _label(section: Attack, options: dict[str, Any]) -> str:
    """Such as ``"pgd nll"`` or ``"autoattack rand"``."""
    if section.type == "pgd":
        return f"pgd {options.get('loss', 'nll')}"
    return f"{section.type} {options['version']}" if "version" in options else section.type
