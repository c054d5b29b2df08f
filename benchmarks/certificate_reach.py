"""How much of the optimum certified radii reach, for every noise, norm and size of image: a Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/certificate_reach.py
    OMP_NUM_THREADS=1 python benchmarks/certificate_reach.py --pages docs

The optimum is the length of the shortest shift that defeats some classifier with this probability of its class. It
comes from the densities alone (benchmarks/worst_case.py), not from the theorems behind the radii. Where the worst
direction is not known, it is bounded from above by the shortest such shift among those tried, and the share is "at
least". A share is rounded down. The second line writes the table into certificates.md. Both take about 80 seconds on
one thread, and end with an error if a radius exceeds its optimum.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import worst_case
from scipy import fft, optimize
from worst_case import Mixture

from rushkit import noises
from rushkit.noises import Noise, Norm
from rushkit.noises.split import Split

MARK = "<!-- reach: benchmarks/certificate_reach.py writes from here -->", "<!-- reach: to here -->"
NORMS: dict[Norm, str] = {"l1": "l1", "l2": "l2", "linf": "l-inf"}
DIMS = (1, 2, 4, 192, 3072, 150528)
PROBABILITIES = (0.6, 0.9, 0.99, 0.999)
SCALE = 0.3
LEVELS = 255
# Pixels that a classifier of the splitting noise looks at: more of them tell it nothing new.
SEEN = 3072


@dataclass(frozen=True)
class Optimum:
    """The largest radius that could be certified.

    Attributes:
        radius: It, or a bound from above; pixel units.
        known: Whether the worst direction is known, so that no smaller radius is possible.
    """

    radius: float
    known: bool


def root(lead: Callable[[float], float], high: float, rtol: float = 1e-14) -> float:
    """Return where a lead that falls from above 0 reaches 0."""
    while lead(high) > 0.0:
        high *= 2.0
    return float(optimize.brentq(lead, 0.0, high, xtol=high * rtol / 10.0, rtol=rtol))


def gaussian(norm: Norm, dim: int, p: float) -> Optimum:
    """The noise is round: only the l2 norm of a shift counts, which in an l-inf ball is largest on the diagonal."""
    bound = np.array([p])
    length = root(lambda r: p - 0.5 - float(worst_case.gaussian_loss(np.array([[r]]), bound)[0]), 1.0)
    return Optimum(SCALE * length / (math.sqrt(dim) if norm == "linf" else 1.0), known=True)


def uniform(norm: Norm, dim: int, p: float) -> Optimum:
    """The shortest of the diagonals of k coordinates; the loss is 1 − ∏(1 − |vᵢ|/2), so k is 1 in l1, else d."""
    equal = np.unique(np.geomspace(1, dim, 40).round())
    single = -2.0 * np.expm1(np.log1p(0.5 - p) / equal)
    return Optimum(SCALE * float(np.min(single * lengths(norm, equal))), known=True)


def laplace(norm: Norm, dim: int, p: float) -> Optimum:
    """In l1 an axis, in l-inf the diagonal; in l2 the shortest of the mixtures tried."""
    axis = -math.log(2.0 * (1.0 - p))
    if norm == "l1" or dim == 1:
        return Optimum(SCALE * axis, known=True)
    if norm == "linf":
        return Optimum(SCALE * worst_case.laplace_optimum(equal_coordinates(dim), norm, p)[1], known=True)
    tried = (worst_case.laplace_optimum(mixture, norm, p)[1] for mixture in mixtures(dim))
    return Optimum(SCALE * min(axis, *tried), known=False)


def lengths(norm: Norm, equal: np.ndarray) -> np.ndarray:
    """Return the norms of so many ones."""
    return {"l1": equal, "l2": np.sqrt(equal), "linf": np.ones_like(equal)}[norm]


def equal_coordinates(count: int) -> Mixture:
    """Return the diagonal of so many coordinates, cut the finer the fewer they are."""
    return Mixture((count,), (max(6, round(600 / math.sqrt(count))),))


def mixtures(dim: int) -> Iterator[Mixture]:
    """Yield diagonals of 2 to d coordinates, and all of them with one or a few that are longer."""
    for count in sorted({min(dim, k) for k in (2, 3, 4, 6, 10, 30, 100, 1000, dim)}):
        yield equal_coordinates(count)
    for few, share in itertools.product((1, 2, 10), (0.1, 0.3, 0.5, 0.7, 0.9)):
        rest = dim - few
        if rest > 0:
            short = equal_coordinates(rest).multiples[0]
            # So that the few hold this share of the squared length.
            long = round(short * math.sqrt(share / (1.0 - share) * rest / few))
            if long > 0:
                yield Mixture((few, rest), (long, short))


def discrete_gaussian(norm: Norm, dim: int, p: float) -> Optimum:
    """What a half-line of the sum of k rounded pixels defeats: a bound, as another set of them may do more."""
    counts = {"l1": {1}, "l2": {1, dim}, "linf": {dim}}[norm]
    shortest = min(half_line_optimum(count, p) for count in counts)
    return Optimum(SCALE * shortest / (math.sqrt(dim) if norm == "linf" else 1.0), known=False)


@cache
def half_line_optimum(count: int, p: float) -> float:
    """Return the l2 norm, in units of σ, from which on equal shifts of so many pixels take a half-line below 1/2."""
    single = root(lambda shift: half_line(count, shift, p) - 0.5, 1.0 / math.sqrt(count), rtol=1e-7)
    return single * (1.0 + 1e-6) * math.sqrt(count)


def half_line(count: int, shift: float, p: float) -> float:
    """Return what the half-line of probability p keeps: sums of rounded pixels that are all shifted, units of σ."""
    steps = SCALE * LEVELS
    spread = math.ceil((10.0 * math.sqrt(count) + count * shift + 10.0) * steps)
    size = fft.next_fast_len(2 * spread + 1, real=True)
    levels = np.arange(-spread, spread + 1)

    def cumulated(center: float) -> np.ndarray:
        circle = np.zeros(size)
        circle[levels % size] = worst_case.rounded_gaussian(center * steps, steps, levels)
        return np.maximum(fft.irfft(fft.rfft(circle) ** count, size)[levels % size], 0.0).cumsum()

    # A randomised end: the share of the last value that makes the probability p.
    return float(np.interp(p, cumulated(0.0), cumulated(shift)))


def split(norm: Norm, dim: int, p: float) -> Optimum:
    """What is defeated by moving k pixels of a grey image alike; all M noisy versions are compared, pixel by pixel."""
    counts = {"l1": {1}, "l2": {2**power for power in range(SEEN.bit_length())}, "linf": {dim}}[norm]
    seen = min(dim, SEEN)
    tried = []
    for count in {min(k, seen) if norm == "linf" else k for k in counts if norm == "linf" or k <= seen}:
        if p - 0.5 < split_loss(seen, count, 100.0, p):
            move = root(lambda v, k=count: p - 0.5 - split_loss(seen, k, v, p), 1.0)
            tried.append(move / LEVELS * float(lengths(norm, np.array(float(count)))))
    return Optimum(min(tried), known=norm == "l1")


def split_loss(seen: int, count: int, move: float, p: float) -> float:
    """Return p − T(p) where ``count`` pixels of ``seen`` move by this many grey levels, whole or not."""
    whole = math.floor(move)
    part = move - whole
    before, below, above = (split_versions(seen, count, level) for level in (0, whole, whole + 1))
    values = list({**before, **below, **above})
    masses, low, high = (np.array([versions[value] for value in values]) for versions in (before, below, above))
    total = masses.sum()
    # A pixel between two levels is dithered.
    return worst_case.finite_loss(masses / total, ((1.0 - part) * low + part * high) / total, p)


@cache
def split_versions(seen: int, count: int, level: int) -> Counter[bytes]:
    """Return the noisy versions of a grey image whose first ``count`` pixels are ``level`` levels lighter."""
    image = torch.full((1, 1, 1, seen), 100.0)
    image[..., :count] += level
    return Counter(version.numpy().tobytes() for version in Split(scale=SCALE).exhaustive(image / LEVELS))


OPTIMA: dict[str, Callable[[Norm, int, float], Optimum]] = {
    "gaussian": gaussian,
    "discrete-gaussian": discrete_gaussian,
    "uniform": uniform,
    "laplace": laplace,
    "split": split,
}


def share(noise: Noise, name: str, norm: Norm, dim: int, p: float) -> str:
    """Return a cell of the table: the share of the optimum that is certified, rounded down.

    Raises:
        SystemExit: the radius exceeds the optimum, so that the certificate is false.
    """
    optimum = OPTIMA[name](norm, dim, p)
    certified = noise.certified_radius(p, norm, dim)
    if certified > optimum.radius * (1.0 + 1e-9):
        sys.exit(f"false certificate: {name} {norm}, d {dim}, p {p}: {certified!r} > {optimum.radius!r}")
    ratio = certified / optimum.radius
    if ratio > 1.0 - 1e-9:
        return "1"
    digits = 3 if ratio >= 0.01 else 5
    floored = math.floor(ratio * 10**digits) / 10**digits
    return f"{'' if optimum.known else '≥ '}{floored:.{digits}f}"


def table() -> str:
    """Return the table; sizes of image whose shares are the same share a row."""
    head = ["noise", "norm", "d", *(f"p = {p}" for p in PROBABILITIES)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 3 + "---:|" * len(PROBABILITIES)]
    for name in OPTIMA:
        noise = noises.create(name, scale=SCALE)
        for norm, word in NORMS.items():
            shares = [(dim, [share(noise, name, norm, dim, p) for p in PROBABILITIES]) for dim in DIMS]
            for cells, rows in itertools.groupby(shares, key=lambda row: row[1]):
                dims = [str(dim) for dim, _ in rows]
                sizes = dims[0] if len(dims) == 1 else f"{dims[0]} to {dims[-1]}"
                lines.append("| " + " | ".join([f"`{name}`", word, sizes, *cells]) + " |")
    return "\n".join(lines) + "\n"


def write_page(docs: Path, text: str) -> None:
    """Write the table into certificates.md between its marks."""
    page = docs / "certificates.md"
    before, rest = page.read_text(encoding="utf-8").split(MARK[0])
    _, after = rest.split(MARK[1])
    page.write_text(f"{before}{MARK[0]}\n\n{text}\n{MARK[1]}{after}", encoding="utf-8")


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, help="the folder of certificates.md, to be brought up to date")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = table()
    if arguments.pages:
        write_page(arguments.pages, text)
    print(text)


if __name__ == "__main__":
    main()
