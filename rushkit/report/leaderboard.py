"""A leaderboard of published models: those whose claims verify, by what the strict protocol leaves of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import rushkit
from rushkit.claims.entries import CheckedAttack, Entry, verify_entry
from rushkit.claims.published import CARD
from rushkit.claims.words import CANNOT
from rushkit.errors import UsageError, shorten, showable
from rushkit.files import write_atomic
from rushkit.paths import reason
from rushkit.recipe.overrides import Changes
from rushkit.recipe.radius import ball_words
from rushkit.report.figures import MeasuredAttack
from rushkit.report.links import link_from
from rushkit.report.page.render import render_html
from rushkit.report.protocols import attacks_of, upper_bounds
from rushkit.report.quotable import lowest, most_images
from rushkit.report.table import Table
from rushkit.report.tables.ranked import Ranked, Unranked, ranked_places, ranking_table, unranked_table
from rushkit.results.auditing import Audit
from rushkit.results.verification import VerifiedAttack
from rushkit.results.words import PROTOCOL_SENTENCES
from rushkit.rounding import counted

_TITLE = "Leaderboard"
_MOST_NAME = 80
SUFFIX = ".html"


@dataclass(frozen=True)
class Board:
    """The ranking of one ball on one split: sorted by strict accuracy.

    Attributes:
        key: Names it within the page.
        title: Data set, split and ball.
        rows: The models, the most robust first.
    """

    key: str
    title: str
    rows: tuple[Ranked, ...]

    @property
    def table(self) -> Table:
        """The ranking as a table."""
        return ranking_table(
            self.rows,
            f"{self.title}: what strict leaves at most, the largest share first; equal shares have one rank",
        )

    @property
    def placed(self) -> list[tuple[int, Ranked]]:
        """Each model with its rank, which models of equal strict accuracy share."""
        return list(zip(ranked_places(self.rows), self.rows, strict=True))


@dataclass(frozen=True)
class Leaderboard:
    """All rankings of a folder, the entries that are not ranked, and how many other folders there were."""

    boards: tuple[Board, ...]
    unranked: tuple[Unranked, ...]

    @property
    def unranked_table(self) -> Table | None:
        """The entries that are not ranked as a table; None if there are none."""
        return unranked_table(self.unranked) if self.unranked else None


def make_leaderboard(
    folder: Path, page: Path, seed: int, changes: Changes = (), say: Callable[[str], None] = lambda text: None
) -> Leaderboard:
    """Verify every published model of a folder, and write the page that ranks them.

    Args:
        folder: The folder; each folder in it is an entry, which may be anybody's.
        page: The HTML file; what was there is replaced.
        seed: Seed of the verifier's draws, which no author knew.
        changes: Changes to ``system``, such as where the data sets lie.
        say: Called with the name of each entry before it is verified.

    Raises:
        UsageError: there is no such folder, or the page is no .html file.
        RushkitError: the page cannot be written.
    """
    if page.suffix.lower() != SUFFIX:
        raise UsageError(f"{page} is no {SUFFIX} file", f"name the page, such as --to leaderboard{SUFFIX}")
    entries = []
    for each in _folders(folder):
        say(f"verify {showable(each.name)}")
        entries.append(verify_entry(each, seed, changes))
    leaderboard = build_leaderboard(entries, page.absolute().parent)
    write_atomic(page, [leaderboard_page(leaderboard).encode("utf-8", "backslashreplace")])
    return leaderboard


def leaderboard_page(leaderboard: Leaderboard) -> str:
    """Return the page of a leaderboard as HTML."""
    return render_html(
        "leaderboard.html.j2",
        title=_TITLE,
        leaderboard=leaderboard,
        protocols=PROTOCOL_SENTENCES[1:2],
        cannot=CANNOT,
        version=rushkit.__version__,
    )


def build_leaderboard(entries: Sequence[Entry], beside: Path) -> Leaderboard:
    """Return the rankings of entries that were verified.

    Args:
        entries: The entries.
        beside: The folder of the page, from which cards are linked.
    """
    boards: dict[tuple[str, str, float], list[Ranked]] = {}
    unranked: list[Unranked] = []
    for entry in entries:
        ranked = [] if entry.problems else _ranked(entry, beside)
        for row in ranked:
            record = row.attack.record
            boards.setdefault((record.split, record.norm, record.eps), []).append(row)
        if not ranked:
            unranked.append(Unranked(_name(entry), _reasons(entry)))
    return Leaderboard(
        boards=tuple(
            Board(
                f"board-{number}", f"{split}, {ball_words(norm, eps)}", tuple(sorted(rows, key=lambda row: row.order))
            )
            for number, ((split, norm, eps), rows) in enumerate(sorted(boards.items()), start=1)
        ),
        unranked=tuple(unranked),
    )


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name; hidden ones, files and links are no entries."""
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."
        )
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {reason(error)}", "name the folder of published models") from error


def _ranked(entry: Entry, beside: Path) -> list[Ranked]:
    """Return the rows of an entry, one for each ball: of the attacks that were scored again the one to quote."""
    assert entry.published is not None
    scored = [one for one in entry.attacks if not _unscored(one.found)]
    balls: dict[tuple[str, str, float], list[MeasuredAttack]] = {}
    for row in upper_bounds([measured for one in scored for measured in _measured(one)]):
        balls.setdefault((row.record.split, row.record.norm, row.record.eps), []).append(row)
    certified = tuple(one.results for one in entry.certifications if one.found.verdict != "inconsistent")
    audits = [record for record, _ in entry.records if isinstance(record, Audit)]
    return [
        Ranked(
            name=_name(entry),
            href=link_from(beside, entry.folder / CARD),
            attack=row,
            certified=certified,
            audit=audits[-1] if audits else None,
            verified=_verified(row, len(certified)),
            weights=entry.published.claims.model.weights,
        )
        for row in (lowest(most_images(rows)) for rows in balls.values())
    ]


def _measured(one: CheckedAttack) -> list[MeasuredAttack]:
    rows = [row for row in attacks_of("", one.results) if row.record is one.row]
    return [replace(row, chosen=one.found.selection) for row in rows]


def _verified(row: MeasuredAttack, certified: int) -> tuple[str, ...]:
    scored = f"{counted(row.record.images, 'image')} scored again"
    return (scored, *([f"{certified} certification{'s' * (certified > 1)} made again"] if certified else []))


def _reasons(entry: Entry) -> tuple[str, ...]:
    if entry.problems:
        return tuple(shorten(problem, 300) for problem in entry.problems)
    unscored = [why for one in entry.attacks if (why := _unscored(one.found))]
    return tuple(unscored) or ("no strict attack with saved images: there is nothing that could be scored again",)


def _unscored(found: VerifiedAttack) -> str:
    """Return why a verified attack has no rank; empty if it may have one."""
    if found.verdict != "consistent":
        return found.sentence
    chosen = any((check.code, check.status) == ("RV05", "warn") for check in found.checks)
    return f"{counted(found.images, 'image')} {found.selection}: no rule chose them" if chosen else ""


def _name(entry: Entry) -> str:
    return shorten(showable(entry.folder.name), _MOST_NAME)
