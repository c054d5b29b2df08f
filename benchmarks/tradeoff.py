"""Robust accuracy against passes: strict at every effort beside the protocol that it replaced, on the same images.

    OMP_NUM_THREADS=1 python benchmarks/tradeoff.py --model digits --model cifar10-cpu
    python benchmarks/tradeoff.py --pages docs

The first line measures; it takes hours, may be stopped at any time, and goes on where it was. Every model, ball and
protocol has a folder under ``build/tradeoff``, and what is finished there is not measured again. The second line draws
the figure from what is finished and writes it, with the table, into the pages.

A pass is one image through the model once, forward or backward, so that a gradient over m draws costs 2m passes. Votes
that only score are not counted: each protocol pays the same for them. Version 1 of strict is rebuilt from `pgd`: 4
losses, 2 restarts of 40 steps, a gradient over max(m, 20) draws, every iterate looked at, the worst kept on a panel of
100 draws. Its points are those after each of its losses.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
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
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Rule
from rushkit.results.attacks import Attacks
from rushkit.results.intervals import mean_interval
from rushkit.setup.model import load_classifier, recipe_of
from rushkit.setup.start import machine_of
from rushkit.setup.subject import Subject
from rushkit.smoothing import SmoothedClassifier
from rushkit.votes import Tally

ROOT = Path(__file__).parents[1]
FIRST = "version 1"
EFFORTS = (1, 2, 4)
LOSSES = ("nll", "ce", "dlr", "margin")
RULES: tuple[Rule, ...] = ("majority", "mean")
# Votes that score each image, and draws of the panel that chooses between versions of an image.
VOTES, PANEL = 10, 100
# Standard deviations by which a vote must be lost before version 1 gives an image up.
SETTLED = 4.0
BLOCK = 64
MARK = "<!-- tradeoff: benchmarks/tradeoff.py writes from here -->", "<!-- tradeoff: to here -->"


@dataclass(frozen=True)
class Ball:
    """A ball, and how many images are attacked in it."""

    norm: str
    eps: float
    images: int


@dataclass(frozen=True)
class Point:
    """What one protocol left of the images for a number of passes.

    Attributes:
        protocol: ``"version 1"``, or ``"effort 1"`` and so on of the present one.
        part: What of it had run: a loss or round, or ``"all"``.
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


BALLS = {
    "digits": (Ball("linf", 8 / 255, 64), Ball("l2", 0.8, 32), Ball("l1", 8.0, 32)),
    "cifar10-cpu": (Ball("linf", 8 / 255, 200), Ball("l2", 0.5, 64), Ball("l1", 6.0, 64)),
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


def first_version(
    g: SmoothedClassifier, x: Tensor, y: Tensor, ball: Ball, seed: int
) -> Iterator[tuple[int, dict[Rule, Tensor]]]:
    """Run version 1 on a block, and yield after each loss the passes so far and rule -> the worst versions."""
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
        yield passes, {rule: kept.x_adv.clone() for rule, kept in worst.items()}


def count_right(g: SmoothedClassifier, x: Tensor, y: Tensor, rule: Rule, seed: int) -> list[int]:
    """How many of the votes of fresh noise on each image are right."""
    right = torch.zeros_like(y)
    with g.fresh_noise(seed):
        for _ in range(VOTES):
            right += g.predict(x, rule=rule) == y
    return [int(count) for count in right]


def measure_first(model: str, ball: Ball, m: int, folder: Path) -> list[Point]:
    """Measure version 1, block by block; finished blocks are in the folder."""
    checkpoint = rushkit.open_checkpoint(model, "finetune")
    recipe = recipe_of(checkpoint)
    machine = machine_of(recipe)
    subject = Subject.of(recipe, load_classifier(checkpoint, machine), machine, split="test", limit=ball.images)
    g = subject.smoothed(m)
    blocks = []
    for start in range(0, len(subject), BLOCK):
        file = folder / f"block-{start:05d}.json"
        if not file.exists():
            x, y = subject.batch(slice(start, start + BLOCK))
            lines = [
                {"passes": passes, "right": {rule: count_right(g, kept[rule], y, rule, start) for rule in RULES}}
                for passes, kept in first_version(g, x, y, ball, seed=start)
            ]
            write(file, {"indices": subject.indices[start : start + BLOCK].tolist(), "losses": lines})
            print(f"{model} {ball_words(ball.norm, ball.eps)}, version 1: {start + len(x)} of {len(subject)} images")
        blocks.append(json.loads(file.read_text(encoding="utf-8")))
    points = []
    for number, loss in enumerate(LOSSES):
        right: dict[Rule, dict[int, int]] = {
            rule: {
                index: count
                for block in blocks
                for index, count in zip(block["indices"], block["losses"][number]["right"][rule], strict=True)
            }
            for rule in RULES
        }
        passes = sum(block["losses"][number]["passes"] for block in blocks) / len(subject)
        points.append(Point(FIRST, "all" if loss == LOSSES[-1] else loss, passes, right))
    return points


def measure_strict(model: str, ball: Ball, m: int, effort: int, folder: Path) -> list[Point]:
    """Measure the present protocol by ``rushkit attack``, whose run lies in the folder and goes on where it stopped."""
    runs = [run for run in rushkit.find_runs(folder) if run.verb == "attack"]
    if not (runs and runs[0].status == "finished"):
        command = [sys.executable, "-m", "rushkit", "attack", "--quiet", "--set", f"system.runs_dir={folder}"]
        if runs:
            command += ["--resume", "--run", str(runs[0].path)]
        else:
            source = str(rushkit.open_checkpoint(model, "finetune").path)
            command += ["--from", source, "--type", "pgd", "--protocol", "strict", "--effort", str(effort)]
            command += ["--norm", ball.norm, "--eps", repr(ball.eps), "--samples", str(m), "--limit", str(ball.images)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    record = rushkit.find_runs(folder)[0].record()
    assert isinstance(record, Attacks)
    (row,) = record.attacks
    right = {rule: dict(zip(row.outcomes.indices, row.outcomes.right[rule], strict=True)) for rule in RULES}
    passes = (row.image_forwards + row.image_backwards) / row.images
    return [Point(f"effort {effort}", "all", passes, right, row.votes)]


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
    """Measure what is not there yet, the cheap protocols of each ball first."""
    for model in models:
        for ball in BALLS[model]:
            if ball.norm not in norms:
                continue
            for protocol in (*(f"effort {effort}" for effort in EFFORTS), FIRST):
                folder = folder_of(out, model, ball, m, protocol)
                if (folder / "points.json").exists():
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                if protocol == FIRST:
                    points = measure_first(model, ball, m, folder)
                else:
                    points = measure_strict(model, ball, m, int(protocol.split()[1]), folder)
                write(folder / "points.json", [asdict(point) for point in points])


def measured(out: Path, m: int) -> Iterator[tuple[str, Ball, list[Point]]]:
    """Every model and ball with the points of the protocols that are finished."""
    for model, balls in BALLS.items():
        for ball in balls:
            points: list[Point] = []
            for protocol in (FIRST, *(f"effort {effort}" for effort in EFFORTS)):
                file = folder_of(out, model, ball, m, protocol) / "points.json"
                if file.exists():
                    points += read_points(file)
            if points:
                yield model, ball, points


def interval(point: Point, rule: Rule) -> tuple[float, float]:
    """The 95 % Wilson interval of a robust accuracy, counting images."""
    shares = point.shares(rule)
    return mean_interval(sum(shares.values()), len(shares))


def table(results: Iterable[tuple[str, Ball, list[Point]]]) -> str:
    """The Markdown table of what each protocol left, for how many passes, beside version 1."""
    lines = [
        "| model, ball | images | protocol | passes an image | share | majority, % | mean, % | beside version 1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, ball, points in results:
        ends = {point.protocol: point for point in points if point.part == "all"}
        first = ends.get(FIRST)
        for name, point in ends.items():
            low, high = interval(point, "majority")
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
                f"{100 * point.accuracy('majority'):.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                f"{100 * point.accuracy('mean'):.1f}",
                beside,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(results: Sequence[tuple[str, Ball, list[Point]]]) -> Figure:
    """Robust accuracy against passes: a row for each model, a column for each norm."""
    models = list(dict.fromkeys(model for model, _, _ in results))
    norms = [norm for norm in ("linf", "l2", "l1") if any(ball.norm == norm for _, ball, _ in results)]
    drawing = Figure(figsize=(3.4 * len(norms), 2.9 * len(models)), layout="constrained")
    grid = drawing.subplots(len(models), len(norms), squeeze=False)
    for model, ball, points in results:
        axes = grid[models.index(model)][norms.index(ball.norm)]
        for protocol in dict.fromkeys(point.protocol for point in points):
            curve = sorted((point for point in points if point.protocol == protocol), key=lambda point: point.passes)
            passes = [point.passes for point in curve]
            accuracy = [100 * point.accuracy("majority") for point in curve]
            low, high = (100 * bound for bound in interval(curve[-1], "majority"))
            (line,) = axes.plot(passes, accuracy, ".-" if protocol == FIRST else "o-", label=protocol)
            error = [[accuracy[-1] - low], [high - accuracy[-1]]]
            axes.errorbar(passes[-1:], accuracy[-1:], yerr=error, capsize=3, color=line.get_color())
        count = len(points[0].right["majority"])
        axes.set(xscale="log", title=f"{model}, {ball_words(ball.norm, ball.eps)}, {count} images", ylim=(0, None))
        axes.title.set_fontsize("small")
        axes.set(xlabel="passes an image", ylabel="robust accuracy, %")
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
    parser.add_argument("--pages", type=Path, help="the folder of protocols.md, to be brought up to date")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measure(arguments.out, arguments.model or [], arguments.norm or ["linf", "l2", "l1"], arguments.samples)
    results = list(measured(arguments.out, arguments.samples))
    print(table(results))
    if arguments.pages:
        write_pages(results, arguments.pages)


if __name__ == "__main__":
    main()
