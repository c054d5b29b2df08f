"""The figures of a run as numbers, each with what it was measured on: for JSON, CSV and rankings, not for reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.protocols import settings_words
from rushkit.results import Results
from rushkit.results.attacks import AttackRow, Attacks, variant_words
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification
from rushkit.results.clustering import Clustering
from rushkit.results.evaluation import Evaluation, Probe
from rushkit.results.imported import Imported
from rushkit.results.jsonable import Figures
from rushkit.results.selftest import SelfTest
from rushkit.results.training import Finetuning, Pretraining
from rushkit.results.words import encoder_words, listed, low_words, points_words
from rushkit.rounding import counted

# Names of the figures of which less is better; of the others more is.
LESS_IS_BETTER = frozenset({"loss", "checks_failed", "lipschitz_ratio", "inertia"})
# All names, in the order in which a table has them.
NAMES = (
    "accuracy",
    "robust_accuracy",
    "certified_accuracy",
    "average_radius",
    "checks_failed",
    "lipschitz_ratio",
    "knn_accuracy",
    "validation_accuracy",
    "validation_robust_accuracy",
    "loss",
    "inertia",
    "faults_caught",
)


@dataclass(frozen=True)
class Number(Figures):
    """One figure of a run.

    Attributes:
        name: What is measured: one of ``NAMES``. Shares are in [0, 1], radii in pixel units.
        what: On what and how: figures of one name compare where this is the same.
        value: The figure.
        low: Lower end of its 95% interval; None without one.
        high: Upper end of the interval.
        images: How many images it is about; None where that is not recorded.
    """

    name: str
    what: str
    value: float
    low: float | None = None
    high: float | None = None
    images: int | None = None


def numbers_of(results: Results | None) -> list[Number]:
    """Return the figures of results, in the order of the file; empty without results."""
    return [] if results is None else list(_numbers(results))


def _numbers(results: Results) -> Iterator[Number]:
    match results:
        case Evaluation():
            for row in results.accuracy:
                how = listed(f"{results.data}, m = {row.samples}, {row.rule}", low_words(results.precision))
                yield Number("accuracy", how, row.accuracy, row.low, row.high, row.images)
        case Attacks():
            for attack in results.attacks:
                vote, how = attack.rules["majority"], attacked_words(attack)
                yield Number("robust_accuracy", how, vote.accuracy, vote.low, vote.high, attack.images)
        case Certification():
            yield from _certified(results)
        case Audit():
            failed = sum(check.status == "fail" for check in results.checks)
            yield Number("checks_failed", f"{results.data}, m = {results.samples}", failed, images=results.images)
        case Probe():
            for ratio in results.rows:
                ball = ball_words(results.norm, results.eps)
                how = f"{results.data}, {encoder_words(ratio.encoder)}, {ball}, x' {points_words(ratio.points)}"
                yield Number("lipschitz_ratio", how, ratio.mean, ratio.low, ratio.high, ratio.images)
        case SelfTest():
            caught = [totals.caught for totals in results.totals if totals.caught]
            if total := sum(rate.total for rate in caught):
                yield Number("faults_caught", "self-test", sum(rate.count for rate in caught) / total)
        case Imported():
            if (clean := results.clean) is not None:
                how = f"{clean.data}, without noise"
                yield Number("accuracy", how, clean.accuracy, clean.low, clean.high, clean.images)
        case Clustering():
            for column in results.columns:
                how = f"{results.data}, {counted(column.clusters, 'cluster')}"
                yield Number("inertia", how, column.inertia, images=results.images)
        case Pretraining() | Finetuning():
            yield from _trained(results)


def attacked_words(row: AttackRow) -> str:
    """Return what a row of an attack measured: "cifar10/test, pgd l-inf 8/255 strict, m = 64"."""
    settings = f"; {settings_words(row)}" if row.deviations else ""
    return (
        f"{row.split}, {row.attack} {ball_words(row.norm, row.eps)} {variant_words(row)}, m = {row.samples}{settings}"
    )


def _certified(results: Certification) -> Iterator[Number]:
    how = listed(f"alpha {results.alpha:g}, {counted(results.samples, 'draw')}", low_words(results.precision))
    for row in results.certified:
        ball = ball_words(results.norm, row.radius)
        yield Number("certified_accuracy", f"{results.data}, {ball}, {how}", row.value, row.low, row.high, row.total)
    norm = norm_words(results.norm)
    yield Number("average_radius", f"{results.data}, {norm}, {how}", results.average_radius, images=results.images)


def _trained(results: Pretraining | Finetuning) -> Iterator[Number]:
    for name in ("loss", "knn_accuracy", "validation_accuracy", "validation_robust_accuracy"):
        value = getattr(results, name, None)
        if value is not None:
            yield Number(name, f"{results.stage}, {counted(results.epochs, 'epoch')}", value)
