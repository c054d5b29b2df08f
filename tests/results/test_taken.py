"""Records of what images are taken for: what no votes can have said is refused, and records without it are read."""

from __future__ import annotations

import json

import pytest

from rushkit.results import parse
from rushkit.results.attacks import Attacks, TargetClass
from rushkit.results.taken import TakenFor

# Of ten votes on three images of class 0, so many are right.
RIGHT = [10, 3, 5]


def taken(classes, votes):
    return {rule: TakenFor(classes=classes, votes=votes) for rule in ("majority", "mean")}


CLEAN = taken([0, 0, 0], [10, 10, 10])


@pytest.fixture
def voted(attack_row):
    """``voted([0, 2, 1], [10, 6, 5])``: a row of three images that are taken for these classes by so many votes."""

    def make(classes, votes, clean=CLEAN, **changes):
        row = attack_row("linf", 0.1, RIGHT)
        outcomes = row.outcomes.with_changes(taken_for=taken(classes, votes), clean_taken_for=clean)
        return row.with_changes(outcomes=outcomes, **changes)

    return make


@pytest.mark.parametrize("votes", [[10, 4, 5], [10, 7, 5]])
def test_what_votes_can_have_said_is_read(voted, votes):
    assert voted([0, 2, 0], votes).outcomes.taken_for["mean"].votes == votes


@pytest.mark.parametrize(
    ("classes", "votes", "reason"),
    [
        ([0, 2, 0], [11, 7, 5], "by 11 of 10 votes"),
        ([0, 2, 0], [10, 8, 5], "has 8 votes for class 2 and 3 for 0, of 10"),
        ([0, 2, 0], [10, 2, 5], "by 2 votes, and 3 give class 0"),
        ([0, 0, 0], [10, 4, 5], "by 4 votes, and 3 give it"),
        ([0, 2, 1], [10, 7, 5], "class 1 by 5 votes, and 5 give class 0"),
        ([0, 2, -1], [10, 7, 5], "class -1 by 5 votes, and 5 give class 0"),
        ([0, 2], [10, 7], "2 images are taken for a class, not 3"),
    ],
)
def test_what_no_votes_can_have_said_is_refused(voted, classes, votes, reason):
    with pytest.raises(ValueError, match=reason):
        voted(classes, votes)


def test_a_class_has_a_vote_and_every_class_a_count():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        TakenFor(classes=[0], votes=[0])
    with pytest.raises(ValueError, match="1 counts of votes stand beside 2 classes"):
        TakenFor(classes=[0, 1], votes=[1])


def test_the_clean_images_are_taken_for_something_too(voted):
    with pytest.raises(ValueError, match="not kept under every rule"):
        voted([0, 2, 0], [10, 7, 5], clean={})


def test_towards_a_target_the_votes_that_are_not_right_give_it(voted):
    target = TargetClass(index=3, name="cat")
    assert voted([0, 3, 0], [10, 7, 5], target=target).target == target
    with pytest.raises(ValueError, match="class 3 by 6 votes, and 7 give it"):
        voted([0, 3, 0], [10, 6, 5], target=target)


def results(row, classes):
    about = {"recipe": "mine", "source": "x", "data": "digits", "failed": []}
    return Attacks(**about, noise={"name": "none"}, attacks=[row], classes=classes)


def test_a_class_is_one_of_those_that_the_model_has(voted):
    row = voted([0, 2, 0], [10, 7, 5])
    assert results(row, ["ant", "bee", "cat"]).classes[2] == "cat"
    for few in (["ant", "bee"], []):
        with pytest.raises(ValueError, match=f"of class 2, or taken for it, of {len(few)} classes"):
            results(row, few)


def test_records_that_did_not_keep_it_are_read_and_written_as_they_were(attack_row):
    row = attack_row("linf", 0.1, RIGHT)
    assert not row.outcomes.taken_for
    record = results(row, [])
    table = record.to_table()
    assert "classes" not in table
    assert not {"taken_for", "clean_taken_for"} & set(table["attacks"][0]["outcomes"])
    assert parse(json.dumps(table)) == record
