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
        queries: Queries of the model for each image, of ``samples`` draws each.
        restarts: Searches for each image.
        samples: Draws for each query of a random model; None: its own m.
        seed: Seeds every draw.
    """
    options = {"n_queries": queries, "n_restarts": restarts, "p_init": SQUARE_P_INIT, "resc_schedule": False}
    return family("square", norm, eps, seed=seed, samples=samples, **options)
