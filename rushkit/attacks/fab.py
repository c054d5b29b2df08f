"""Fast adaptive boundary attack (Croce and Hein 2020, "Minimally distorted adversarial examples")."""

from __future__ import annotations

from rushkit.attacks import Norm
from rushkit.attacks.torchattacks_adapter import Adapted, family


def fab(
    norm: Norm,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    targeted: bool = True,
    samples: int | None = None,
    seed: int = 0,
) -> Adapted:
    """FAB at the settings of official AutoAttack: FAB-T, 100 steps, up to 9 targets.

    It moves along the boundary towards the smallest perturbation; one within eps counts.

    Args:
        norm: "linf" or "l2".
        eps: Radius of the ball, pixel units.
        steps: Steps towards each target.
        restarts: Starts towards each target.
        targeted: Towards each of the 9 likeliest other classes, or (a backward pass a class) all at once.
        samples: Draws for each pass of a random model; None: its own m.
        seed: Seeds every draw.
    """
    options = {"steps": steps, "n_restarts": restarts, "multi_targeted": targeted}
    return family("fab", norm, eps, seed=seed, samples=samples, **options)
