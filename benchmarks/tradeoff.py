"""Robust accuracy against passes: strict after each of its rounds beside its first version, on the same images.

    OMP_NUM_THREADS=1 python benchmarks/tradeoff.py --model digits --model cifar10-cpu
    python benchmarks/tradeoff.py --pages docs

The first line measures the newest fine-tuned model of each recipe; it takes hours, may be stopped at any time, and
resumes with the block of images that was not finished. Every model, ball and version has a folder under
``build/tradeoff``, and what is finished there is not measured again. The second line writes the figure and the table of
what is finished into the pages.

A pass is one image through the model once, forward or backward, so that a gradient over m draws costs 2m passes. Votes
that only score are not counted: they are the same for all.

Version 2 runs once, at its largest effort: a smaller one has the same rounds, but fewer of them. Version 1 is rebuilt
from ``pgd``: 4 losses, 2 restarts of 40 steps each, a gradient over max(m, 20) draws, every iterate looked at, the
worst kept on a panel of 100 draws. It is scored after each loss. In l1 only its schedule is rebuilt, because
``pgd`` took another step there. ``--run RUN`` takes a run of ``rushkit attack`` instead: of version 1 itself, as an
earlier commit (the last was 0f97817) wrote it, or of version 2 at one effort.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import rushkit
from rushkit import attacks
from rushkit.attacks.best import BestByRule
from rushkit.attacks.cascade.schedule import EFFORTS, schedule_of
from rushkit.attacks.victim import under_attack
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Norm, Rule
from rushkit.results.intervals import mean_interval
from rushkit.setup.model import load_classifier, recipe_of
from rushkit.setup.start import machine_of
from rushkit.setup.subject import Subject
from rushkit.smoothing import SmoothedClassifier
from rushkit.votes import Tally

ROOT = Path(__file__).parents[1]
FIRST, PRESENT = "version 1", "version 2"
POINTS = "points.json"
LOSSES = ("nll", "ce", "dlr", "margin")
RULES: tuple[Rule, ...] = ("majority", "mean")
# Votes that score each image, and draws of the panel that chooses between versions of an image.
VOTES, PANEL = 10, 100
# Standard deviations by which a vote must be lost before version 1 leaves an image alone.
SETTLED = 4.0
BLOCK = 64
MARK = "<!-- tradeoff: benchmarks/tradeoff.py writes from here -->", "<!-- tradeoff: to here -->"


@dataclass(frozen=True)
class Ball:
    """A ball, and how many images are attacked in it."""

    norm: Norm
    eps: float
    images: int


@dataclass(frozen=True)
class Point:
    """The robust accuracy that one protocol left after a number of passes.

    Attributes:
        protocol: ``"version 1"`` or ``"version 2"`` of strict.
        part: The part of it that ran last: a loss or a round, or, where that ends a protocol, its name in the table.
        passes: Forward and backward passes an image.
        right: Rule -> index of an image in the split -> how many of ``votes`` votes were right.
        votes: Votes on each image.
    """

    protocol: str
    part: str
    passes: float
    right: dict[Rule, dict[int, int]]
    votes: int = VOTES

    def shares(self, rule: Rule) -> dict[int, float]:
        """Index of an image -> the share of its votes that were right."""
        return {image: right / self.votes for image, right in self.right[rule].items()}

    def accuracy(self, rule: Rule) -> float:
        """Robust accuracy, a share."""
        return float(np.mean(list(self.shares(rule).values())))


# A name, the passes so far of all images of the block, and rule -> the worst versions (n, C, H, W).
Part = tuple[str, int, dict[Rule, Tensor]]


@dataclass(frozen=True)
class Scored:
    """A part of a protocol on a block of images: its name, the passes so far, and rule -> (n,) right votes."""

    name: str
    passes: int
    right: dict[Rule, list[int]]


BALLS = {
    "digits": (Ball("linf", 8 / 255, 64), Ball("linf", 24 / 255, 48), Ball("l2", 0.8, 32), Ball("l1", 8.0, 32)),
    "cifar10-cpu": (Ball("linf", 8 / 255, 200), Ball("l2", 0.5, 32), Ball("l1", 6.0, 32)),
}


def difference(new: Point, old: Point, rule: Rule) -> tuple[float, float, float]:
    """Robust accuracy of ``new`` minus that of ``old`` on the images that both have, with its 95 % interval.

    The interval is that of Agresti and Min (2005) for matched pairs: a pair of images is added, one for each side, so
    that it has a width even where all images agree. Votes on one image count as one observation.
    """
    ours, theirs = new.shares(rule), old.shares(rule)
    common = ours.keys() & theirs.keys()
    change = np.array([ours[image] - theirs[image] for image in common])
    n = len(change) + 2
    centre = change.sum() / n
    spread = math.sqrt(((change**2).sum() + 1) / n - centre**2)
    half = 1.96 * spread / math.sqrt(n)
    return float(change.mean()), float(centre - half), float(centre + half)


def margin(score: Tensor, y: Tensor) -> Tensor:
    """By how much the best other class leads the label: (N, K) and (N,) -> (N,)."""
    label = score.gather(1, y[:, None]).squeeze(1)
    return score.scatter(1, y[:, None], -1).amax(dim=1) - label


class Worst:
    """The worst version of each image so far under one rule, as version 1 kept it."""

    def __init__(self, x: Tensor, rule: Rule, m: int) -> None:
        self.rule, self.m = rule, m
        self.x_adv = x.clone()
        self.score = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        self.settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def offer(self, index: Tensor, x_adv: Tensor, tally: Tally, y: Tensor) -> None:
        """Keep each of the versions ``x_adv`` of the images ``index`` that does worse on the panel."""
        share = margin(tally.votes.double() if self.rule == "majority" else tally.confidence, y) / tally.samples
        right = tally.votes.gather(1, y[:, None]).squeeze(1).double() / tally.samples
        score = share
        if self.m == 1:
            score = 1 - right
        if self.rule == "majority":
            # Confidence breaks ties in votes.
            score = score * tally.samples + 1 - tally.confidence.gather(1, y[:, None]).squeeze(1) / tally.samples
        better = score > self.score[index]
        replaced = index[better]
        self.x_adv[replaced], self.score[replaced] = x_adv[better], score[better]
        # The variance of one draw's margin in votes is an upper bound on that of its margin in softmax.
        variance = (share.abs() + 2 * right - share.square()).clamp(min=1 / tally.samples)
        lost = (share > 0) & (self.m * share.square() >= SETTLED**2 * variance)
        self.settled[replaced] = lost[better]


def first_version(g: SmoothedClassifier, x: Tensor, y: Tensor, ball: Ball, seed: int) -> Iterator[Part]:
    """Run version 1 on a block, and yield its worst versions after each loss."""
    draws = max(g.samples, 20)
    worst = {rule: Worst(x, rule, g.samples) for rule in RULES}
    index, passes = torch.arange(len(x), device=x.device), 0

    def offer(images: Tensor, x_adv: Tensor) -> None:
        with g.fixed_noise(seed):
            tally = g.tally(x_adv, max(g.samples, PANEL))
        for kept in worst.values():
            kept.offer(images, x_adv, tally, y[images])

    offer(index, x)
    for number, loss in enumerate(LOSSES):
        settled = torch.stack([kept.settled for kept in worst.values()]).all(dim=0)
        index = (~settled).nonzero().squeeze(1)
        if len(index):
            attack = attacks.create(
                "pgd",
                norm=ball.norm,
                eps=ball.eps,
                steps=40,
                restarts=2,
                samples=draws,
                loss=loss,
                seed=seed + number,
            )
            result = attack.run(g, x[index], y[index])
            passes += result.image_forwards + result.image_backwards
            offer(index, result.x_adv)
        name = FIRST if loss == LOSSES[-1] else loss
        yield name, passes, {rule: kept.x_adv.clone() for rule, kept in worst.items()}


def count_right(g: SmoothedClassifier, x: Tensor, y: Tensor, rule: Rule, seed: int) -> list[int]:
    """How many of the votes of fresh noise on each image are right."""
    right = torch.zeros_like(y)
    with g.fresh_noise(seed):
        for _ in range(VOTES):
            right += g.predict(x, rule=rule) == y
    return [int(count) for count in right]


def present_version(g: SmoothedClassifier, x: Tensor, y: Tensor, ball: Ball, seed: int) -> Iterator[Part]:
    """Run the cascade at its largest effort on a block, and yield its worst versions after each round."""
    cascade = attacks.create("cascade", norm=ball.norm, eps=ball.eps, effort=max(EFFORTS), seed=seed)
    with under_attack(g, x, seed) as victim:
        best = BestByRule(victim, x, y, seed)
        engine = cascade.on(victim, best, x, y)
        rounds = len(engine.schedule.rounds)
        efforts = {
            len(schedule_of(ball.norm, victim.random, victim.num_classes, effort).rounds): f"effort {effort}"
            for effort in EFFORTS
        }
        done, passes, working = 0, 0, True
        while done < rounds:
            working = working and engine.advance()
            # A round ends where the next one begins, which is first measured: no version changes before its first step.
            now = engine.schedule.climbs[engine.at.climb - 1].round if working else rounds
            for number in range(done + 1, now + 1):
                name = efforts.get(number, f"round {number}")
                yield name, passes, {rule: kept.x_adv.clone() for rule, kept in best.best.items()}
            done, passes = now, engine.at.image_forwards + engine.at.image_backwards


def measure_protocol(model: str, ball: Ball, m: int, protocol: str, folder: Path) -> list[Point]:
    """Measure one protocol block by block; finished blocks are in the folder."""
    checkpoint = rushkit.open_checkpoint(model, "finetune")
    recipe = recipe_of(checkpoint)
    machine = machine_of(recipe)
    subject = Subject.of(recipe, load_classifier(checkpoint, machine), machine, split="test", limit=ball.images)
    g = subject.smoothed(m)
    search = first_version if protocol == FIRST else present_version
    blocks = []
    for start in range(0, len(subject), BLOCK):
        file = folder / f"block-{start:05d}.json"
        if not file.exists():
            x, y = subject.batch(slice(start, start + BLOCK))
            parts = [
                Scored(name, passes, {rule: count_right(g, kept[rule], y, rule, start) for rule in RULES})
                for name, passes, kept in search(g, x, y, ball, seed=start)
            ]
            write(
                file,
                {"indices": subject.indices[start : start + BLOCK].tolist(), "parts": [vars(part) for part in parts]},
            )
            print(f"{model} {ball_words(ball.norm, ball.eps)}, {protocol}: {start + len(x)} of {len(subject)} images")
        blocks.append(json.loads(file.read_text(encoding="utf-8")))
    points = []
    for number in range(len(blocks[0]["parts"])):
        right: dict[Rule, dict[int, int]] = {
            rule: {
                index: count
                for block in blocks
                for index, count in zip(block["indices"], block["parts"][number]["right"][rule], strict=True)
            }
            for rule in RULES
        }
        passes = sum(block["parts"][number]["passes"] for block in blocks) / len(subject)
        points.append(Point(protocol, blocks[0]["parts"][number]["name"], passes, right))
    return points


def write(file: Path, content: object) -> None:
    """Write a JSON file whole, or not at all."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(file)


def read_points(file: Path) -> list[Point]:
    """Read the points of one protocol."""
    points = []
    for record in json.loads(file.read_text(encoding="utf-8")):
        by_rule = record.pop("right")
        right = {rule: {int(image): count for image, count in by_rule[rule].items()} for rule in RULES}
        points.append(Point(right=right, **record))
    return points


def folder_of(out: Path, model: str, ball: Ball, m: int, protocol: str) -> Path:
    """The folder of one model, ball and protocol."""
    return out / model / f"{ball.norm}-{ball.eps:.4g}-m{m}" / protocol.replace(" ", "-")


def measure(out: Path, models: Sequence[str], norms: Sequence[str], m: int) -> None:
    """Measure what is not there yet, of each ball the present version first."""
    for model in models:
        for ball in BALLS[model]:
            for protocol in (PRESENT, FIRST):
                folder = folder_of(out, model, ball, m, protocol)
                if ball.norm not in norms or (folder / POINTS).exists():
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                points = measure_protocol(model, ball, m, protocol, folder)
                write(folder / POINTS, [asdict(point) for point in points])


def take(out: Path, run: Path) -> None:
    """Take the strict rows of a run of ``rushkit attack``, of this or an earlier commit, as measurements."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for row in results["attacks"]:
        if row["protocol"] != "strict":
            continue
        outcomes = row["outcomes"]
        right: dict[Rule, dict[int, int]] = {
            rule: dict(zip(outcomes["indices"], outcomes["right"][rule], strict=True)) for rule in RULES
        }
        passes = (row["image_forwards"] + row["image_backwards"]) / row["images"]
        protocol = FIRST if row.get("version", 1) == 1 else PRESENT
        part = FIRST if protocol == FIRST else f"effort {row['effort']}"
        folder = folder_of(
            out, results["recipe"], Ball(row["norm"], row["eps"], row["images"]), row["samples"], protocol
        )
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / POINTS, [asdict(Point(protocol, part, passes, right, row["votes"]))])


def measured(out: Path, m: int) -> Iterator[tuple[str, Ball, list[Point]]]:
    """Yield every model and ball of which both versions are finished, with their points."""
    for model, balls in BALLS.items():
        for ball in balls:
            files = [folder_of(out, model, ball, m, protocol) / POINTS for protocol in (FIRST, PRESENT)]
            if all(file.exists() for file in files):
                yield model, ball, [point for file in files for point in read_points(file)]


def interval(point: Point, rule: Rule) -> tuple[float, float]:
    """The 95 % Wilson interval of a robust accuracy, counting images."""
    shares = point.shares(rule)
    return mean_interval(sum(shares.values()), len(shares))


def outwards(share: float, side: int) -> float:
    """A bound in percent with one digit, rounded down (side −1) or up (1)."""
    return side * math.ceil(side * 1000 * share) / 10


def is_whole(point: Point) -> bool:
    """Whether a protocol ends here, and not only a part of it."""
    return point.part == FIRST or point.part.startswith("effort")


def table(results: Iterable[tuple[str, Ball, list[Point]]]) -> str:
    """The Markdown table of what each protocol left, for how many passes, beside version 1."""
    lines = [
        "| model, ball | images | protocol | passes an image | share | majority, % | mean, % | beside version 1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, ball, points in results:
        ends = {point.part: point for point in points if is_whole(point)}
        first = ends.get(FIRST)
        for name, point in ends.items():
            low, high = (
                outwards(bound, side) for bound, side in zip(interval(point, "majority"), (-1, 1), strict=True)
            )
            share = f"1/{first.passes / point.passes:.1f}" if first and point is not first else ""
            beside = ""
            if first and point is not first:
                change, least, most = (100 * value for value in difference(point, first, "majority"))
                beside = f"{change:+.1f} [{least:+.1f}, {most:+.1f}]".replace("-", "−")
            cells = [
                f"`{model}`, {ball_words(ball.norm, ball.eps)}",
                str(len(point.right["majority"])),
                name,
                f"{point.passes:.0f}",
                share,
                f"{100 * point.accuracy('majority'):.1f} [{low:.1f}, {high:.1f}]",
                f"{100 * point.accuracy('mean'):.1f}",
                beside,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(results: Sequence[tuple[str, Ball, list[Point]]]) -> Figure:
    """Robust accuracy against passes: a row for each model, a picture for each ball."""
    models = list(dict.fromkeys(model for model, _, _ in results))
    places = [[ball for owner, ball, _ in results if owner == model] for model in models]
    columns = max(map(len, places))
    drawing = Figure(figsize=(3.2 * columns, 2.8 * len(models)), layout="constrained")
    grid = drawing.subplots(len(models), columns, squeeze=False)
    for balls, row in zip(places, grid, strict=True):
        for empty in row[len(balls) :]:
            empty.set_axis_off()
    for model, ball, points in results:
        axes = grid[models.index(model)][places[models.index(model)].index(ball)]
        for protocol, style in ((FIRST, "s--"), (PRESENT, "o-")):
            curve = [point for point in points if point.protocol == protocol]
            passes, accuracy = [point.passes for point in curve], [100 * point.accuracy("majority") for point in curve]
            axes.plot(passes, accuracy, style, markersize=3, linewidth=1, label=protocol)
            for point in curve:
                if is_whole(point):
                    low, high = (100 * bound for bound in interval(point, "majority"))
                    height = 100 * point.accuracy("majority")
                    error = [[height - low], [high - height]]
                    axes.errorbar(
                        [point.passes], [height], yerr=error, color="grey", linewidth=0.8, capsize=2, zorder=0
                    )
        count = len(points[0].right["majority"])
        axes.set_title(f"{model}, {ball_words(ball.norm, ball.eps)}, {count} images", fontsize="small")
        axes.set(xscale="log", xlabel="passes an image", ylabel="robust accuracy, %", ylim=(0, None))
        axes.legend(fontsize="x-small")
    return drawing


def write_pages(results: Sequence[tuple[str, Ball, list[Point]]], docs: Path) -> None:
    """Write the figure, its data, and the table inside protocols.md."""
    pictures = docs / "pictures"
    pictures.mkdir(exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "tradeoff"}):
        figure(results).savefig(pictures / "tradeoff.svg", metadata={"Date": None})
    data = [
        {
            "model": model,
            **asdict(ball),
            "protocol": point.protocol,
            "part": point.part,
            "passes": round(point.passes, 1),
            **{
                rule: [round(point.accuracy(rule), 4), *(round(bound, 4) for bound in interval(point, rule))]
                for rule in RULES
            },
        }
        for model, ball, points in results
        for point in points
    ]
    write(pictures / "tradeoff.json", data)
    page = docs / "protocols.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(MARK[0])
    _, after = rest.split(MARK[1])
    page.write_text(f"{before}{MARK[0]}\n\n{table(results)}\n{MARK[1]}{after}", encoding="utf-8")


def main() -> None:
    """Measure what is missing, or write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=BALLS, help="measure this model; may be given again")
    parser.add_argument("--norm", action="append", choices=("linf", "l2", "l1"), help="in this norm; default: all")
    parser.add_argument("--samples", type=int, default=64, help="m, the draws of a vote")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "tradeoff", help="where measurements lie")
    parser.add_argument("--run", action="append", type=Path, default=[], help="a strict run, to be taken as it is")
    parser.add_argument("--pages", type=Path, help="the folder of protocols.md, to be brought up to date")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for run in arguments.run:
        take(arguments.out, run)
    measure(arguments.out, arguments.model or [], arguments.norm or ["linf", "l2", "l1"], arguments.samples)
    results = list(measured(arguments.out, arguments.samples))
    print(table(results))
    if arguments.pages:
        write_pages(results, arguments.pages)


if __name__ == "__main__":
    main()
