"""Intervals over seeds, over images, and over both: closed forms, peers, and how often they cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rushkit.errors import UsageError
from rushkit.statistics import joined_interval, paired_interval, t_interval, wilson_interval

# Three standard errors of a coverage of 95 % over so many repetitions.
REPEATS = 2000
SLACK = 3 * math.sqrt(0.95 * 0.05 / REPEATS)


def test_the_interval_over_seeds_is_students():
    seeds = [0.711, 0.653, 0.702, 0.688]
    peer = stats.t.interval(0.95, 3, loc=np.mean(seeds), scale=stats.sem(seeds))
    assert t_interval(seeds) == pytest.approx(peer)


def test_two_seeds_say_little():
    low, high = t_interval([0.70, 0.72])
    assert (high - low) / 2 == pytest.approx(12.706 * 0.01, rel=1e-4)


def test_one_source_alone_is_its_own_interval_and_two_add_as_the_sides_of_a_right_angle():
    assert joined_interval(0.5, (0.4, 0.7)) == pytest.approx((0.4, 0.7))
    assert joined_interval(0.5, (0.47, 0.54), (0.46, 0.53)) == pytest.approx((0.45, 0.55))


def test_seeds_that_agree_leave_the_interval_of_the_images():
    low, high = (float(end) for end in wilson_interval(62, 64))
    assert joined_interval(62 / 64, (low, high), t_interval([62 / 64] * 3)) == pytest.approx((low, high))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seeds", [2, 5])
def test_two_sources_of_normal_errors_are_covered_at_least_as_often_as_said(share, seeds):
    """Banerjee's bound holds whatever part of the variance is that of the seeds."""
    random = np.random.default_rng(20)
    covered = 0
    for _ in range(REPEATS):
        sample = random.normal(0.0, math.sqrt(share * seeds), seeds)
        images = random.normal(0.0, math.sqrt(1.0 - share))
        centre = sample.mean() + images
        half = 1.959964 * math.sqrt(1.0 - share)
        low, high = joined_interval(
            centre, (centre - half, centre + half), tuple(images + np.array(t_interval(sample)))
        )
        covered += low <= 0.0 <= high
    assert covered / REPEATS >= 0.95 - SLACK


def accuracy_of(mean: float, seeds: float, images: float) -> float:
    """The expectation of a logistic function of a normal number: the accuracy over all seeds and images."""
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    return float((weights / (1 + np.exp(-(mean + math.hypot(seeds, images) * points)))).sum() / weights.sum())


@pytest.mark.parametrize("trained", [2, 3, 6])
@pytest.mark.parametrize(("mean", "spread"), [(0.5, 0.0), (1.0, 0.4), (3.0, 0.3), (2.0, 1.0)])
def test_the_accuracy_of_seeds_crossed_with_images_is_covered_at_least_as_often_as_said(trained, mean, spread):
    """Every seed is measured on the same images: easy images and good seeds are drawn anew in every repetition."""
    random = np.random.default_rng(20)
    truth, covered = accuracy_of(mean, spread, 2.0), 0
    for _ in range(REPEATS):
        ability, ease = random.normal(0, spread, (trained, 1)), random.normal(0, 2.0, (1, 100))
        right = random.random((trained, 100)) < 1 / (1 + np.exp(-(mean + ability + ease)))
        accuracies = right.mean(axis=1)
        centre, total = float(accuracies.mean()), float(right.mean(axis=0).sum())
        images = float(wilson_interval(math.floor(total), 100)[0]), float(wilson_interval(math.ceil(total), 100)[1])
        low, high = joined_interval(centre, images, t_interval(accuracies))
        covered += low <= truth <= high
    assert covered / REPEATS >= 0.95 - SLACK


def test_an_interval_over_the_images_alone_does_not_cover_another_seed():
    random = np.random.default_rng(20)
    truth, covered = accuracy_of(2.0, 1.0, 2.0), 0
    for _ in range(REPEATS):
        right = random.random(100) < 1 / (1 + np.exp(-(2.0 + random.normal(0, 1.0) + random.normal(0, 2.0, 100))))
        low, high = wilson_interval(int(right.sum()), 100)
        covered += bool(low <= truth <= high)
    assert covered / REPEATS < 0.75


def test_the_paired_interval_adds_an_image_on_each_side():
    """With whole outcomes: Bonett & Price (2012), from the counts of the images that one alone has right."""
    only_first, only_second, images = 3, 10, 64
    first, second = (only_first + 1) / (images + 2), (only_second + 1) / (images + 2)
    half = 1.959964 * math.sqrt((first + second - (first - second) ** 2) / (images + 2))
    change = [1] * only_first + [-1] * only_second + [0] * (images - only_first - only_second)
    assert paired_interval(change) == pytest.approx((first - second - half, first - second + half))


def test_the_paired_interval_has_a_width_where_all_images_agree():
    low, high = paired_interval(np.zeros(64))
    assert high == -low
    assert high == pytest.approx(1.959964 * math.sqrt(2) / 66)


@pytest.mark.parametrize("images", [20, 64])
def test_the_paired_interval_covers_the_difference(images):
    random = np.random.default_rng(20)
    covered = 0
    for _ in range(REPEATS):
        kind = random.choice([1, -1, 0], images, p=[0.05, 0.2, 0.75])
        low, high = paired_interval(kind)
        covered += low <= -0.15 <= high
    assert covered / REPEATS >= 0.95 - SLACK


@pytest.mark.parametrize(
    "call",
    [
        lambda: t_interval([0.7]),
        lambda: t_interval([0.7, 0.8], confidence=1.0),
        lambda: paired_interval([]),
        lambda: paired_interval([1.5]),
        lambda: paired_interval([math.nan]),
        lambda: paired_interval([0.5], confidence=0.0),
    ],
)
def test_what_has_no_interval_is_refused(call):
    with pytest.raises(UsageError):
        call()
