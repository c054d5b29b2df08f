#!/usr/bin/env python3
"""What each departure from the paper's protocol does to a figure: the table and the figure in protocols.md.

    python docs/departures.py protocols protocols-digits --runs runs
    python docs/departures.py protocols protocols-digits --runs runs --pages docs
    python docs/departures.py protocols --runs runs --pairs

Reads what is measured of these studies, in the folder of runs or kept beside their files. What is missing
is named. The first line prints the tables, the second writes them and the figure into the pages, the third
prints the rows to be added to a study: the pairs of the three departures that change most, from the paper's protocol
and from its opposite.

What a row of the study departs in is read from its record and not from its label.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rushkit.recipe import toml
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.intervals import mean_interval
from rushkit.results.records import RESULTS_FILE, parse
from rushkit.statistics import paired_interval
from rushkit.study.make import plan_study
from rushkit.study.state import standings

MARK = "<!-- departures: docs/departures.py writes from here -->", "<!-- departures: to here -->"
PICTURE = "protocols"
# The numbers of draws in a vote that are shown: the second is that of further votes on the same images.
M, ONE = 64, 1


@dataclass(frozen=True)
class Setting:
    """What a PGD attack does in the respects that the study varies; the defaults are the paper's.

    Attributes:
        noise: What its gradients see of the noise.
        draws: Draws a gradient.
        iterate: The iterate that counts.
        steps: Gradient steps.
        loss: The loss that is climbed.
    """

    noise: str = "fixed"
    draws: int = M
    iterate: str = "last"
    steps: int = 40
    loss: str = "nll"

    def departures(self, other: Setting) -> tuple[str, ...]:
        """Return the names of the respects in which it differs; without noise the draws say nothing."""
        names = (field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name))
        return tuple(name for name in names if name != "draws" or self.noise != "none")

    def words(self, names: Sequence[str]) -> str:
        """Return the values of these respects: ``"fresh noise, 200 steps"``."""
        words = {
            "noise": _NOISES[self.noise],
            "draws": "one draw" if self.draws == 1 else f"{self.draws} draws",
            "iterate": f"{self.iterate} iterate",
            "steps": f"{self.steps} steps",
            "loss": _LOSSES[self.loss],
        }
        return ", ".join(words[name] for name in names)

    def changes(self) -> dict[str, toml.Toml]:
        """Return the keys of an attack that differ from the paper's."""
        said: dict[str, toml.Toml] = {"noise": self.noise, "eot": self.draws, "steps": self.steps, "loss": self.loss}
        said |= {"best": "best", "selection_samples": 20} if self.iterate == "worst" else {}
        usual = {"noise": PAPER.noise, "eot": PAPER.draws, "steps": PAPER.steps, "loss": PAPER.loss}
        return {key: value for key, value in said.items() if usual.get(key) != value}


# The values of each respect in words.
_NOISES = {"none": "no noise", "fixed": "a shared panel", "per-image": "a panel an image", "fresh": "fresh noise"}
_LOSSES = {"nll": "−log p̄", "ce": "mean CE"}
PAPER = Setting()
OPPOSITE = Setting(noise="fresh", iterate="worst", steps=200)


@dataclass(frozen=True)
class Votes:
    """The votes of one m on the images of an attack: index in the split -> the share that was right."""

    shares: dict[int, float]

    @property
    def accuracy(self) -> float:
        """The share of right votes."""
        return float(np.mean(list(self.shares.values())))

    def interval(self) -> tuple[float, float]:
        """Return its 95 % Wilson interval, counting images."""
        return mean_interval(sum(self.shares.values()), len(self.shares))

    def minus(self, other: Votes) -> tuple[float, float, float]:
        """Return the difference of the accuracies on the same images, and its 95 % interval.

        Raises:
            ValueError: the images are not the same.
        """
        if self.shares.keys() != other.shares.keys():
            raise ValueError("the attacks were on other images")
        change = [share - other.shares[index] for index, share in self.shares.items()]
        return float(np.mean(change)), *paired_interval(change)


@dataclass(frozen=True)
class Measured:
    """One attack of a study.

    Attributes:
        kind: The attack's name.
        protocol: The protocol of its row.
        setting: Of PGD under the paper's protocol, what it does; of AutoAttack there the panel that it sees; else None.
        version: The version of AutoAttack; empty for others.
        passes: Passes an image, forward and backward.
        votes: m -> the votes on its images.
    """

    kind: str
    protocol: str
    setting: Setting | None
    version: str
    passes: float
    votes: dict[int, Votes]

    @property
    def is_pgd(self) -> bool:
        """Whether it is PGD under the paper's protocol or with departures from it."""
        return self.kind == "pgd" and self.setting is not None


def measured(row: AttackRow) -> Measured:
    """Return what a row of results says."""
    options = row.candidates[0].options
    setting = None
    if row.protocol == "paper":
        setting = Setting(
            noise=str(options.get("noise", PAPER.noise)),
            draws=row.gradient_samples,
            iterate="worst" if options.get("best") == "best" else "last",
            steps=int(str(options.get("steps", PAPER.steps))) if row.attack == "pgd" else PAPER.steps,
            loss=str(options.get("loss", PAPER.loss)) if row.attack == "pgd" else PAPER.loss,
        )
        if setting.noise == "none":
            setting = replace(setting, draws=M)
    outcomes = row.outcomes
    votes = {row.samples: outcomes.right["majority"]}
    votes |= {further.samples: further.outcomes.right["majority"] for further in row.rescored}
    shares = {
        m: Votes({index: count / row.votes for index, count in zip(outcomes.indices, right, strict=True)})
        for m, right in votes.items()
    }
    passes = (row.image_forwards + row.image_backwards) / row.images
    return Measured(row.attack, row.protocol, setting, str(options.get("version", "")), passes, shares)


@dataclass(frozen=True)
class Star:
    """The attacks of one study on one model.

    Attributes:
        study: The study.
        name: The model; empty where nothing is measured.
        images: Number of images.
        measured: The attacks; none before strict is measured.
        missing: The labels of the rows that are not measured.
    """

    study: str
    name: str
    images: int
    measured: tuple[Measured, ...]
    missing: tuple[str, ...] = ()

    @property
    def strict(self) -> Measured:
        """PGD under strict."""
        return next(one for one in self.measured if (one.kind, one.protocol) == ("pgd", "strict"))

    def pgd(self, setting: Setting) -> Measured | None:
        """Return the attack with these settings; None if it was not run."""
        return next((one for one in self.measured if one.is_pgd and one.setting == setting), None)

    def centre(self, one: Measured) -> Setting:
        """Return whichever of the paper's attack and its opposite a PGD attack departs from in fewer respects."""
        assert one.setting is not None
        return min((PAPER, OPPOSITE), key=lambda centre: len(one.setting.departures(centre)))  # type: ignore[union-attr]

    def base(self, one: Measured) -> Measured | None:
        """Return what an attack is compared with: its centre, or of AutoAttack PGD on the same panel, or strict."""
        if one.setting is None:
            return None if one is self.strict else self.strict
        if one.kind != "pgd":
            return self.pgd(replace(PAPER, draws=one.setting.draws))
        centre = self.centre(one)
        return None if one.setting == centre else self.pgd(centre)

    def name_of(self, one: Measured) -> str:
        """Return the name of an attack in the table."""
        if one.setting is None:
            return f"{_kind(one)}, strict" if one.version else "strict"
        if one.kind != "pgd":
            return f"{_kind(one)}, on a shared panel of {one.setting.draws}"
        centre = self.centre(one)
        names = one.setting.departures(centre)
        head = "paper" if centre == PAPER else "opposite"
        return f"{head}: {one.setting.words(names)}" if names else head

    def share_of_gap(self, one: Measured, m: int) -> float | None:
        """Return how much of the gap between the paper's figure and strict an attack leaves; None without a gap."""
        paper = self.pgd(PAPER)
        if paper is None:
            return None
        gap, low, _ = paper.votes[m].minus(self.strict.votes[m])
        return (one.votes[m].accuracy - self.strict.votes[m].accuracy) / gap if low > 0 else None

    def in_order(self) -> list[Measured]:
        """Return strict, then AutoAttack, then each centre with what departs from it, in few respects first."""
        others = [one for one in self.measured if one.setting is None or one.kind != "pgd"]
        stars = [
            sorted(
                (one for one in self.measured if one.is_pgd and self.centre(one) == centre),
                key=lambda one: (len(one.setting.departures(centre)), one.setting.departures(centre)),  # type: ignore[union-attr]
            )
            for centre in (PAPER, OPPOSITE)
        ]
        return [*sorted(others, key=lambda one: (one is not self.strict, one.version)), *stars[0], *stars[1]]


def _kind(one: Measured) -> str:
    return f"AutoAttack {one.version}" if one.version else one.kind


def stars(names: Sequence[str], runs: Path) -> Iterator[Star]:
    """Yield what is measured of each study."""
    for name in names:
        plan, model = plan_study(name, runs), ""
        rows: list[AttackRow] = []
        missing: list[str] = []
        found = standings(plan, runs)
        for cell in plan.cells:
            standing = found[cell.job]
            if standing.state != "done" or standing.results is None:
                missing.append(cell.row)
                continue
            kept = standing.results
            results = parse((kept if standing.kept else kept / RESULTS_FILE).read_bytes())
            assert isinstance(results, Attacks)
            rows += results.attacks
            model = results.recipe
        attacks = tuple(measured(row) for row in rows)
        if any(one.kind == "pgd" and one.protocol == "strict" for one in attacks):
            yield Star(plan.study, model, rows[0].images, attacks, tuple(missing))
        else:
            yield Star(plan.study, "", 0, (), tuple(missing))


def table(star: Star) -> str:
    """Return the Markdown table of a star."""
    lines = [
        f"| `{star.name}`, {star.images} images | passes an image | m = 64, % | − its base | − strict | of the gap | "
        "m = 1, % | − strict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in star.in_order():
        base, share = star.base(one), star.share_of_gap(one, M)
        cells = [
            star.name_of(one),
            f"{one.passes:.0f}",
            _accuracy(one.votes[M]),
            "" if base is None else _difference(one.votes[M].minus(base.votes[M])),
            "" if one is star.strict else _difference(one.votes[M].minus(star.strict.votes[M])),
            "" if share is None else f"{100 * share:.0f} %".replace("-", "−"),
            _accuracy(one.votes[ONE]),
            "" if one is star.strict else _difference(one.votes[ONE].minus(star.strict.votes[ONE])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _accuracy(votes: Votes) -> str:
    low, high = votes.interval()
    # Bounds are rounded outwards.
    return f"{100 * votes.accuracy:.1f} [{math.floor(1000 * low) / 10:.1f}, {math.ceil(1000 * high) / 10:.1f}]"


def _difference(difference: tuple[float, float, float]) -> str:
    change, low, high = (100 * value for value in difference)
    return f"{change:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")


def largest(star: Star, centre: Setting, count: int = 3) -> list[Setting]:
    """Return the departures from a centre that change the figure most, at most one in each respect."""
    middle = star.pgd(centre)
    single = [one for one in star.measured if one.is_pgd and len(one.setting.departures(centre)) == 1]  # type: ignore[union-attr]
    if middle is None:
        return []
    single.sort(key=lambda one: -abs(one.votes[M].minus(middle.votes[M])[0]))
    settings: dict[str, Setting] = {}
    for one in single:
        assert one.setting is not None
        settings.setdefault(one.setting.departures(centre)[0], one.setting)
    return list(settings.values())[:count]


def pairs(star: Star, centre: Setting) -> list[Setting]:
    """Return the pairs of the three largest departures from a centre that have not been measured."""
    both = []
    for one, other in combinations(largest(star, centre), 2):
        (name,) = other.departures(centre)
        both.append(replace(one, **{name: getattr(other, name)}))
    # Without noise there is one draw, whatever their number.
    both = [setting for setting in both if len(setting.departures(centre)) == 2]
    return [setting for setting in both if star.pgd(setting) is None]


def row_of(setting: Setting, centre: Setting, run: str) -> str:
    """Return the row of a study that measures a setting."""
    head = "paper" if centre == PAPER else "opposite"
    changes = {f"attack.0.{key}": value for key, value in setting.changes().items()}
    words = ", ".join(f'"{key}" = {toml.format_value(value)}' for key, value in changes.items())
    label = f"{head}, {setting.words(setting.departures(centre))}"
    return f"[[row]]\nlabel = {toml.format_value(label)}\nrun = {toml.format_value(run)}\nset = {{ {words} }}\n"


def summary(star: Star) -> list[str]:
    """Return sentences on the gap, on what reproduces most of it, and on AutoAttack beside PGD."""
    paper, sentences = star.pgd(PAPER), []
    if paper is not None:
        gaps = [f"{_difference(paper.votes[m].minus(star.strict.votes[m]))} points at m = {m}" for m in (M, ONE)]
        sentences.append(f"`{star.name}`: the paper's protocol minus `strict` is {' and '.join(gaps)}.")
    away = [one for one in star.measured if one.is_pgd and star.centre(one) == OPPOSITE and one.setting != OPPOSITE]
    if away and star.pgd(OPPOSITE) is not None:
        most = max(away, key=lambda one: one.votes[M].accuracy)
        share = star.share_of_gap(most, M)
        words = "" if share is None else f", {100 * share:.0f} % of that gap"
        sentences.append(f"Away from the opposite, most is left by *{star.name_of(most)}*{words}.")
    weak = [one for one in star.measured if one.kind != "pgd" and _looks_weaker(one, star.base(one))]
    for one in weak:
        base = star.base(one)
        assert base is not None
        change = {m: _difference(one.votes[m].minus(base.votes[m])) for m in (M, ONE)}
        sentences.append(
            f"{star.name_of(one)} leaves {change[M]} points more than *{star.name_of(base)}* at m = {M}, "
            f"{change[ONE]} at m = {ONE}."
        )
    return sentences


def _looks_weaker(one: Measured, base: Measured | None) -> bool:
    return base is not None and any(one.votes[m].accuracy > base.votes[m].accuracy for m in (M, ONE))


def figure(results: Sequence[Star]) -> Figure:
    """Return the robust accuracies of every attack, a picture for each model."""
    rows = max(len(star.measured) for star in results)
    drawing = Figure(figsize=(4.6 * len(results), 1.2 + 0.2 * rows), layout="constrained")
    for star, axes in zip(results, drawing.subplots(1, len(results), squeeze=False)[0], strict=True):
        _draw(star, axes)
    return drawing


def _draw(star: Star, axes: Axes) -> None:
    attacks = star.in_order()
    heights = np.arange(len(attacks))
    for m, style, shift in ((M, "o", 0.0), (ONE, "s", 0.25)):
        accuracy = np.array([100 * one.votes[m].accuracy for one in attacks])
        ends = np.array([[100 * end for end in one.votes[m].interval()] for one in attacks]).T
        reach = np.abs(ends - accuracy)
        face = None if m == M else "white"
        axes.errorbar(
            accuracy, heights + shift, xerr=reach, fmt=style, markersize=3, linewidth=0.7, mfc=face, label=f"m = {m}"
        )
    axes.axvline(100 * star.strict.votes[M].accuracy, color="grey", linewidth=0.7, linestyle="--")
    axes.set_yticks(heights, [star.name_of(one) for one in attacks], fontsize="x-small")
    axes.invert_yaxis()
    axes.set(xlabel="left, %", xlim=(0, 100))
    axes.set_title(f"{star.name}, l-inf 8/255, {star.images} images", fontsize="small")
    axes.legend(fontsize="x-small")


def text(results: Sequence[Star]) -> str:
    """Return the tables, each with its sentences and what is missing."""
    parts = []
    for star in results:
        if not star.measured:
            parts.append(f"The study `{star.study}` is not measured yet.\n")
            continue
        missing = f"\n\nNot measured yet of `{star.study}`: {'; '.join(star.missing)}." if star.missing else ""
        parts.append(f"{table(star)}\n{' '.join(summary(star))}{missing}\n")
    return "\n".join(parts)


def write_pages(results: Sequence[Star], docs: Path) -> None:
    """Write the figure, and the tables inside protocols.md."""
    with matplotlib.rc_context({"svg.hashsalt": PICTURE}):
        figure([star for star in results if star.measured]).savefig(
            docs / "pictures" / f"{PICTURE}.svg", metadata={"Date": None}
        )
    page = docs / "protocols.md"
    before, rest = page.read_text(encoding="utf-8").split(MARK[0])
    _, after = rest.split(MARK[1])
    page.write_text(f"{before}{MARK[0]}\n\n{text(results)}\n{MARK[1]}{after}", encoding="utf-8")


def main() -> None:
    """Print the tables, or the rows of the pairs, or write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="+", help="studies that were run")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of runs")
    parser.add_argument("--pairs", action="store_true", help="print the rows of the pairs of the largest departures")
    parser.add_argument("--pages", type=Path, help="the folder of protocols.md, to be brought up to date")
    arguments = parser.parse_args()
    results = list(stars(arguments.study, arguments.runs))
    if arguments.pairs:
        for star in (star for star in results if star.measured):
            for centre in (PAPER, OPPOSITE):
                for setting in pairs(star, centre):
                    print(row_of(setting, centre, f"shipped/{star.name}"))
        return
    print(text(results))
    if arguments.pages:
        write_pages(results, arguments.pages)


if __name__ == "__main__":
    main()
