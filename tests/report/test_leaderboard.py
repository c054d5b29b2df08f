"""The leaderboard: what is ranked, what is not and why, and that anybody's folder is only text."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from synthetic_runs import attack_row, attacks

from rushkit.claims import entries
from rushkit.claims.entries import CheckedAttack, Entry, verify_entry
from rushkit.documents.models import RankedBall
from rushkit.errors import UsageError
from rushkit.report.leaderboard import Board, Leaderboard, build_leaderboard, leaderboard_page, make_leaderboard
from rushkit.report.make import families_of
from rushkit.report.protocols import attacks_of
from rushkit.report.publishing import publish
from rushkit.report.tables.ranked import Ranked
from rushkit.results.notes import Check
from rushkit.results.verification import Estimate, VerifiedAttack

HOSTILE = "<script>alert(1)<"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A published model without artifacts, foreign files and folders, and a torn entry of a hostile name."""
    root = tmp_path_factory.mktemp("board")
    (family,) = families_of(["shipped/digits"], "runs")
    publish(family, [], root / "digits")
    (root / "foreign").mkdir()
    (root / "file.txt").write_text("")
    (root / ".git").mkdir()
    (root / HOSTILE).mkdir()
    (root / HOSTILE / "claims.json").write_text("{")
    return root


def test_what_cannot_be_verified_is_named_with_the_reason_and_not_ranked(folder, tmp_path):
    made = make_leaderboard(folder, tmp_path / "board.html", seed=1)
    assert made.boards == ()
    reasons = {row.name: row.reasons[0] for row in made.unranked}
    assert set(reasons) == {"digits", "foreign", HOSTILE}
    assert "no strict attack with saved images" in reasons["digits"]
    assert "is no published model" in reasons["foreign"]
    assert "is damaged" in reasons[HOSTILE]


def test_a_hostile_name_is_text_on_the_page(folder, tmp_path):
    make_leaderboard(folder, tmp_path / "board.html", seed=1)
    page = (tmp_path / "board.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert all('scope="' in head for head in re.findall("<th[^e][^>]*>", page))
    assert re.findall("<h([1-6])", page) == ["1", "2", "2"]


def ranked(name, right):
    """A model of which ``right`` of four images hold, by all eight votes."""
    row = attack_row([8] * right + [0] * (4 - right))
    return Ranked(name, "", attacks_of("", attacks(row))[0], (), None, (), "")


def test_models_of_equal_strict_accuracy_share_a_rank():
    # Two folders may have one name on the page, where long names are cut.
    rows = tuple(ranked(name, right) for name, right in [("a", 3), ("b", 2), ("b", 2), ("c", 1)])
    board = Board("board-1", "digits/test, l-inf 0.1", rows)
    assert [[cell.text for cell in row[:2]] for row in board.table.rows] == [
        ["a", "1"],
        ["b", "2"],
        ["b", "2"],
        ["c", "4"],
    ]
    assert [model.rank for model in RankedBall.of(board).models] == [1, 2, 2, 4]


@pytest.mark.parametrize("status", ["pass", "warn"])
def test_images_that_the_author_chose_are_not_ranked(tmp_path, status):
    """Who chooses the images chooses the share that stays right."""
    run = attacks(attack_row([8, 8, 0, 0]))
    share = Estimate(accuracy=0.5, low=0.1, high=0.9, votes=8)
    found = VerifiedAttack(
        attack="pgd",
        split="digits/test",
        selection="of digits/test, chosen by the author",
        norm="linf",
        eps=0.1,
        images=4,
        model="0" * 64,
        claimed=share,
        claimed_clean=share,
        digest="0" * 64,
        verdict="consistent",
        checks=[Check(code="RV05", name="images-selected", status=status, says="", figures={})],
        sentence="4 images: consistent",
    )
    published = SimpleNamespace(claims=SimpleNamespace(model=SimpleNamespace(weights="0" * 64)))
    entry = Entry(tmp_path / "mine", published, attacks=(CheckedAttack(run, run.attacks[0], found),))
    made = build_leaderboard([entry], tmp_path)
    assert len(made.boards) == (status == "pass")
    reasons = [row.reasons for row in made.unranked]
    assert reasons == ([] if made.boards else [("4 images of digits/test, chosen by the author: no rule chose them",)])


def test_on_a_phone_a_row_begins_with_the_name_and_the_rank_is_labelled():
    board = Board("board-1", "digits/test, l-inf 0.1", (ranked("mine", 3),))
    page = leaderboard_page(Leaderboard((board,), ()))
    (row,) = re.findall("<tbody>(.*?)</tbody>", page, re.DOTALL)
    first, second = re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row, re.DOTALL)[:2]
    assert first == '<th scope="row" class="text"><b>mine</b></th>'
    assert second == '<td data-label="rank">1</td>'


def test_what_few_images_leave_does_not_displace_what_many_do(tmp_path):
    results = attacks(attack_row([10, 10, 10, 0]), attack_row([0, 0]))
    consistent = SimpleNamespace(verdict="consistent", selection="the first", checks=())
    published = SimpleNamespace(claims=SimpleNamespace(model=SimpleNamespace(weights="")))
    checked = tuple(CheckedAttack(results, row, consistent) for row in results.attacks)
    (board,) = build_leaderboard([Entry(tmp_path / "mine", published, attacks=checked)], tmp_path).boards
    assert [(model.accuracy, model.images) for model in RankedBall.of(board).models] == [(0.75, 4)]


def test_whatever_breaks_an_entry_is_a_reason(folder, monkeypatch):
    def broken(path):
        raise ZeroDivisionError("\x1b[2J")

    monkeypatch.setattr(entries, "read_published", broken)
    (problem,) = verify_entry(folder / "digits", 1).problems
    assert problem == r"it could not be checked: ZeroDivisionError: \x1b[2J"


def test_a_page_that_is_no_html_and_a_folder_that_is_not_there_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match=r"is no \.html file"):
        make_leaderboard(folder, tmp_path / "board.txt", seed=1)
    with pytest.raises(UsageError, match="cannot be read"):
        make_leaderboard(tmp_path / "nowhere", tmp_path / "board.html", seed=1)
