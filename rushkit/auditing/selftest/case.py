"""A case of the self-test: a planted defence or attack of which it is known whether it is broken, weak or sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from rushkit.attacks import Norm
from rushkit.attacks.pgd import PGD
from rushkit.auditing.planted import MakesAttack
from rushkit.auditing.selftest.ground import Ground
from rushkit.noises import Noise
from rushkit.noises.none import NoNoise

Kind = Literal["broken", "weak", "sound"]


@dataclass(frozen=True)
class Planted:
    """What a case builds.

    Attributes:
        model: The defence: (N, C, H, W) images in [0, 1] -> (N, K) logits. A K above the number of classes rejects.
        noise: The noise that smooths it.
        samples: m, the draws of noise in a vote.
        stand_in: (N, C, H, W) -> (N, K) logits with slopes that lead through the defence (BPDA: forward as the model,
            backward through a stand-in); None where the model's own slopes do.
        attack: Makes the attack under doubt.
    """

    model: nn.Module
    noise: Noise = field(default_factory=NoNoise)
    samples: int = 1
    stand_in: nn.Module | None = None
    attack: MakesAttack = PGD


@dataclass(frozen=True)
class Case:
    """A planted defence or attack, with the checks that ought to name its fault.

    Attributes:
        name: Its name, such as ``"rounding"``.
        kind: Whether the defence is broken, the attack weak, or both sound.
        norm: Norm of the ball that it is audited in.
        eps: Radius of the ball, pixel units.
        build: Trains or builds it on the ground.
        causes: Codes of the checks that name its fault; the case is caught if one of them fails. Empty if it is sound.
        naive: The attack behind the claim. "fresh": PGD of 40 steps of cross-entropy with one fresh draw a step.
            "held": the same on one draw for the whole attack, judged by another. "rejecting": as "fresh", stopped at
            the first answer that is wrong, with a rejection counted as right.
        held_out: Whether it was devised after the thresholds of the checks were fixed.
    """

    name: str
    kind: Kind
    norm: Norm
    eps: float
    build: Callable[[Ground], Planted]
    causes: tuple[str, ...] = ()
    naive: Literal["fresh", "held", "rejecting"] = "fresh"
    held_out: bool = False
