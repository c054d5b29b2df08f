"""The verdict of a check, and comparisons of two attacks on the same images.

The checklist follows Carlini et al. 2019, Athalye et al. 2018, Tramer et al. 2020, Pintor et al. 2022 and Lee and Kim
2023. Codes are stable; ``docs/audit.md`` explains what each one means and what to do about it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from rushkit import statistics
from rushkit.auditing.measure import Point
from rushkit.results.notes import Status
from rushkit.rounding import percent

# Differences in accuracy that may be noise of a small sample, and those that count.
NOTICEABLE, LARGE = 0.03, 0.05
# How sure a difference between two attacks on the same images must be: to fail, by the exact McNemar test; to warn, in
# standard errors of the paired difference. Two runs of one attack differ so much one way in about one case of 40.
_ALPHA, _ERRORS = 0.05, 2.0
SEVERITY: tuple[Status, ...] = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Verdict:
    """The verdict of one check.

    Attributes:
        status: Whether the check passes, warns or fails, or was skipped.
        says: One sentence that states the finding.
        figures: The numbers behind the verdict, by name.
    """

    status: Status
    says: str
    figures: dict[str, float] = field(default_factory=dict)


def rival(weak: Point, strong: Point) -> Verdict:
    """Compare two attacks: the weaker one must not break more images."""
    figures = {f"accuracy under {weak.label}": weak.accuracy, f"accuracy under {strong.label}": strong.accuracy}
    says = f"{weak.label} leaves {as_percent(weak.accuracy)}, {strong.label} {as_percent(strong.accuracy)}"
    return Verdict(worse_by(weak, strong), says + tolerance(weak, strong), figures)


def monotone(points: list[Point], what: str) -> Verdict:
    """Check that accuracy does not rise along a sweep."""
    statuses = {worse_by(before, after) for before, after in pairwise(points)}
    worst: Status = "fail" if "fail" in statuses else "warn" if "warn" in statuses else "pass"
    accuracies = ", ".join(as_percent(point.accuracy) for point in points)
    figures = {f"accuracy at {point.label}": point.accuracy for point in points}
    return Verdict(worst, f"along {what} accuracy goes {accuracies}", figures)


def worse_by(lower: Point, higher: Point) -> Status:
    """Compare the accuracy of two points on the same images, by size and significance of the difference."""
    drop = higher.accuracy - lower.accuracy
    lost, won = discordant(lower, higher)
    if drop > LARGE and lost > won and float(statistics.mcnemar(lost, won)) < _ALPHA:
        return "fail"
    return "warn" if drop > _noticed_from(lower, higher) else "pass"


def discordant(lower: Point, higher: Point) -> tuple[int, int]:
    """Return how many images only the second point has right, and how many only the first."""
    pairs = list(zip(lower.right, higher.right, strict=True))
    return sum(after and not before for before, after in pairs), sum(before and not after for before, after in pairs)


def _noticed_from(lower: Point, higher: Point) -> float:
    """Return the smallest drop in accuracy on these images that chance does not explain."""
    return max(NOTICEABLE, _ERRORS * _paired_error(lower, higher))


def _paired_error(lower: Point, higher: Point) -> float:
    """Return the standard error of the mean paired difference of the shares; infinite for a single image."""
    differences = [before - after for before, after in zip(higher.share, lower.share, strict=True)]
    count = len(differences)
    if count < 2:
        return math.inf
    mean = math.fsum(differences) / count
    return math.sqrt(math.fsum((difference - mean) ** 2 for difference in differences) / (count - 1) / count)


def smallest_drop(images: int) -> float:
    """Return the smallest drop that warns: whole images fall, none rises; a share p with p > 2·√(p(1 − p)/(n − 1))."""
    fallen = min(math.floor(_ERRORS**2 * images / (images - 1 + _ERRORS**2)) + 1, images)
    return max(fallen / images, NOTICEABLE)


def above(share: float, warn: float, fail: float) -> Status:
    """Return "fail" if a share is above ``fail``, "warn" if it is above ``warn``, else "pass"."""
    return "fail" if share > fail else "warn" if share > warn else "pass"


def change(before: Point, after: Point) -> str:
    """Return a phrase for how accuracy changes from one attack to the next of a sweep."""
    return (
        f"from {before.label} to {after.label} accuracy goes from {as_percent(before.accuracy)} to "
        f"{as_percent(after.accuracy)}{tolerance(after, before)}"
    )


def tolerance(lower: Point, higher: Point) -> str:
    """Return a phrase for a drop that passes: the number of images, and the drop that would have caused a warning."""
    images, drop = len(lower.share), higher.accuracy - lower.accuracy
    if not 0 < drop <= min(_noticed_from(lower, higher), 1.0):
        return ""
    # A larger drop of whole images has a larger error: the error that was seen would promise too much.
    least = min(max(_noticed_from(lower, higher), smallest_drop(images)), 1.0)
    return f"; on {images} images a drop below {as_percent(least)} can be chance"


def as_percent(share: float) -> str:
    """Return a share in percent, with its sign: ``"12.5 %"``."""
    return f"{percent(share)} %"
