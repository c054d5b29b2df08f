"""Certified radii and sequential tests: by norm inequalities, as rushkit proves them, at best, and by two peers.

    OMP_NUM_THREADS=1 python benchmarks/certificates.py
    OMP_NUM_THREADS=1 python benchmarks/certificates.py --rs4a rs4a --conf-seq RS_conf_seq --keep
    python benchmarks/certificates.py --pages docs

The first line takes about a minute on one thread. The second runs the peers as well, from copies of their
repositories (``benchmarks/certificate_peers.py`` names them), and keeps the figures in
benchmarks/certificates.json. The third writes the kept table into certificates.md.

"Norm inequality" is what certificates rested on before: l1 radii divided by √d or d, the two-class radius as the larger
of two bounds, and a betting test of both sides that looks every 100 draws. Its formulas are written out here, so the
column stays what it is. Scales λ and b are 1: radii are proportional to them. Everything is exact and repeats to the
last digit, but for the times: processor time, the best of several turns.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import certificate_exact as exact
import certificate_reach
import mpmath
import numpy as np
import torch
from certificate_peers import ConfSeq, Rs4a, peers_of
from numpy.typing import NDArray
from scipy.special import betaln, xlog1py, xlogy
from sequential_exact import Boundaries, ever_certified, ever_refuted, one_sided, outcome, two_sided

from rushkit.certificates import certify_counts
from rushkit.certification.tasks import looks
from rushkit.errors import UsageError
from rushkit.files import write_atomic
from rushkit.noises import Norm
from rushkit.noises.laplace import Laplace
from rushkit.noises.uniform import Uniform
from rushkit.speed.bench import race
from rushkit.system import Machine

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "certificates.json"
MARK = "<!-- certificates: benchmarks/certificates.py writes from here -->", "<!-- certificates: to here -->"

Kind = Literal["radius", "draws", "false claims", "time", "error"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALPHA = 0.001
UNIFORM, LAPLACE = Uniform(scale=1.0), Laplace(scale=1.0)
# Probabilities of one call where speed is measured, images of the two-class one, and seconds of a race.
RADII, IMAGES, SECONDS = 10_000, 200, 1.0
# Draws within which sequential tests decide, but for a negligible share of images.
LONGEST, LEFT_OVER = 6001, 1e-9
# A dimension that no other row asks for: what its first call prepares is prepared then.
FRESH = 3069


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        kind: What its figures are.
        quantity: What is compared.
        before: By norm inequalities.
        now: By rushkit.
        best: The optimum; None where it is not known.
        bound: Whether the optimum is known to be no better than ``best``, and not to reach it.
        rs4a: By rs4a; None where it has no such figure, or was not run.
        conf_seq: By RS_conf_seq, likewise.
    """

    kind: Kind
    quantity: str
    before: float | None
    now: float
    best: float | None = None
    bound: bool = False
    rs4a: float | None = None
    conf_seq: float | None = None

    @property
    def gain(self) -> float | None:
        """How many times better than norm inequalities: larger radii, fewer draws, less time."""
        if self.before is None or self.kind in ("error", "false claims"):
            return None
        return self.now / self.before if self.kind == "radius" else self.before / self.now


@dataclass(frozen=True)
class Drawn:
    """Sequential tests whose mean draws are compared.

    Attributes:
        said: When they look, in words.
        before: The looks of the test of both sides.
        now: Those of rushkit's.
        cases: p0 -> each p.
    """

    said: str
    before: Sequence[int]
    now: Sequence[int]
    cases: Mapping[float, Sequence[float]]


EVERY = range(1, LONGEST)
AT_EVERY_DRAW = Drawn("a look at every draw", EVERY, EVERY, {0.5: (0.6, 0.9, 0.99), 0.8413: (0.9, 0.7)})
AS_TESTED = Drawn("as tested", range(100, LONGEST, 100), looks(100_000), {0.5: (0.6, 0.9, 0.99), 0.8413: (0.9,)})


def before_radius(l1: float, norm: Norm, dim: int) -> float:
    """Return the radius that an l1 radius implies: ‖v‖₁ <= √d ‖v‖₂ and ‖v‖₁ <= d ‖v‖∞."""
    return l1 / {"l1": 1.0, "l2": math.sqrt(dim), "linf": float(dim)}[norm]


def before_two_class(p_a: float, p_b: float) -> float:
    """Return the two-class l1 radius of Laplace noise, b = 1, as the larger of two bounds."""
    return max(math.log(p_a / p_b) / 2.0, -math.log1p(p_b - p_a))


def before_betting_lower(successes: Floats, trials: Floats, alpha: float) -> Floats:
    """Return the lower ends of the betting confidence sequence by bisection: (n,) counts -> (n,)."""
    wealth = betaln(successes + 0.5, trials - successes + 0.5) - math.log(math.pi)
    low, high = np.zeros(len(successes)), successes / trials
    while True:
        middle = (low + high) / 2.0
        if np.all((middle <= low) | (middle >= high)):
            return low
        claimed = wealth - xlogy(successes, middle) - xlog1py(trials - successes, -middle) >= -math.log(alpha)
        low, high = np.where(claimed, middle, low), np.where(claimed, high, middle)


def before_two_class_bounds(estimation: Integers, alpha: float) -> None:
    """Bound the top class and all others of each image: two bisections a row."""
    for counts in estimation:
        trials, share = np.full(len(counts), float(counts.sum())), alpha / len(counts)
        top = counts.argmax()
        before_betting_lower(counts[top : top + 1], trials[:1], share)
        before_betting_lower(trials[1:] - np.delete(counts, top), trials[1:], share)


def radius_rows(rs4a: Rs4a | None) -> Iterator[Row]:
    """Yield the rows of radii."""
    for p, said in ((0.6, "0.6"), (0.9, "0.9"), (1 - 1e-9, "1 − 1e-9")):
        yield Row(
            "radius",
            f"uniform, l2, d 3072, p {said}",
            before_radius(2.0 * (p - 0.5), "l2", 3072),
            UNIFORM.certified_radius(p, "l2", 3072),
            optimum(certificate_reach.uniform("l2", 3072, p)),
            rs4a=rs4a and rs4a.radius("uniform", "l2", p, 3072),
        )
    for dim in (192, 3072, 150528):
        yield Row(
            "radius",
            f"Laplace, l-inf, d {dim}, p 0.9",
            before_radius(math.log(5.0), "linf", dim),
            LAPLACE.certified_radius(0.9, "linf", dim),
            optimum(certificate_reach.laplace("linf", dim, 0.9)),
            rs4a=rs4a and rs4a.laplace_linf(0.9, dim),
        )
    for p, dim in ((0.9, 3072), (0.999, 12)):
        l1 = -math.log(2.0 * (1.0 - p))
        yield Row(
            "radius",
            f"Laplace, l2, d {dim}, p {p}",
            before_radius(l1, "l2", dim),
            LAPLACE.certified_radius(p, "l2", dim),
            optimum(certificate_reach.laplace("l2", dim, p)),
            bound=True,
            # Its l2 radius is the larger of the l1 radius / √d and of the one in l-inf, here by the sound mode.
            rs4a=rs4a and max(before_radius(l1, "l2", dim), rs4a.laplace_linf(p, dim)),
        )
    p_a, p_b = 0.99, 0.0001
    yield Row(
        "radius",
        f"Laplace, l1, two classes, pA {p_a}, pB {p_b}",
        before_two_class(p_a, p_b),
        LAPLACE.certified_radius_two_class(p_a, p_b, "l1", 3072),
        float(exact.laplace_l1_two_class(p_a, p_b)),
    )


def optimum(reach: certificate_reach.Optimum) -> float:
    """Return the radius at a scale of 1 that no certificate can pass."""
    return reach.radius / certificate_reach.SCALE


def draws_rows(conf_seq: ConfSeq | None, tests: Sequence[Drawn]) -> Iterator[Row]:
    """Yield the rows of sequential tests. RS_conf_seq looks at every draw, whatever the others do."""
    for drawn in tests:
        for p0, probabilities in drawn.cases.items():
            before = Boundaries.of(two_sided([p0], ALPHA), drawn.before)
            now = Boundaries.of(one_sided([p0], ALPHA), drawn.now)
            theirs = conf_seq and conf_seq.boundaries(p0, ALPHA, LONGEST)
            for p in probabilities:
                yield Row(
                    "draws",
                    f"draws, {drawn.said}: p0 {p0}, p {p}",
                    mean_draws(before, p),
                    mean_draws(now, p),
                    exact.fewest_draws(p, p0, ALPHA),
                    bound=True,
                    conf_seq=theirs and mean_draws(theirs, p),
                )


def mean_draws(stops: Boundaries, p: float) -> float:
    """Return the mean number of draws of a test that decides almost surely within its looks.

    Raises:
        ValueError: it often does not.
    """
    end = outcome(p, stops)
    if end.undecided > LEFT_OVER:
        raise ValueError(f"{end.undecided:g} of the images are undecided at the last look")
    return end.mean_draws


def false_claim_rows(conf_seq: ConfSeq | None) -> Iterator[Row]:
    """Yield how often the likelier kind of false claim is made at p = p0, exactly."""
    alpha, longest = 0.05, 4000
    for p0 in (0.5, 0.9):
        tests = [Boundaries.of(test([p0], alpha), range(1, longest + 1)) for test in (two_sided, one_sided)]
        before, now = (likelier_false_claim(p0, stops) for stops in tests)
        theirs = conf_seq and likelier_false_claim(p0, conf_seq.boundaries(p0, alpha, longest))
        quantity = f"false claims of the likelier kind in {longest} looks: p = p0 {p0}, alpha {alpha}"
        yield Row("false claims", quantity, before, now, alpha, bound=True, conf_seq=theirs)


def likelier_false_claim(p0: float, stops: Boundaries) -> float:
    """Return the larger of the probabilities that p > p0 and that p < p0 is ever claimed where p = p0."""
    certified = ever_certified(p0, stops.certify[0], stops.looks)
    return max(certified, ever_refuted(p0, stops.refute[0], stops.looks))


def time_rows(rs4a: Rs4a | None) -> Iterator[Row]:
    """Yield the rows of speed, in milliseconds."""
    p = np.linspace(0.5, 1.0 - 1e-9, RADII)
    theirs = torch.from_numpy(p)
    l1 = {UNIFORM: lambda: 2.0 * (p - 0.5), LAPLACE: lambda: -np.log1p(1.0 - 2.0 * p)}
    for noise, norm, said in (
        (UNIFORM, "l2", "uniform, l2"),
        (LAPLACE, "l2", "Laplace, l2"),
        (LAPLACE, "linf", "Laplace, l-inf"),
    ):
        contestants: dict[str, Callable[[], object]] = {
            "before": lambda noise=noise, norm=norm: l1[noise]() / before_radius(1.0, norm, 3072),
            "now": lambda noise=noise, norm=norm: noise.certified_radius(p, norm, 3072),
        }
        if rs4a:
            contestants["rs4a"] = (
                (lambda: rs4a.look_up(theirs))
                if norm == "linf"
                else (lambda noise=noise, norm=norm: rs4a.radii(noise.name, norm, theirs, 3072))
            )
        yield raced(f"ms for {RADII} radii: {said}, d 3072", contestants)
    table_ms = rs4a and rs4a.table_ms(3072)
    yield Row("time", "ms for the first such call, and what it prepares", None, first_radii(p), rs4a=table_ms)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(10, 0.3), IMAGES)
    selection, estimation = (rng.multinomial(draws, shares) for draws in (100, 10_000))
    yield raced(
        "ms an image: two classes of ten, betting",
        {
            "before": lambda: before_two_class_bounds(estimation, ALPHA),
            "now": lambda: certify_counts(selection, estimation, LAPLACE, "l1", 3072, ALPHA, "betting", two_class=True),
        },
        IMAGES,
    )


def raced(quantity: str, contestants: dict[str, Callable[[], object]], units: int = 1) -> Row:
    """Return the row of a race: milliseconds of processor time for each of the units of a call."""
    costs = race(contestants, SECONDS, Machine(torch.device("cpu"), "float32"))
    best = {name: 1000.0 * cost.work / units for name, cost in costs.items()}
    return Row("time", quantity, best["before"], best["now"], rs4a=best.get("rs4a"))


def first_radii(p: Floats) -> float:
    """Return the milliseconds of a first call for a dimension, which prepares what later ones reuse."""
    started = time.process_time()
    LAPLACE.certified_radius(p, "linf", FRESH)
    return 1000.0 * (time.process_time() - started)


def error_rows(rs4a: Rs4a | None) -> Iterator[Row]:
    """Yield relative errors against 40 digits: above 0 is a radius that is too large."""
    largest = 150528
    p = float(torch.tensor(0.6))
    truth = exact.uniform_linf(p, largest)
    yield Row(
        "error",
        f"error: uniform, l-inf, d {largest}, p 0.6 in float32, as rs4a runs",
        None,
        off(UNIFORM.certified_radius(p, "linf", largest), truth),
        rs4a=rs4a and off(rs4a.radius("uniform", "linf", p, largest, torch.float32), truth),
    )
    for p, dim, said in ((0.9, 150528, "0.9"), (1 - 1e-5, 3072, "1 − 1e-5")):
        truth = exact.laplace_linf(p, dim)
        yield Row(
            "error",
            f"error: Laplace, l-inf, d {dim}, p {said}",
            None,
            off(LAPLACE.certified_radius(p, "linf", dim), truth),
            rs4a=rs4a and off(rs4a.laplace_linf(p, dim), truth),
        )
    yield Row(
        "error",
        "error: Laplace, l-inf, d 1, p 0.6, by rs4a's default",
        None,
        off(LAPLACE.certified_radius(0.6, "linf", 1), exact.laplace_linf(0.6, 1)),
        rs4a=rs4a and off(rs4a.radius("laplace", "linf", 0.6, 1), exact.laplace_linf(0.6, 1)),
    )


def off(value: float, truth: mpmath.mpf) -> float:
    """Return the relative error of a radius."""
    return float((mpmath.mpf(value) - truth) / truth)


def text(row: Row, value: float | None) -> str:
    """Return a figure of a row as the table has it."""
    if value is None:
        return ""
    if row.kind == "error":
        return "0" if value == 0 else f"{value:+.1e}"
    if row.kind == "draws":
        return f"{value:.1f}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def table(rows: list[Row]) -> str:
    """Return the table as Markdown."""
    head = ["", "norm inequality", "rushkit", "optimum", "rs4a", "RS_conf_seq", "gain"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        sign = ("≥ " if row.kind == "draws" else "≤ ") if row.bound else ""
        cells = [
            row.quantity,
            text(row, row.before),
            text(row, row.now),
            sign + text(row, row.best),
            text(row, row.rs4a),
            text(row, row.conf_seq),
            "" if row.gain is None else f"{row.gain:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_page(docs: Path, rows: list[Row]) -> None:
    """Write the table into certificates.md between its marks."""
    page = docs / "certificates.md"
    before, rest = page.read_text(encoding="utf-8").split(MARK[0])
    _, after = rest.split(MARK[1])
    page.write_text(f"{before}{MARK[0]}\n\n{table(rows)}\n{MARK[1]}{after}", encoding="utf-8")


def kept() -> list[Row]:
    """Return the rows that were kept."""
    return [Row(**row) for row in json.loads(KEPT.read_text(encoding="utf-8"))]


def as_json(rows: list[Row]) -> str:
    """Return the rows as JSON, all digits of them."""
    return json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Measure and print, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rs4a", type=Path, metavar="DIR", help="a copy of rs4a, to be run as well")
    parser.add_argument("--conf-seq", type=Path, metavar="DIR", help="a copy of RS_conf_seq, to be run as well")
    parser.add_argument("--json", action="store_true", help="print JSON with all digits")
    parser.add_argument("--keep", action="store_true", help="keep the figures for the page")
    parser.add_argument("--pages", type=Path, help="the folder of certificates.md, to be brought up to date")
    arguments = parser.parse_args()
    if arguments.keep and not (arguments.rs4a and arguments.conf_seq):
        raise UsageError("the page compares with both peers", "--keep needs --rs4a DIR and --conf-seq DIR")
    torch.set_num_threads(1)
    if arguments.pages:
        rows = kept()
        write_page(arguments.pages, rows)
    else:
        rs4a, conf_seq = peers_of(arguments.rs4a, arguments.conf_seq)
        rows = [
            *radius_rows(rs4a),
            *draws_rows(conf_seq, [AT_EVERY_DRAW, AS_TESTED]),
            *false_claim_rows(conf_seq),
            *time_rows(rs4a),
            *error_rows(rs4a),
        ]
    if arguments.keep:
        write_atomic(KEPT, [as_json(rows).encode()])
    print(as_json(rows) if arguments.json else table(rows))


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
