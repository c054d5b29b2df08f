"""Training for certificates compared: certified accuracy by radius under Gaussian noise of σ 0.25, at equal epochs.

    OMP_NUM_THREADS=1 python benchmarks/certified_training.py
    python benchmarks/certified_training.py --pages docs

The first line trains and certifies what is missing: on the digits each objective from scratch and on a RUSH encoder
that was pre-trained under the same noise, two seeds of each. It takes hours on one thread, may be stopped at any time,
and goes on with the model that was not finished. ``--take NAME SEED RUN`` adds a run of ``rushkit certify`` that was
made by hand, such as one on CIFAR-10. The second line writes the table of what is finished into docs/results.md.

No row is ranked: the rows have the same number of epochs, and not the same cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rushkit.certificates import rate
from rushkit.certification.certify import certify
from rushkit.errors import UsageError
from rushkit.files import write_atomic
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.recipe.toml import Given
from rushkit.results import read
from rushkit.results.certification import Certification
from rushkit.rounding import floor_radius, percent, percent_interval
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run
from rushkit.training.finetune import finetune
from rushkit.training.pretrain import pretrain

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "certified"
OBJECTIVES = ("cross-entropy", "smoothadv", "consistency", "macer", "smoothmix")
STARTS = ("scratch", "rush")
SEEDS = (0, 1)
RADII = (0.0, 0.125, 0.25, 0.375, 0.5)
# 100 draws choose the class and 500 others bound its probability, which can prove radii up to 0.55; every second image.
SAMPLES, EVERY = 500, 2
EPOCHS = 5
MARK = "<!-- certified: benchmarks/certified_training.py writes from here -->", "<!-- certified: to here -->"


@dataclass(frozen=True)
class Row:
    """One model of the comparison."""

    data: str
    start: str
    objective: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where its certificates are kept."""
        return KEPT / "_".join((self.data, self.start, self.objective, str(self.seed)))

    def changes(self, runs: Path) -> dict[str, Given]:
        """Return what the comparison sets, whatever the objective's own recipe says."""
        return {
            "noise": {"name": "gaussian", "std": 0.25},
            "system.seed": self.seed,
            "system.runs_dir": str(runs),
            "finetune.epochs": EPOCHS,
            "certify.norm": "l2",
            "certify.samples": SAMPLES,
            "certify.skip": EVERY,
        }


def rows() -> Iterator[Row]:
    """Yield the models on the digits."""
    for seed in SEEDS:
        for start in STARTS:
            for objective in OBJECTIVES:
                yield Row("digits", start, objective, seed)


def measure(row: Row, runs: Path) -> None:
    """Train and certify one model, and keep the record."""
    changes = row.changes(runs)
    source = None
    if row.start == "rush":
        source = encoder(load_recipe("digits", {**changes, "name": f"rush-{row.seed}"}), runs)
        changes["finetune.freeze"] = "encoder"
    recipe = load_recipe(f"{row.objective}-digits", changes)
    with started("finetune", recipe, source) as run:
        finetune(recipe, source, run)
    checkpoint = newest(run)
    with started("certify", recipe, checkpoint) as run:
        certify(recipe, checkpoint, run)
    keep(row, run.path)


def encoder(recipe: Recipe, runs: Path) -> Checkpoint:
    """Return the RUSH encoder of a seed, and pre-train it where it is missing."""
    for folder in sorted(runs.glob(f"*-pretrain-{recipe.name}-*")):
        if (folder / "results.json").is_file():
            with Run.open(folder, Speaker(-1, rank=0)) as run:
                return newest(run)
    with started("pretrain", recipe, None) as run:
        pretrain(recipe, run)
    return newest(run)


def started(verb: str, recipe: Recipe, parent: Checkpoint | None) -> Run:
    """Start a run of one of the stages."""
    return start_run(verb, recipe, Speaker(0, rank=0), None if parent is None else str(parent.path))


def newest(run: Run) -> Checkpoint:
    """Return the last checkpoint of a finished run."""
    checkpoint = run.checkpoints.load_latest()
    if checkpoint is None:
        raise UsageError(f"{run.path} has no checkpoint")
    return checkpoint


def keep(row: Row, folder: Path) -> None:
    """Keep the record of a certification among the results, its paths relative to the repository."""
    row.folder.mkdir(parents=True, exist_ok=True)
    text = (folder / "results.json").read_text(encoding="utf-8").replace(f"{ROOT}/", "")
    write_atomic(row.folder / "results.json", [text.encode()])


def finished() -> list[tuple[Row, Certification]]:
    """Return the models that are certified."""
    found = []
    for folder in sorted(KEPT.glob("*_*_*_*")):
        data, start, objective, seed = folder.name.split("_")
        record = read(folder)
        assert isinstance(record, Certification), folder
        found.append((Row(data, start, objective, int(seed)), record))
    order = {name: place for place, name in enumerate((*STARTS, *OBJECTIVES))}
    return sorted(found, key=lambda each: (each[0].data, order[each[0].start], order[each[0].objective], each[0].seed))


def table(results: Sequence[tuple[Row, Certification]]) -> str:
    """Return the table of the page."""
    radii = [f"l2 {radius:g}" for radius in RADII]
    head = ["data", "start", "objective", "seed", *radii, "p_A: quartiles", "<small>ACR</small>"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row, record in results:
        outcomes = record.outcomes
        right = np.asarray(outcomes.predicted) == np.asarray(outcomes.labels)
        shares = [rate(right & (np.asarray(outcomes.radius) >= radius)) for radius in RADII]
        cells = [f"{percent(share.value)} [{percent_interval(share.low, share.high)}]" for share in shares]
        quartiles = ", ".join(f"{value:.2f}" for value in np.quantile(outcomes.p_lower, (0.25, 0.5, 0.75)))
        start = {"scratch": "scratch", "rush": "RUSH encoder"}[row.start]
        radius = f"<small>{floor_radius(record.average_radius)}</small>"
        words = [row.data, start, f"`{row.objective}`", str(row.seed), *cells, quartiles, radius]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def write_page(docs: Path) -> None:
    """Write the table into results.md between its marks."""
    page = docs / "results.md"
    before, rest = page.read_text(encoding="utf-8").split(MARK[0])
    _, after = rest.split(MARK[1])
    page.write_text(f"{before}{MARK[0]}\n\n{table(finished())}\n{MARK[1]}{after}", encoding="utf-8")


def main() -> None:
    """Measure what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "certified", help="the folder of runs")
    parser.add_argument("--take", nargs=4, metavar=("DATA", "OBJECTIVE", "SEED", "RUN"), help="keep a run made by hand")
    parser.add_argument("--pages", type=Path, help="the folder of results.md, to be brought up to date")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.take:
        data, objective, seed, run = arguments.take
        keep(Row(data, "scratch", objective, int(seed)), Path(run))
    elif arguments.pages:
        write_page(arguments.pages)
    else:
        for row in rows():
            if read(row.folder) is None:
                measure(row, arguments.runs)
    print(table(finished()))


if __name__ == "__main__":
    main()
