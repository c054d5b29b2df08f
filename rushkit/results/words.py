"""Format figures and settings as text, the same for pages, Markdown and the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Protocol

from rushkit.recipe.schema import Noise
from rushkit.results.clustering import Clusters
from rushkit.results.threats import CorruptionError
from rushkit.rounding import ceil_percent, counted, floor_percent, percent, percent_interval

# Figures under the paper's protocol, or weaker than strict, must always be shown with these.
PROTOCOL_SENTENCES = (
    "paper: the RUSH paper's protocol, fixed noise while attacking; it reproduces, it is not the model's robustness.",
    "strict: fresh noise at every step, several losses, best image of each, independent votes; even this is an upper "
    "bound: a stronger attack may leave less. Intervals are 95% Wilson over the images.",
    "weaker: strict with weaker settings, or another attack, which the row names; it is not the robustness.",
    "published: the attack with which the method was published, as its recipe writes it, scored by one vote; compare "
    "it with the published figure, it is not the robustness.",
)
# The same in lines for a terminal.
PROTOCOL_NOTE = "\n".join(textwrap.fill(sentence, 112) for sentence in PROTOCOL_SENTENCES)


class Accuracy(Protocol):
    """An accuracy with its 95% interval."""

    @property
    def accuracy(self) -> float:
        """The share, in [0, 1]."""
        ...

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...


class Rate(Protocol):
    """Another share of images with its 95% interval."""

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        ...

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...


class Proved(Protocol):
    """What certificates say of all their images together."""

    @property
    def proved_value(self) -> float:
        """The share, in [0, 1]."""
        ...


def interval(share: float, low: float, high: float) -> str:
    """Return a share with its interval in percent: 0.8791 in [0.8638, 0.8932] -> "87.9 [86.3, 89.4]"."""
    return f"{percent(share)} [{percent_interval(low, high)}]"


def accuracy_words(row: Accuracy) -> str:
    """Return ``interval`` of an accuracy."""
    return interval(row.accuracy, row.low, row.high)


def at_most_words(row: Accuracy) -> str:
    """Return an accuracy under attack, rounded up as an upper bound is: "at most 29.2 % [10.1, 60.0]"."""
    return f"at most {ceil_percent(row.accuracy)} % [{percent_interval(row.low, row.high)}]"


def at_least_words(row: Rate) -> str:
    """Return a certified share, rounded down as a lower bound is: "at least 25.0 % [4.5, 70.0]"."""
    return f"at least {floor_percent(row.value)} % [{percent_interval(row.low, row.high)}]"


def corruption_error_words(error: CorruptionError) -> str:
    """Return a mean corruption error in percent with its interval, where it has one: "81.2 [74.9, 88.1]"."""
    if error.low is None or error.high is None:
        return percent(error.value)
    return interval(error.value, error.low, error.high)


def rate_words(row: Rate) -> str:
    """Return ``interval`` of a rate."""
    return interval(row.value, row.low, row.high)


def proved_words(row: Proved) -> str:
    """Return in percent, rounded down, how many images are right and robust together at least: 0.8799 -> "87.9"."""
    return floor_percent(row.proved_value)


def plain_noise(noise: Noise) -> dict[str, object]:
    """Return a noise as a table, without the options that were not set."""
    return {key: value for key, value in noise.model_dump().items() if value is not None}


def cluster_words(column: Clusters) -> str:
    """Return a clustering in words: "10 clusters of 92 to 181 images, inertia 512.3, settled in 14 iterations"."""
    sizes = f"{counted(column.clusters, 'cluster')} of {min(column.sizes)} to {max(column.sizes)} images"
    end = "settled in" if column.settled else "stopped after"
    line = f"{sizes}, inertia {column.inertia:.6g}, {end} {counted(column.iterations, 'iteration')}"
    if column.matched is None:
        return line
    return f"{line}; {percent(column.matched)} % in the cluster matched to their class"


def noise_words(noise: Mapping[str, object]) -> str:
    """Return a noise in words: ``{"name": "uniform", "scale": 0.3}`` -> "uniform scale 0.3"."""
    return " ".join([str(noise["name"]), *(f"{key} {value}" for key, value in noise.items() if key != "name")])


def low_words(precision: str, what: str = "in") -> str:
    """Return ``"in bf16"`` of figures whose passes were not made in float32; empty if they were."""
    return "" if precision == "float32" else f"{what} {precision}"


def listed(*words: str) -> str:
    """Return the words, but for empty ones, with commas between them."""
    return ", ".join(filter(None, words))


def images_words(images: int, split: str = "test", runs: int = 1) -> str:
    """Return the images that an attack's figure is about: "500", "500 of train", "500, of 3 runs".

    Args:
        images: Number of images.
        split: The split, or data set and split, such as "cifar10/test".
        runs: Number of runs that attacked these images.
    """
    name = split.rpartition("/")[2]
    where = "" if name == "test" else f" of {name}"
    return f"{images}{where}" + (f", of {runs} runs" if runs > 1 else "")


def every_words(skip: int) -> str:
    """Return which images a step through a split takes, in words: "all", "every 2nd", "every 11th"."""
    if skip == 1:
        return "all"
    ending = "th" if 10 < skip % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(skip % 10, "th")
    return f"every {skip}{ending}"


def encoder_words(name: str) -> str:
    """Return which encoder a probe measured."""
    return "random weights" if name == "random" else name


def points_words(way: str) -> str:
    """Return how a probe chose its points x'."""
    return {"random": "random in the ball", "ascent": "found by ascent"}.get(way, way)


def p_value(p: float) -> str:
    """Return a p-value as text: 0.0321 -> "0.032"; a value below 0.001 is "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign: 0.012 -> "+1.2"."""
    return f"{100 * difference:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")
