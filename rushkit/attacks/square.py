"""Square attack (Andriushchenko et al. 2020): random search with squares, from scores alone."""

from __future__ import annotations

from rushkit.attacks import Norm
from rushkit.attacks.torchattacks_adapter import SQUARE_P_INIT, Adapted, family


def square(
    norm: Norm, eps: float, queries: int = 5000, restarts: int = 1, samples: int | None = None, seed: int = 0
) -> Adapted:
    """Square at the settings of official AutoAttack: 5000 queries, p 0.8, the unscaled schedule.

    Args:
        norm: "linf" or "l2".
        eps: Radius of the ball, pixel units.
        queries: Images asked of the model (each of ``samples`` draws) for one image.
        restarts: Searches an image.
        samples: Draws a query of a random model; None: its own m.
        seed: Of every draw.
    """
    options = {"n_queries": queries, "n_restarts": restarts, "p_init": SQUARE_P_INIT, "resc_schedule": False}
    return family("square", norm, eps, seed=seed, samples=samples, **options)
