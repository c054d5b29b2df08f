"""Legends: each thing by what sets it apart, what all share once."""

from __future__ import annotations

import pytest

from rushkit.report.pictures.charts import Series
from rushkit.report.pictures.findings import finding
from rushkit.report.pictures.legends import caption, tell_apart


@pytest.mark.parametrize(
    ("described", "names", "shared"),
    [
        ([{"model": "a", "attack": "pgd"}, {"model": "b", "attack": "pgd"}], ["a", "b"], "pgd"),
        ([{"model": "a", "n": "9"}, {"model": "b", "n": "8"}], ["a, 9", "b, 8"], ""),
        # A single thing needs no name.
        ([{"model": "a", "attack": "pgd"}], [""], "a, pgd"),
        # What nothing sets apart is numbered; what lacks the words that others have is called by all it has.
        ([{"model": "a"}, {"model": "a"}], ["a", "a (2)"], "a"),
        ([{"model": "a", "settings": ""}, {"model": "a", "settings": "steps 1"}], ["a", "steps 1"], "a"),
        ([{}, {}], ["(2)", "(3)"], ""),
        # A name that is there already is not taken by a number.
        ([{"model": "a (2)"}, {"model": "a"}, {"model": "a"}], ["a (2)", "a", "a (3)"], ""),
        ([], [], ""),
    ],
)
def test_names_are_of_what_differs(described, names, shared):
    assert tell_apart(described) == (names, shared)


def test_a_caption_says_first_what_all_share():
    assert caption("pgd, n = 9", "Whiskers: intervals.") == "pgd, n = 9. Whiskers: intervals."
    assert caption("", "Whiskers: intervals.") == "Whiskers: intervals."
    assert caption("") == ""


def course(*series):
    return finding("Accuracy", series, lambda x: f"eps {x:g}")


def test_a_finding_says_where_lines_begin_and_end():
    strict, paper = Series("strict", [(0, 83.0), (8, 6.0)]), Series("paper", [(0, 83.0), (8, 83.0)])
    assert course(strict, paper) == (
        "Accuracy: strict falls from 83.0 % at eps 0 to 6.0 % at eps 8; paper is 83.0 % at eps 0 and at eps 8"
    )
    assert course(Series("", [(4, 50.0)])) == "Accuracy: it is 50.0 % at eps 4"


def test_a_finding_on_many_lines_says_the_lowest_and_the_highest_end():
    series = [Series(f"model {number}", [(0, 90.0), (8, 10.0 * number)]) for number in range(1, 7)]
    assert course(*series) == ("Accuracy, 6 lines: at their ends between 10.0 % (model 1) and 60.0 % (model 6)")
