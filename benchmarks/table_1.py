"""The rows of the paper's Table 1 on the digits, at equal epochs, and the difference of RUSH to each of them.

    OMP_NUM_THREADS=1 python benchmarks/table_1.py
    python benchmarks/table_1.py --pages docs

Each row is a recipe ``*-digits`` with the same 18 epochs: 12 of pre-training and 6 of fine-tuning, or 18 from random
weights; two seeds of each. The first line measures what is missing, as ``methods.py`` does, whose runs can be stopped
and go on. The results.json of every stage is kept under benchmarks/table_1; the runs lie under ``build/table_1``. The
second line also writes both tables into results.md.

``--quick`` makes one seed of small models of all rows, or of those that ``--only`` names, to try the script.

The second table has the difference of robust accuracy under ``strict``, RUSH minus the row, on the same images; where a
model votes, an image counts by the share of its votes that are right. Its intervals are those of Agresti and Min
(2005) for matched pairs, so they have a width where all images agree, on the mean of the seeds for each image.

No row is ranked: the rows have the same number of epochs, and not the same cost.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import methods
import numpy as np
from methods import RUSH, Method, Sizes

from rushkit.certificates import rate
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.certification import Certification
from rushkit.rounding import percent, percent_interval
from rushkit.statistics import mcnemar

KEPT, WORK = methods.ROOT / "benchmarks" / "table_1", methods.ROOT / "build" / "table_1"
MARK = "<!-- table 1: benchmarks/table_1.py writes from here -->", "<!-- table 1: to here -->"
SEEDS = (0, 1)
EPOCHS = Sizes(images=64, samples=64, pretrain=12, finetune=6, scratch=18, certified=500, published=False)
QUICK = Sizes(images=4, samples=4, pretrain=2, finetune=2, scratch=4, certified=20, published=False)
# Radii of the certificates, pixel units; 111/255 in l2 is that of the paper's row of SmoothAdv.
RADII = {"l1": (0.1, 0.25), "l2": (0.25, 111 / 255)}
# Normal quantile of a 95% interval.
Z = 1.96
# TRADES of the whole network, as the modes of fine-tuning have it, without the flips that make other digits.
AFF = (
    "finetune.objective=trades",
    "finetune.freeze=none",
    "finetune.bn=train",
    "finetune.head_start=random",
    "finetune.augment=none",
)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        title: What it is called there.
        recipe: The recipe.
        trained: How its classifier is made.
        variant: The name of another fine-tuning than the recipe's; empty for the recipe's own.
        changes: What that changes.
    """

    title: str
    recipe: str
    trained: str
    variant: str = ""
    changes: tuple[str, ...] = ()

    def method(self, seed: int, kept: Path, work: Path, sizes: Sizes) -> Method:
        """Return what measures the row with a seed."""
        name = f"seed-{seed}"
        return Method(self.recipe, kept / name, work / name, sizes, seed, self.variant, self.changes)


ROWS = (
    Row("RUSH", RUSH, "head and BatchNorm biases, noise"),
    Row("RoCL", "rocl-digits", "SLF"),
    Row("Free-8", "free-8-digits", "from scratch"),
    Row("AdvCL", "advcl-digits", "SLF"),
    Row("AdvCL", "advcl-digits", "AFF", "aff", AFF),
    Row("SmoothAdv", "smoothadv-digits", "from scratch, noise"),
    Row("ACL", "acl-digits", "AFF"),
    Row("Data AUG, no extra images", "data-aug-digits", "from scratch"),
    Row("BYORL", "byorl-digits", "SLF"),
    Row("DeACL (not in Table 1)", "deacl-digits", "SLF"),
)


@dataclass(frozen=True)
class Bench:
    """Where the rows lie, and how much of them is measured."""

    kept: Path
    work: Path
    sizes: Sizes
    seeds: tuple[int, ...] = SEEDS

    def method(self, row: Row, seed: int) -> Method:
        """Return what measures a row with a seed."""
        return row.method(seed, self.kept, self.work, self.sizes)

    def finished(self, row: Row) -> Iterator[Method]:
        """Yield the measured models of a row."""
        yield from (method for seed in self.seeds if (method := self.method(row, seed)).finished())


def measured_table(bench: Bench) -> str:
    """Return the table of what is measured."""
    head = (
        "| row | classifier | seed | epochs | passes an image: an epoch, in all | CPU minutes | "
        "loss in the last tenth | clean | `paper` | `strict` | certified |"
    )
    lines = [head, "|" + "---|" * (head.count(" |"))]
    for row in ROWS:
        for method in bench.finished(row):
            cells = [
                row.title,
                row.trained,
                str(method.seed),
                *methods.training_cells(method),
                methods.clean(method),
                *(methods.attacked(method, protocol) for protocol in ("paper", "strict")),
                certified(method),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def certified(method: Method) -> str:
    """Return the certified accuracy at the radii of the norm; empty without noise."""
    if "certify" not in method.stages:
        return ""
    record = methods.results_of(method, "certify")
    assert isinstance(record, Certification)
    outcomes = record.outcomes
    right = np.asarray(outcomes.predicted) == np.asarray(outcomes.labels)
    cells = []
    for radius in RADII[record.norm]:
        share = rate(right & (np.asarray(outcomes.radius) >= radius))
        cells.append(f"{record.norm} {radius:.3g}: {percent(share.value)} [{percent_interval(share.low, share.high)}]")
    return "; ".join(cells)


def shares(method: Method) -> dict[int, float]:
    """Return the share of the votes under ``strict`` that are right, by the index of the image."""
    row = strict(method)
    return dict(zip(row.outcomes.images, np.asarray(row.outcomes.right["majority"]) / row.votes, strict=True))


def strict(method: Method) -> AttackRow:
    """Return the record of the strict attack."""
    results = methods.results_of(method, "strict")
    assert isinstance(results, Attacks)
    (row,) = results.attacks
    return row


@dataclass(frozen=True)
class Difference:
    """RUSH minus another row, on the same images.

    Attributes:
        images: Their number.
        value: The difference of the shares that are right.
        low: The lower end of its 95 % interval.
        high: The upper end.
        only_rush: Images that most votes of RUSH have right and most of the row have wrong, for each seed.
        only_other: Those the other way round.
    """

    images: int
    value: float
    low: float
    high: float
    only_rush: tuple[int, ...]
    only_other: tuple[int, ...]


def difference(rush: Sequence[dict[int, float]], other: Sequence[dict[int, float]]) -> Difference:
    """Compare the shares of two rows, a dictionary for each seed, image by image.

    Raises:
        ValueError: the images are not the same.
    """
    images = sorted(rush[0])
    if any(sorted(each) != images for each in (*rush, *other)):
        raise ValueError("the rows were attacked on other images")
    ours, theirs = (np.array([[each[index] for index in images] for each in side]) for side in (rush, other))
    change = (ours - theirs).mean(axis=0)
    # A pair for each side, in which it alone is right, is added.
    count = len(images) + 2
    centre, squares = change.sum() / count, ((change**2).sum() + 2) / count
    half = Z * math.sqrt(max(squares - centre**2, 0.0) / count)
    right, wrong = ours > 0.5, theirs > 0.5
    return Difference(
        len(images),
        float(change.mean()),
        float(centre - half),
        float(centre + half),
        tuple(int(each) for each in (right & ~wrong).sum(axis=1)),
        tuple(int(each) for each in (wrong & ~right).sum(axis=1)),
    )


def difference_table(bench: Bench) -> str:
    """Return the table of the differences of RUSH to each row that is measured with the same seeds."""
    lines = [
        "| RUSH minus | classifier | images | `strict`, mean of the seeds | right in RUSH alone, in the row alone | "
        "p (McNemar) |",
        "|---|---|---|---|---|---|",
    ]
    rush = list(bench.finished(ROWS[0]))
    for row in ROWS[1:]:
        other = list(bench.finished(row))
        if not rush or [method.seed for method in other] != [method.seed for method in rush]:
            continue
        found = difference([shares(method) for method in rush], [shares(method) for method in other])
        pairs = list(zip(found.only_rush, found.only_other, strict=True))
        cells = [
            row.title,
            row.trained,
            str(found.images),
            f"{points(found.value)} [{points(found.low)}, {points(found.high)}]",
            "; ".join(f"{ours}, {theirs}" for ours, theirs in pairs),
            "; ".join(f"{float(mcnemar(*pair)):.2g}" for pair in pairs),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def points(share: float) -> str:
    """Return a difference in percentage points with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def main() -> None:
    """Measure what is missing, print the tables, and write them into the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[row.recipe for row in ROWS], help="this recipe's rows")
    parser.add_argument("--quick", action="store_true", help="one seed of small models, few images")
    parser.add_argument("--processes", type=int, default=2, help="models at a time")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where results are kept")
    parser.add_argument("--work", type=Path, default=WORK, help="where the runs lie")
    parser.add_argument("--pages", type=Path, help="the folder of results.md, to be brought up to date")
    arguments = parser.parse_args()
    bench = Bench(arguments.kept, arguments.work, EPOCHS)
    if arguments.quick:
        bench = replace(bench, sizes=QUICK, seeds=(0,))
    # RUSH is compared with every row, and some need its encoder.
    rows = [row for row in ROWS if not arguments.only or row.recipe in (RUSH, *arguments.only)]
    problems = methods.measure([bench.method(row, seed) for row in rows for seed in bench.seeds], arguments.processes)
    text = f"{measured_table(bench)}\n{difference_table(bench)}"
    print(text)
    if arguments.pages:
        methods.write_page(text, arguments.pages / "results.md", MARK)
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
