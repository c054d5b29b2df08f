"""Lines that could never have been written are found without their chain of hashes."""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import pairwise

import pytest

from rushkit.certification.draws import image_uniform
from rushkit.certification.log_checks import check_counts
from rushkit.errors import RushkitError, UsageError
from rushkit.robustness.log_checks import check_attack, check_version
from rushkit.run.log import BlockLog, chained, read_chained, read_log
from rushkit.votes import SCORE

SUBJECT = {
    **{"data": {"name": "digits"}, "split": "test", "limit": 0, "skip": 1, "noise": {"name": "uniform"}, "seed": 0},
    **{"selection": 10, "model": "m", "precision": "float32", "images": "i", "of": 2, "dim": 12, "classes": ["a", "b"]},
    **{"samples": 100, "mode": "fixed", "warnings": [], "size": ""},
}
SELECTION = {
    **{"part": "selection", "images": [0, 1], "labels": [0, 1], "votes": [[9, 1], [2, 8]]},
    **{"scores": [[9 * SCORE, SCORE], [2 * SCORE, 8 * SCORE]], "drawn": 20, "seconds": 0.5},
    "uniforms": [image_uniform(0, 0), image_uniform(0, 1)],
}
SPLITS = {key: value for key, value in SELECTION.items() if key != "uniforms"} | {"part": "splits"}
ESTIMATION = {
    **{"part": "estimation", "images": [0, 1], "start": 0, "stop": 100, "votes": [[90, 10], [20, 80]]},
    **{"scores": [90 * SCORE, 80 * SCORE], "squares": [90 * SCORE**2, 80 * SCORE**2], "drawn": 200, "seconds": 1},
}
LOOKS = [7, 9, 12, 15, 19, 24, 30, 38, 48, 60, 75, 94, 100]
TESTS = {**SUBJECT, "mode": "sequential", "looks": LOOKS}
ROUND = {"part": "round", "images": [0], "right": [[6]], "sizes": [[7]], "drawn": 7, "seconds": 1.0}
BLOCK = {
    **{"images": [0, 1], "labels": [3, 1], "chosen": [0, -1], "notes": [], "contributions": {"pgd": 1}},
    **{"right": {"majority": [0, 4]}, "clean_right": {"majority": [4, 4]}},
    **{"image_forwards": 10, "image_backwards": 5, "seconds": 0.1},
}
ATTACK = {"block": 2, "votes": 4, "worst by": ["majority"]}


def check_block(records):
    check_attack(ATTACK, records, labels=[3, 1, 0], candidates=1)


def test_what_the_stages_write_passes():
    check_counts(SUBJECT, [SELECTION, ESTIMATION])
    check_counts(TESTS, [SELECTION, ROUND, ROUND | {"right": [[2]], "sizes": [[2]], "drawn": 2}])
    check_counts({**SUBJECT, "mode": "splits", "samples": 10}, [SPLITS])
    check_block([BLOCK, {**BLOCK, **third_image()}])


def third_image():
    """What the last block, of one image, has in the place of the first one's."""
    votes = {"majority": [4]}
    return {"images": [2], "labels": [0], "chosen": [0], "right": votes, "clean_right": votes}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("votes", [[91, 10], [20, 80]], "not as many as its draws"),
        ("votes", [[110, -10], [20, 80]], "greater than or equal to 0"),
        ("votes", [[90.0, 10], [20, 80]], "valid integer"),
        ("votes", [[90, 10, 0], [20, 80, 0]], "no whole number"),
        ("votes", [[10**30, 10], [20, 80]], "no whole number"),
        ("images", [1, 0], "do not follow each other"),
        ("start", 10, "do not follow each other"),
        ("drawn", 100, "not those of its images"),
        ("scores", [101 * SCORE, 80 * SCORE], "out of range"),
        ("squares", [0, 80 * SCORE**2], "not that of its confidences"),
        ("seconds", "soon", "valid number"),
        ("seconds", math.inf, "no number"),
        ("seconds", -1.0, "greater than or equal to 0"),
        ("part", "round", "Field required"),
        ("part", "guess", "Input tag 'guess'"),
    ],
)
def test_counts_that_cannot_be_are_refused(key, value, reason):
    with pytest.raises(ValueError, match=reason):
        check_counts(SUBJECT, [SELECTION, {**ESTIMATION, key: value}])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("images", [7], "not one of those"),
        ("images", [0, 0], "twice"),
        ("right", [[101]], "out of range"),
        ("right", [[8]], "more votes than draws"),
        ("right", [[]], "no whole number"),
        ("sizes", [[6]], "do not end where the tests are evaluated"),
        ("sizes", [[100]], "do not end where the tests are evaluated"),
        ("sizes", [[]], "do not end where the tests are evaluated"),
        ("sizes", [[7, 2]], "do not end where the tests are evaluated"),
        ("drawn", 1, "not those of its images"),
    ],
)
def test_rounds_that_cannot_be_are_refused(key, value, reason):
    with pytest.raises(ValueError, match=reason):
        check_counts(TESTS, [SELECTION, {**ROUND, key: value}])


def test_no_image_has_more_draws_than_a_test_may_take():
    sizes = [7, *(after - before for before, after in pairwise(LOOKS))]
    rounds = [ROUND | {"right": [[0]], "sizes": [[size]], "drawn": size} for size in sizes]
    check_counts(TESTS, [SELECTION, *rounds])
    with pytest.raises(ValueError, match="more draws than a test may take"):
        check_counts(TESTS, [SELECTION, *rounds, rounds[-1]])


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ({**TESTS, "looks": [100]}, "evaluated after 100 draws, and would be evaluated after 7, 9, 12, 15, ..., 100"),
        ({**SUBJECT, "mode": "sequential"}, "evaluated at unknown numbers of draws, and would be evaluated after 7"),
        ({**SUBJECT, "looks": LOOKS}, "evaluated after 7, 9, 12, 15, ..., 100 draws, and would be evaluated at"),
    ],
)
def test_counts_of_other_looks_are_refused(subject, words):
    with pytest.raises(UsageError, match=words):
        check_counts(subject, [SELECTION])


@pytest.mark.parametrize(("key", "value"), [("labels", [0, 2]), ("scores", [[9 * SCORE, SCORE], [0, 8 * SCORE]])])
def test_a_selection_that_cannot_be_is_refused(key, value):
    with pytest.raises(ValueError, match=r"out of range|do not add up"):
        check_counts(SUBJECT, [{**SELECTION, key: value}])


@pytest.mark.parametrize(
    ("uniforms", "reason"),
    [
        ([0.5, 0.5], "not the one that the seed gives"),
        (SELECTION["uniforms"][::-1], "not the one that the seed gives"),
        (SELECTION["uniforms"][:1], "not the one that the seed gives"),
        ([SELECTION["uniforms"][0], 0.0], "greater than 0"),
        ([SELECTION["uniforms"][0], -1e-9], "greater than 0"),
        ([SELECTION["uniforms"][0], 1.5], "less than or equal to 1"),
        ([SELECTION["uniforms"][0], math.nan], "less than or equal to 1"),
        ([SELECTION["uniforms"][0], math.inf], "less than or equal to 1"),
        ([SELECTION["uniforms"][0], "0.5"], "valid number"),
        (0.5, "valid list"),
    ],
)
def test_uniform_draws_that_the_seed_does_not_give_are_refused(uniforms, reason):
    with pytest.raises(ValueError, match=reason):
        check_counts(SUBJECT, [{**SELECTION, "uniforms": uniforms}])
    with pytest.raises(ValueError, match="not the one that the seed gives"):
        check_counts({**SUBJECT, "seed": 1}, [SELECTION])


def test_the_uniform_draws_of_a_seed_stay_what_they_are():
    # Another value here makes all counts unreadable.
    assert image_uniform(0, 0) == 0.8019228163108727
    assert image_uniform(0, 0, "predict") == 0.6970875032768525


def test_a_selection_without_uniform_draws_is_one_of_another_version():
    with pytest.raises(ValueError, match="another version of rushkit wrote it; certify anew"):
        check_counts(SUBJECT, [{key: value for key, value in SELECTION.items() if key != "uniforms"}, ESTIMATION])


def test_images_have_three_square_planes():
    with pytest.raises(ValueError, match="no image has 13 values"):
        check_counts({**SUBJECT, "dim": 13}, [])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("labels", [3, 2], "not that of its image"),
        ("images", [0, 2], "do not follow each other"),
        ("chosen", [1, 0], "out of range"),
        ("right", {"majority": [5, 0]}, "out of range"),
        ("right", {}, "a rule of voting is missing"),
        ("contributions", {"pgd": 3}, "out of range"),
        ("image_forwards", -1, "out of range"),
        ("notes", [1], "a note"),
    ],
)
def test_outcomes_that_cannot_be_are_refused(key, value, reason):
    with pytest.raises(ValueError, match=reason):
        check_block([{**BLOCK, key: value}])


def test_a_log_names_its_file_and_what_is_wrong(tmp_path):
    path = tmp_path / "counts.jsonl"
    wrong = deepcopy(ESTIMATION)
    wrong["votes"][0][0] += 1
    path.write_bytes(b"".join(chained([{"subject": SUBJECT}, SELECTION, wrong])))
    for read in (lambda: read_log(path, check_counts), lambda: BlockLog(path, SUBJECT, check_counts)):
        with pytest.raises(RushkitError, match=r"counts\.jsonl is damaged: the votes of an image"):
            read()


def test_a_file_that_ends_at_a_line_is_one_that_was_stopped_there():
    lines = chained([{"subject": {}}, {"images": [0]}, {"images": [1]}])
    records, seals, whole = read_chained(b"".join(lines[:2]) + lines[2][:-1])
    assert records == [{"subject": {}}, {"images": [0]}]
    assert (seals[-1].lines, whole) == (2, len(lines[0] + lines[1]))


@pytest.mark.parametrize(
    ("begun", "words"),
    [
        ({}, "begun under version 1 of its protocol, effort 1, and would go on under version 2, effort 2"),
        ({"version": 2, "effort": 1}, "begun under version 2 of its protocol, effort 1"),
    ],
)
def test_a_log_of_another_version_or_effort_is_refused(tmp_path, begun, words):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(chained([{"subject": {**ATTACK, **begun}}])))
    with pytest.raises(UsageError, match=words):
        check_version(path, {**ATTACK, "version": 2, "effort": 2})


def test_a_log_of_this_version_and_one_that_is_not_there_or_torn_are_not_refused(tmp_path):
    path, here = tmp_path / "log.jsonl", {**ATTACK, "version": 2, "effort": 1}
    check_version(path, here)
    path.write_bytes(b"")
    check_version(path, here)
    path.write_bytes(b"".join(chained([{"subject": here}])) + b"torn")
    check_version(path, here)


def test_a_round_that_the_attack_does_not_have_is_found():
    check_attack(ATTACK, [{**BLOCK, "first_broken": {"majority": [2, -1]}}], labels=[3, 1], candidates=1, rounds=2)
    with pytest.raises(ValueError, match="a round"):
        check_attack(ATTACK, [{**BLOCK, "first_broken": {"majority": [2, -1]}}], labels=[3, 1], candidates=1, rounds=1)


@pytest.mark.parametrize("falls", [[0.5], [0.5, 1.1], [-0.1, 0.5], [0.5, math.nan], [0.5, "0.5"], [0.5, True], "ab"])
def test_a_fall_that_is_no_share_is_found(falls):
    check_attack(ATTACK, [{**BLOCK, "last_fall": {"majority": [0.0, 1.0]}}], labels=[3, 1], candidates=1, rounds=2)
    with pytest.raises(ValueError, match="a fall is"):
        check_attack(ATTACK, [{**BLOCK, "last_fall": {"majority": falls}}], labels=[3, 1], candidates=1, rounds=2)
