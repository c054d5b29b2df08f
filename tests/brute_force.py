"""Certified radii, held against the worst shift that a search finds; worst_case.py knows only the densities."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

FILE = Path(__file__).parents[1] / "benchmarks" / "worst_case.py"

NORMS = ("l1", "l2", "linf")
SCALES = (1e-3, 0.3, 1.0, 1e3)
ONE_CLASS = (0.5 + 1e-7, 0.5 + 1e-6, 0.51, 0.6, 0.75, 0.9, 0.99, 0.999, 1 - 1e-6, 1 - 1e-7, 1 - 1e-12, 1.0)
TWO_CLASSES = (
    (0.5, 0.5 - 1e-6), (0.5, 0.499), (0.5, 0.1), (0.6, 0.1), (0.9, 0.01), (0.4, 0.3),
    (0.3 + 1e-6, 0.3), (0.1, 0.05), (0.05, 0.002), (0.99, 1e-3), (1 - 1e-6, 1e-7), (0.7, 0.0),
)  # fmt: skip
_RANDOM_DIRECTIONS = 12
_ROUNDS, _PROPOSALS = 8, 4


def _worst_case():
    spec = importlib.util.spec_from_file_location("worst_case", FILE)
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks its own module up.
    sys.modules["worst_case"] = module
    spec.loader.exec_module(module)
    return module


worst_case = _worst_case()
LOSSES = {
    "uniform": worst_case.uniform_loss,
    "gaussian": worst_case.gaussian_loss,
    "laplace": worst_case.laplace_loss,
}
# By how much the lead may come out too small, so that no sound claim is called false: rounding.
SLACK = {"uniform": 0.0, "gaussian": 0.0, "laplace": 2e-13}


@dataclass(frozen=True)
class Cells:
    """(N,) bounds on the two top classes; where one class is bounded, the other is the rest. Units of the scale."""

    p_a: np.ndarray
    p_b: np.ndarray
    radius: np.ndarray
    two_classes: np.ndarray
    scale: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Cells:
        return Cells(self.p_a[which], self.p_b[which], self.radius[which], self.two_classes[which], self.scale[which])

    def __len__(self) -> int:
        return len(self.p_a)

    def with_radius(self, radius: np.ndarray) -> Cells:
        """Return the same bounds with other radii."""
        return replace(self, radius=radius)


def of_scale(kind, scale: float):
    """A noise of any scale; those above 10 are refused to users, though the formulas have no such end."""
    noise = kind(scale=1.0)
    object.__setattr__(noise, "scale", scale)
    return noise


def claims_of(
    kind, norm: str, dim: int, scales: Sequence[float], one_class: Sequence[float], two_classes: Sequence
) -> Cells:
    """What a noise certifies in one norm and dimension, at each scale, for one class and for pairs of two."""
    one = np.array(one_class)
    two_a, two_b = np.array(two_classes).reshape(-1, 2).T
    # The complement of a small bound is exact, so that nothing rests on how it is rounded.
    two_b = 1.0 - (1.0 - two_b)
    radii = []
    for scale in scales:
        noise = of_scale(kind, scale)
        radii += [
            noise.certified_radius(one, norm, dim) / scale,
            noise.certified_radius_two_class(two_a, two_b, norm, dim) / scale,
        ]
    times = len(scales)
    return Cells(
        np.tile(np.concatenate([one, two_a]), times),
        np.tile(np.concatenate([1.0 - one, two_b]), times),
        np.concatenate(radii),
        np.tile(np.repeat([False, True], [len(one), len(two_a)]), times),
        np.repeat(np.array(scales), len(one) + len(two_a)),
    )


def claimed(kind, norm: str, dim: int, scales: Sequence[float] = SCALES) -> Cells:
    """All the claims that a noise is tried on in one norm and dimension."""
    return claims_of(kind, norm, dim, scales, ONE_CLASS, TWO_CLASSES)


def lead(loss: Callable, cells: Cells, shifts: np.ndarray) -> np.ndarray:
    """(N,) the least by which class A still leads when the noise is shifted by (N, d) ``shifts``."""
    both = loss(np.concatenate([shifts, shifts]), np.concatenate([cells.p_a, 1.0 - cells.p_b]))
    return (cells.p_a - cells.p_b) - both[: len(cells)] - both[len(cells) :]


def unit(directions: np.ndarray, norm: str) -> np.ndarray:
    """Directions (..., d) of length 1 in a norm."""
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    return directions / np.linalg.norm(directions, order, axis=-1, keepdims=True)


def directions(norm: str, dim: int, rng: np.random.Generator) -> np.ndarray:
    """(D, d) an axis, the diagonals of every number of coordinates, and random ones; the noises are symmetric."""
    equal = np.tril(np.ones((dim, dim)))
    gaussian = np.abs(rng.standard_normal((_RANDOM_DIRECTIONS, dim)))
    # Some coordinates much longer than others.
    gaussian[::2] **= 3
    return unit(np.concatenate([equal, gaussian]) if dim > 1 else equal, norm)


def least_lead(loss: Callable, cells: Cells, norm: str, dim: int, seed: int = 0) -> np.ndarray:
    """(N,) the least lead over the shifts as long as each cell's radius: tried directions, then better ones nearby."""
    rng = np.random.default_rng(seed)
    length = cells.radius[:, None]
    first, *others = directions(norm, dim, rng)
    best = np.tile(first, (len(cells), 1))
    least = lead(loss, cells, length * best)

    def offer(proposed: np.ndarray) -> None:
        offered = lead(loss, cells, length * proposed)
        better = offered < least
        best[better], least[better] = proposed[better], offered[better]

    for direction in others:
        offer(np.tile(direction, (len(cells), 1)))
    if dim > 1:
        for spread in 0.3 * 0.6 ** np.arange(_ROUNDS):
            for _ in range(_PROPOSALS):
                offer(unit(np.abs(best + spread * rng.standard_normal(best.shape)), norm))
    return least


def false_claims(name: str, cells: Cells, norm: str, dim: int) -> list[str]:
    """The claims that some shift defeats, in words."""
    least = least_lead(LOSSES[name], cells.with_radius(cells.radius * (1.0 - 1e-9)), norm, dim)
    return [
        f"{name} {norm} d={dim} p_a={a!r} p_b={b!r} scale={scale!r}: radius {radius!r} scales, lead {left:g}"
        for a, b, radius, scale, left in zip(cells.p_a, cells.p_b, cells.radius, cells.scale, least, strict=True)
        if left < -SLACK[name]
    ]
