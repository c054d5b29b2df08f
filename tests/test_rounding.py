"""How figures are written: rounded to the safe side, with the digits that they need."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from rushkit.rounding import as_asked, counted, decimals_of, floor_radius, percent, percent_interval


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [(1, "epoch", "1 epoch"), (0, "image", "0 images"), (2, "pass", "2 passes"), (1, "pass", "1 pass")],
)
def test_one_thing_is_said_in_the_singular(number, noun, said):
    assert counted(number, noun) == said


def test_computed_radii_are_never_rounded_up():
    assert floor_radius(1.9057, 2) == "1.90"
    assert floor_radius(2.0, 3) == "2.000"
    assert floor_radius(0.0, 1) == "0.0"
    for radius in np.random.default_rng(0).exponential(1, 1000):
        text = Decimal(floor_radius(radius, 4))
        assert text <= Decimal(float(radius)) < text + Decimal("1e-4")


def test_small_radii_keep_two_digits():
    assert [floor_radius(radius) for radius in (0.0004, 0.000149, 0.00999, 1.29e-7)] == [
        "0.00040", "0.00014", "0.0099", "0.00000012",
    ]  # fmt: skip


def test_decimals_that_no_float_holds_stay_what_they_are():
    assert all(Decimal(floor_radius(step / 100, 2)) == Decimal(step) / 100 for step in range(1, 301))
    assert floor_radius(np.nextafter(0.15, 0)) == "0.149"


@pytest.mark.parametrize(
    ("radius", "words"),
    [(0.15, "0.15"), (1.0, "1"), (10.0, "10"), (0.0, "0"), (1e-05, "0.00001"), (0.1234567, "0.1234567")],
)
def test_what_was_asked_for_is_written_as_asked(radius, words):
    assert as_asked(radius) == words
    assert decimals_of(radius) == len(words.partition(".")[2])


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.8791, "87.9"), (0.9997, "99.97"), (0.99996, "99.996"), (1.0, "100.0"), (0.0, "0.0"), (0.0003, "0.03"),
        (1 / 3, "33.3"),
    ],
)  # fmt: skip
def test_only_all_is_a_hundred_percent_and_only_nothing_none(share, words):
    assert percent(share) == words


def test_intervals_are_rounded_outwards():
    assert percent_interval(0.8719, 0.8861) == "87.1, 88.7"
    assert percent_interval(0.29, 0.5701, " to ") == "29.0 to 57.1"
    assert percent_interval(0.0, 1.0) == "0.0, 100.0"


def test_a_zero_has_no_sign():
    assert [as_asked(-0.0), floor_radius(-0.0), percent(-0.0)] == ["0", "0.000", "0.0"]
    assert percent_interval(-1e-18, 0.5) == "0.0, 50.0"
