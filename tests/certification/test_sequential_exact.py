"""The sequential tests, computed exactly over all counts: how often they claim what is false, how long they draw."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rushkit.certification.tasks import looks
from rushkit.statistics import log_e_above

FILE = Path(__file__).parents[2] / "benchmarks" / "sequential_exact.py"
EVERY = range(1, 4001)
USED = [look for look in looks(10**6) if look <= 4000]
# Radii of σ/4, σ and 1.28σ under Gaussian noise.
SEVERAL = (0.6, 0.8413, 0.9)


@pytest.fixture(scope="module")
def exact():
    spec = importlib.util.spec_from_file_location("sequential_exact", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["sequential_exact"] = module
    spec.loader.exec_module(module)
    return module


def mean_draws(exact, judge, p, known):
    found = exact.outcome(p, exact.Boundaries.of(judge, known))
    # The draws that are still to come then add nothing to the mean that a test could see.
    assert found.undecided < 1e-9
    return found.mean_draws


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("p0", [0.5, 0.6, 0.8413, 0.9, 0.99])
@pytest.mark.parametrize("known", [EVERY, USED], ids=["every draw", "the looks"])
def test_each_side_is_false_at_most_as_often_as_alpha_says(exact, p0, alpha, known):
    found = exact.Boundaries.of(exact.one_sided([p0], alpha), known)
    for above in (0.0, 1e-3, 0.1):
        certified = exact.ever_certified(p0 - above, found.certify[0], found.looks)
        refuted = exact.ever_refuted(min(p0 + above, 1.0), found.refute[0], found.looks)
        assert max(certified, refuted) <= alpha
        # It is at p = p0 that a false claim is likeliest, and then hardly rarer than it may be.
        assert above or min(certified, refuted) > alpha / 10


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("known", [EVERY, USED], ids=["every draw", "the looks"])
def test_no_claim_of_several_is_false_more_often_than_alpha_says(exact, alpha, known):
    found = exact.Boundaries.of(exact.one_sided(SEVERAL, alpha), known)
    for p in (0.3, 0.55, 0.599, 0.6, 0.7, 0.8, 0.8413, 0.87, 0.9, 0.95):
        false = [bar >= p for bar in SEVERAL]
        if any(false):
            assert exact.ever_certified(p, found.certify[false].min(axis=0), found.looks) <= alpha
        false = [bar <= p for bar in SEVERAL]
        if any(false):
            assert exact.ever_refuted(p, found.refute[false].max(axis=0), found.looks) <= alpha


def test_without_its_second_condition_a_joint_claim_is_false_for_certain():
    lowest, bar, p, target = 0.6, 0.9, 0.8, -math.log(0.001)
    share, done, false, with_condition = np.ones(1), 0, 0.0, 0.0
    for look in USED:
        share, done = np.convolve(share, stats.binom.pmf(np.arange(look - done + 1), look - done, p)), look
        k = np.arange(look + 1)
        reached = log_e_above(k, look, bar, lowest) >= target
        false += share[reached].sum()
        with_condition += share[reached & (k > look * bar)].sum()
        share = np.where(reached, 0.0, share)
    assert false > 0.999
    assert with_condition < 0.001


def test_several_radii_end_as_a_walk_over_single_draws_says(exact):
    # 12 draws, all 2¹² sequences, looked at after 4, 7 and 12.
    known, p, alpha = [4, 7, 12], 0.85, 0.3
    judge = exact.one_sided(SEVERAL, alpha)
    verdicts_at = {look: judge(np.arange(look + 1), np.full(look + 1, look)) for look in known}
    ends, mean = np.zeros((4, 4)), 0.0
    for sequence in np.ndindex(*[2] * 12):
        chance = math.prod(p if draw else 1 - p for draw in sequence)
        verdicts, taken = np.zeros(3, dtype=int), 12
        for look in known:
            verdicts = np.where(verdicts == 0, verdicts_at[look][:, sum(sequence[:look])], verdicts)
            if verdicts.all():
                taken = look
                break
        ends[(verdicts == 1).sum(), (verdicts == -1).sum()] += chance
        mean += chance * taken
    found = exact.outcome(p, exact.Boundaries.of(judge, known))
    np.testing.assert_allclose(found.ends, ends, atol=1e-12)
    assert found.mean_draws == pytest.approx(mean, rel=1e-12)
    assert found.undecided == pytest.approx(sum(ends[c, r] for c in range(4) for r in range(3 - c)), abs=1e-12)
    assert np.count_nonzero(ends) > 5


@pytest.mark.parametrize(
    ("p0", "p", "most", "longest"),
    [(0.5, 0.6, 443, 3500), (0.5, 0.9, 21.5, 200), (0.5, 0.99, 13, 100), (0.8413, 0.9, 576, 5000)],
)
def test_mean_draws_are_those_that_can_be_reached(exact, p0, p, most, longest):
    judge = exact.one_sided([p0], 0.001)
    assert mean_draws(exact, judge, p, range(1, longest)) <= most
    assert mean_draws(exact, judge, p, looks(100_000)) <= 1.3 * most


@pytest.mark.parametrize(("p0", "saved"), [(0.5, 0.08), (0.8413, 0.03), (0.9, 0.02)])
def test_refuting_takes_fewer_draws_than_the_two_sided_process(exact, p0, saved):
    p, every = 0.7 if p0 > 0.7 else 0.3, range(1, 1500)
    one, two = (mean_draws(exact, make([p0], 0.001), p, every) for make in (exact.one_sided, exact.two_sided))
    assert one < (1 - saved) * two


def test_the_table_of_the_page_is_computed(exact):
    page = (FILE.parents[1] / "docs" / "certificates.md").read_text()
    for cells in exact.table(ways=2):
        assert f"| {' | '.join(cells)} |" in page


@pytest.mark.parametrize(("p0", "selection"), [(0.6, 235), (0.7, 55), (0.8413, 15), (0.9, 9)])
def test_so_many_selection_draws_as_the_page_says_name_the_class(p0, selection):
    wrong = [stats.binom.cdf(draws // 2, draws, p0) for draws in (selection, selection - 2)]
    assert wrong[0] <= 0.001 < wrong[1]
    assert f" {selection} at" in (FILE.parents[1] / "docs" / "certificates.md").read_text()
