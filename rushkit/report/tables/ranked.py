"""The tables of a leaderboard: the ranking of each ball, and the entries that are not ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushkit.errors import first_few
from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.figures import MeasuredAttack
from rushkit.report.places import shared_places
from rushkit.report.protocols import protocol_words
from rushkit.report.table import PAGE, Cell, Column, Heading, Table, build_table, column
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification
from rushkit.results.jsonable import Figures
from rushkit.results.words import at_most_words, noise_words, proved_words
from rushkit.rounding import ceil_percent, floor_percent, percent, percent_interval

_HASH = 16


@dataclass(frozen=True)
class Ranked:
    """A model whose strict accuracy in one ball was scored again.

    Attributes:
        name: Its name.
        href: Where its card lies, percent-encoded.
        attack: Of its attacks on the most images the one that leaves least.
        certified: Its certifications whose radii follow from their counts.
        audit: Its newest audit; None if there is none.
        verified: What was verified, a phrase each.
        weights: Hash of its weights.
    """

    name: str
    href: str
    attack: MeasuredAttack
    certified: tuple[Certification, ...]
    audit: Audit | None
    verified: tuple[str, ...]
    weights: str

    @property
    def order(self) -> tuple[float, str]:
        """What a ranking is sorted by: the largest share first, equal ones by name."""
        return -self.attack.majority.accuracy, self.name


@dataclass(frozen=True)
class Unranked(Figures):
    """An entry that is not ranked, and why."""

    name: str
    reasons: tuple[str, ...]


def ranked_places(rows: Sequence[Ranked]) -> list[int]:
    """Return the place of each row of a ranking: those of equal strict accuracy share one."""
    return shared_places([row.attack.majority.accuracy for row in rows])


def ranking_table(rows: Sequence[Ranked], caption: str) -> Table:
    """Return the ranking of models in one ball: sorted by what the strict protocol leaves, an upper bound."""
    places = {id(row): place for row, place in zip(rows, ranked_places(rows), strict=True)}
    strict = Heading("strict: at most % [95%]", kind="strict", head_kind="strict", label="strict: at most %")
    columns: list[Column[Ranked]] = [
        column("model", lambda row: Cell(row.name, strong=True, href=row.href), left=True),
        column("rank", lambda row: places[id(row)], label="rank"),
        Column(strict, _strict),
        column("attack", _attack, left=True, label="attack"),
        column("images", _images, left=True, kind="says", label="images"),
        column("clean %", lambda row: percent(row.attack.majority.clean_accuracy), label="clean %"),
        column("certified: at least %", _certified, left=True, label="certified: at least %"),
        column("audit", _audit, left=True, label="audit"),
        column("verified here", _verified, left=True, label="verified here"),
        column("weights", lambda row: Cell(row.weights[:_HASH]), left=True, label="weights", media=PAGE),
    ]
    return build_table(rows, columns, caption)


def unranked_table(rows: Sequence[Unranked]) -> Table:
    """Return the entries that are not ranked, with the reasons."""
    columns: list[Column[Unranked]] = [
        column("entry", lambda row: Cell(row.name, strong=True), left=True),
        column("why it is not ranked", _why, left=True, kind="wide says"),
    ]
    return build_table(rows, columns, "Not ranked: what could not be verified, or has no figure that could be.")


def _why(row: Unranked) -> str:
    return first_few(row.reasons, 3, separator="; ")


def statement(row: Ranked) -> str:
    """Return a ranked figure in one line, for the terminal."""
    ball = ball_words(row.attack.record.norm, row.attack.record.eps)
    return f"{row.name}: {at_most_words(row.attack.majority)} under {row.attack.record.attack}, {ball}"


def _strict(row: Ranked) -> Cell:
    share = row.attack.majority
    return Cell(ceil_percent(share.accuracy), (percent_interval(share.low, share.high, " – "),), strong=True)


def _attack(row: Ranked) -> Cell:
    record = row.attack.record
    small = (protocol_words(record), f"m = {record.samples}", f"noise {noise_words(row.attack.noise)}")
    return Cell(record.attack, small)


def _images(row: Ranked) -> Cell:
    return Cell(str(row.attack.record.images), (row.attack.chosen,))


def _certified(row: Ranked) -> Cell:
    if not row.certified:
        return Cell("–", kind="text dim")
    lines = [line for one in row.certified for line in _radius(one)]
    return Cell(lines[0], tuple(lines[1:]))


def _radius(one: Certification) -> list[str]:
    shown = [radius for radius in one.certified if radius.radius > 0 and radius.count]
    if not shown:
        return [f"0.0 at {norm_words(one.norm)}, n = {one.images}"]
    middle = shown[len(shown) // 2]
    ball = ball_words(one.norm, middle.radius)
    together = f"together {proved_words(middle)}" if one.alpha else "exact"
    return [f"{floor_percent(middle.value)} at {ball}", f"{together}, n = {one.images}"]


def _audit(row: Ranked) -> Cell:
    if row.audit is None:
        return Cell("none", kind="text dim")
    fails, warns = ([check.code for check in row.audit.checks if check.status == status] for status in ("fail", "warn"))
    if fails:
        return Cell(f"{', '.join(fails)} fail", (f"{len(warns)} warn",), kind="text bad", strong=True)
    passed = sum(check.status == "pass" for check in row.audit.checks)
    return Cell("none fails", (f"{passed} pass, {len(warns)} warn",), kind="text good")


def _verified(row: Ranked) -> Cell:
    return Cell("consistent", row.verified, kind="text good", strong=True)
