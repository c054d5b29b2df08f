"""Sequential tests: what they decide, how many draws they need, and how often any procedure claims what is false.

Counts of false claims may exceed what alpha allows only once in a million runs of each test.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rushkit.certificates import (
    MeanSums,
    certify_counts,
    certify_means,
    predict_counts,
    threshold_probability,
)
from rushkit.errors import UsageError
from rushkit.noises.gaussian import Gaussian
from rushkit.sequential_test import SequentialTest
from rushkit.statistics import betting_lower_above, log_e_above, log_e_below

NOISE = Gaussian(scale=0.5)
DIM = 48


def false_alarm_limit(trials, alpha, chance=1e-6):
    """Most false claims that a correct procedure makes but once in a million runs of the test."""
    return int(stats.binom.ppf(1 - chance, trials, alpha))


def run(p, p0, alpha, images, steps, batch=1, seed=0):
    """Draw until every image is decided, or for so many steps of ``batch`` draws."""
    rng = np.random.default_rng(seed)
    test = SequentialTest(p0, alpha, images)
    for _ in range(steps):
        if not test.undecided.any():
            break
        test.update(rng.binomial(batch, p, images), batch)
    return test


def test_decisions_are_those_of_the_two_one_sided_processes():
    rng, p0 = np.random.default_rng(0), np.linspace(0.5, 0.99, 40)
    test = SequentialTest(p0, 0.01)
    expected = np.zeros(40, dtype=int)
    k, n = np.zeros(40, dtype=int), 0
    for _ in range(60):
        new = rng.binomial(7, 0.8, 40)
        k, n = k + new, n + 7
        above, below = log_e_above(k, n, p0) >= math.log(100), log_e_below(k, n, p0) >= math.log(100)
        expected = np.where(expected == 0, above.astype(int) - below, expected)
        assert test.update(new, 7).tolist() == expected.tolist()
    assert set(expected.tolist()) == {-1, 0, 1}


class TestSeveral:
    """Several p0 on the same draws of each image."""

    p0 = (0.5, 0.6, 0.8413, 0.9, 1.0)

    def walks(self, p, images=150, steps=60, alpha=0.2):
        """Yield the tests after every update of random size; a lax alpha, so that contradictory counts occur."""
        rng = np.random.default_rng(5)
        test = SequentialTest(np.repeat(np.array(self.p0)[:, None], images, axis=1), alpha)
        for _ in range(steps):
            drawn = rng.integers(0, 8, images)
            test.update(rng.binomial(drawn, p), drawn)
            yield test

    @pytest.mark.parametrize("p", [0.45, 0.7, 0.85, 0.95])
    def test_the_smallest_are_certified_and_the_largest_refuted(self, p):
        for test in self.walks(p):
            decision = test.decision.astype(int)
            assert np.all(np.diff(decision, axis=0) <= 0)
            assert np.all(decision[-1] == -1)

    @pytest.mark.parametrize("p", [0.45, 0.7, 0.85, 0.95])
    def test_the_lower_bound_agrees_with_every_decision(self, p):
        bars = np.array(self.p0)[:, None]
        for test in self.walks(p):
            assert np.all((test.p_lower > bars) | (test.decision != 1))
            assert np.all((test.p_lower < bars) | (test.decision != -1))

    @pytest.mark.parametrize("n", [12, 30, 60, 200])
    def test_decisions_are_those_of_the_mixtures_cut_at_the_smallest_and_the_largest_below_one(self, n):
        k, target = np.arange(n + 1), math.log(1000)
        test = SequentialTest(np.repeat(np.array(self.p0)[:, None], n + 1, axis=1), 0.001)
        decision = test.update(k, n)
        for row, p0 in enumerate(self.p0[:-1]):
            certified = (k > n * p0) & (log_e_above(k, n, p0, 0.5) >= target)
            refuted = (k < n * p0) & (log_e_below(k, n, p0, 0.9) >= target)
            assert decision[row].tolist() == (certified.astype(int) - refuted).tolist()

    def test_a_contradictory_later_count_does_not_move_the_bound_past_a_refuted_one(self):
        # 2 of 14 refute 0.9; the successes that follow would show that p exceeds it.
        test = SequentialTest([[0.1], [0.9]], 0.001)
        test.update(2, 14)
        assert test.decision.ravel().tolist() == [0, -1]
        test.update(3000, 3000)
        assert test.decision.ravel().tolist() == [1, -1]
        assert 0.1 < test.p_lower[0] < 0.9
        assert betting_lower_above(3002, 3014, 0.001, 0.1) > 0.9

    def test_the_bound_stays_where_the_largest_certified_one_was_shown(self):
        # 18 of 18 certify 0.8 and leave 0.9 open; the failures that follow refute it.
        test = SequentialTest([[0.8], [0.9]], 0.05)
        test.update(18, 18)
        assert test.decision.ravel().tolist() == [1, 0]
        shown = test.p_lower[0]
        assert shown > 0.8
        test.update(0, 10)
        assert test.decision.ravel().tolist() == [1, -1]
        assert test.p_lower[0] == pytest.approx(shown)
        assert betting_lower_above(18, 28, 0.05, 0.8) < 0.8

    def test_one_of_them_is_the_test_of_it_alone(self):
        test, alone = SequentialTest([[0.7, 0.7]], 0.01), SequentialTest([0.7, 0.7], 0.01)
        for test_or_alone in (test, alone):
            test_or_alone.update([20, 3], [20, 20])
        assert test.decision[0].tolist() == alone.decision.tolist() == [1, -1]
        assert test.p_lower.tolist() == alone.p_lower.tolist()

    def test_a_claim_about_the_larger_waits_for_the_mixture_of_the_smallest(self):
        needed = []
        for bars in ([[0.9]], [[0.5], [0.9]]):
            test = SequentialTest(bars, 0.001)
            while test.decision[-1, 0] == 0:
                test.update(1, 1)
            needed.append(int(test.trials[0]))
        assert needed[0] < needed[1]


def test_the_lower_bound_is_wrong_at_most_as_often_as_alpha_says():
    images, alpha, p = 600, 0.05, 0.75
    test, rng = SequentialTest(np.repeat([[0.6], [0.7], [0.9]], images, axis=1), alpha), np.random.default_rng(7)
    ever = np.zeros(images, dtype=bool)
    for _ in range(60):
        test.update(rng.binomial(5, p, images), 5)
        ever |= test.p_lower > p
    assert ever.sum() <= false_alarm_limit(images, alpha)


def test_a_decision_is_final_and_later_draws_are_not_counted():
    test = SequentialTest([0.5, 0.5], 0.001)
    test.update([100, 50], [100, 100])
    assert test.decision.tolist() == [1, 0]
    test.update([0, 50], [10_000, 100])
    assert test.decision.tolist() == [1, 0]
    assert (test.trials.tolist(), test.successes.tolist()) == ([100, 200], [100, 100])
    assert test.undecided.tolist() == [False, True]


def test_a_radius_that_no_probability_reaches_is_refuted_from_the_start():
    test = SequentialTest([threshold_probability(NOISE, 100.0, "l2", DIM), 1.0, 0.9], 0.001)
    assert test.decision.tolist() == [-1, -1, 0]
    test.update(500, 500)
    assert test.decision.tolist() == [-1, -1, 1]


def test_updates_of_any_size_reach_the_same_counts():
    draws = np.random.default_rng(1).random((3, 60)) < 0.7
    one, many = SequentialTest(0.6, 1e-9, 3), SequentialTest(0.6, 1e-9, 3)
    for step in range(60):
        one.update(draws[:, step], 1)
    many.update(draws.sum(1), 60)
    np.testing.assert_array_equal(one.successes, many.successes)
    np.testing.assert_array_equal(one.decision, many.decision)


@pytest.mark.parametrize(
    ("p", "radius_in_sigmas", "exact", "decision", "images"), [(0.99, 1, 57.32, 1, 400), (0.9, 1, 574.04, 1, 200)]
)
def test_mean_number_of_draws_is_the_exact_one(p, radius_in_sigmas, exact, decision, images):
    p0 = threshold_probability(NOISE, 0.5 * radius_in_sigmas, "l2", DIM)
    test = run(p, p0, 0.001, images, steps=5000)
    assert (test.decision == decision).mean() > 0.99
    error = test.trials.std() / math.sqrt(images)
    # 5 standard errors: false alarm 6e-7 each.
    assert abs(test.trials.mean() - exact) < 5 * error
    assert error < 0.1 * exact


@pytest.mark.parametrize("p, false", [(0.84, 1), (0.9, 1), (0.9, -1), (0.95, -1)])
def test_sequential_claims_are_false_at_most_as_often_as_alpha_says(p, false):
    # p0 = 0.9: certified is false where p <= p0, refuted where p >= p0.
    images, alpha = 1000, 0.05
    test = run(p, 0.9, alpha, images, steps=100, batch=20)
    assert (test.decision == false).sum() <= false_alarm_limit(images, alpha)


def test_sequential_and_fixed_verdicts_do_not_contradict():
    # Each image draws once, and both procedures look at the same draws.
    images, radius, alpha = 500, 0.4, 0.001
    rng = np.random.default_rng(2)
    p = rng.uniform(0.6, 0.999, images)
    p0 = threshold_probability(NOISE, radius, "l2", DIM)
    test, total = SequentialTest(p0, alpha, images), np.zeros(images, dtype=int)
    for _ in range(100):
        new = rng.binomial(1000, p)
        total += new
        test.update(new, 1000)
    votes = np.stack([total, 100_000 - total], 1)
    fixed = certify_counts(votes, votes, NOISE, "l2", DIM, alpha).radius >= radius
    # Two claims at alpha each: more than 9 contradictions in 500 have a chance below 1e-6.
    contradictions = ((test.decision == -1) & fixed).sum() + ((test.decision == 1) & ~fixed).sum()
    assert contradictions <= false_alarm_limit(images, 2 * alpha)
    assert (test.decision == 1).sum() > 200


@pytest.mark.parametrize("bound", ["clopper-pearson", "betting"])
@pytest.mark.parametrize("share", [(0.6, 0.4), (0.5, 0.3, 0.2), (0.9, 0.05, 0.05), (0.34, 0.33, 0.33)])
def test_fixed_certificates_are_false_at_most_as_often_as_alpha_says(share, bound):
    images, alpha = 4000, 0.05
    rng = np.random.default_rng(3)
    found = certify_counts(
        rng.multinomial(20, share, images), rng.multinomial(300, share, images), NOISE, "l2", DIM, alpha, bound
    )
    truth = NOISE.certified_radius(np.array(share), "l2", DIM)
    claimed = found.predicted >= 0
    false = claimed & (found.radius > truth[np.maximum(found.predicted, 0)])
    assert false.sum() <= false_alarm_limit(images, alpha)


@pytest.mark.parametrize(
    "share",
    [(0.6, 0.4), (0.4, 0.3, 0.3), (0.4, 0.2, 0.1, 0.1, 0.1, 0.1), (0.2, 0.2, 0.2, 0.2, 0.2), (0.9, *[0.01] * 10)],
)
def test_two_class_certificates_are_false_at_most_as_often_as_alpha_says(share):
    images, alpha = 3000, 0.05
    rng = np.random.default_rng(4)
    # Few selection draws, so that classes often land in the wrong bucket and the wrong class is often tested.
    found = certify_counts(
        rng.multinomial(12, share, images), rng.multinomial(300, share, images), NOISE, "l2", DIM, alpha, two_class=True
    )
    p = np.array(share)
    truth = np.array(
        [NOISE.certified_radius_two_class(float(p[k]), float(np.delete(p, k).max()), "l2", DIM) for k in range(len(p))]
    )
    false = (found.predicted >= 0) & (found.radius > truth[np.maximum(found.predicted, 0)])
    assert false.sum() <= false_alarm_limit(images, alpha)
    wrong_bound = (found.predicted >= 0) & (found.p_upper < np.partition(p, -2)[-2] - 1e-15) & (found.predicted == 0)
    assert wrong_bound.sum() <= false_alarm_limit(images, alpha)


@pytest.mark.parametrize("bound", ["hoeffding", "empirical-bernstein"])
def test_mean_certificates_are_false_at_most_as_often_as_alpha_says(bound):
    images, alpha, n = 3000, 0.05, 200
    rng = np.random.default_rng(5)
    top = rng.beta(3, 1, (images, n))
    scores = np.stack([top, 1 - top], -1)
    sums, squares = scores.sum(1), (scores**2).sum(1)
    found = certify_means(
        MeanSums.of_tables(np.tile([1.0, 0.0], (images, 1)), sums, squares, n), NOISE, "l2", DIM, alpha, bound
    )
    assert (found.radius > NOISE.certified_radius(0.75, "l2", DIM)).sum() <= false_alarm_limit(images, alpha)
    assert (found.predicted == 0).mean() > 0.9


@pytest.mark.parametrize("share", [(0.5, 0.5), (0.4, 0.35, 0.25), (0.34, 0.33, 0.33)])
def test_predictions_are_wrong_at_most_as_often_as_alpha_says(share):
    images, alpha = 4000, 0.05
    predicted = predict_counts(np.random.default_rng(6).multinomial(100, share, images), alpha)
    assert (predicted > 0).sum() <= false_alarm_limit(images, alpha)


@pytest.mark.parametrize(
    "call",
    [
        lambda: SequentialTest(0.5, 0.0),
        lambda: SequentialTest([0.5, math.nan], 0.01),
        lambda: SequentialTest(-0.1, 0.01),
        lambda: SequentialTest([[[0.5]]], 0.01),
        lambda: SequentialTest(0.5, 0.01).update(3, 2),
        lambda: SequentialTest(0.5, 0.01).update(-1, 2),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(UsageError):
        call()
