"""The two ways to attack: ``paper``, which reproduces the RUSH paper's figures, and ``strict``, which a user may quote.

A protocol says which attacks run, with which options, and how often fresh noise votes on what they return.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

from rushkit import registries
from rushkit.recipe.schema import Attack

ProtocolName = Literal["paper", "strict"]

# The paper's m for I_F+ is 64; fewer draws than this hide the gradient, whatever the model votes with.
STRICT_SAMPLES = 20
STRICT_STEPS = 40
STRICT_VOTES = 10
# Losses that fail for different reasons: eq. 7, its sum inside out, one that saturation cannot flatten, and the margin.
STRICT_LOSSES = ("nll", "ce", "dlr", "margin")
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

    def create(self, section: Attack) -> Any:
        """The attack under the section's norm and eps."""
        return registries.attacks.create(self.name, norm=section.norm, eps=section.eps, **self.options)


@dataclass(frozen=True)
class Plan:
    """What a protocol does with one model.

    Attributes:
        protocol: Its name.
        candidates: The attacks; each image keeps the one that fits it best.
        votes: T, how many independent votes of m draws judge each image.
        gradient_samples: Draws of noise in each gradient.
    """

    protocol: ProtocolName
    candidates: tuple[Candidate, ...]
    votes: int
    gradient_samples: int


def plan_attack(section: Attack, protocol: ProtocolName, samples: int, classes: int, seed: int) -> Plan:
    """What a protocol does under ``[[attack]]``; the section's own options come before the protocol's.

    Args:
        section: Type, norm, eps and options.
        protocol: ``paper`` or ``strict``.
        samples: m of the smoothed classifier.
        classes: K; the DLR loss needs three.
        seed: Of every draw.
    """
    strict = protocol == "strict"
    gradient_samples = int(section.options.get("samples", max(samples, STRICT_SAMPLES) if strict else samples))
    known = signature(registries.attacks.get(section.type)).parameters
    common = {"samples": gradient_samples, "seed": seed} | section.options
    if section.type != "pgd":
        options = {key: value for key, value in common.items() if key in known or key in section.options}
        candidates = [Candidate(section.type, section.type, options)]
    elif not strict:
        paper = {"steps": 40, "step_size": section.eps * PAPER_STEP or None, "random_start": False}
        candidates = [Candidate("pgd nll", "pgd", paper | {"best": "last", "noise": "fixed"} | common)]
    else:
        losses = [section.options["loss"]] if "loss" in section.options else STRICT_LOSSES
        candidates = [
            Candidate(f"pgd {loss}", "pgd", {"steps": STRICT_STEPS, "noise": "fresh", "loss": loss} | common)
            for loss in losses
            if classes > 2 or loss != "dlr"
        ]
    return Plan(protocol, tuple(candidates), STRICT_VOTES if strict else 1, gradient_samples)
