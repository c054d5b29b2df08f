"""Counts to radii: Cohen's procedures written out, a classifier whose true radius is known, and the bookkeeping."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rushkit.certificates import (
    Certificates,
    MeanSums,
    Randomized,
    certify_counts,
    certify_means,
    predict_counts,
    rate,
    summarise,
    threshold_probability,
)
from rushkit.errors import NoCertificate, PluginError, UsageError
from rushkit.noises.gaussian import Gaussian
from rushkit.noises.laplace import Laplace
from rushkit.noises.split import Split
from rushkit.noises.uniform import Uniform
from rushkit.statistics import (
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    empirical_bernstein_lower,
    hoeffding_lower,
    randomized_lower,
    randomized_upper,
)
from rushkit.system import generator

DIM = 3 * 32 * 32
NOISE = Gaussian(scale=0.5)


def means(chooser, sums, squares, trials, alpha=0.001, bound="empirical-bernstein"):
    tables = MeanSums.of_tables(chooser, sums, squares, trials)
    return certify_means(tables, NOISE, "l2", DIM, alpha, bound)


def random_votes(images, draws, classes=10, seed=0):
    """Votes of images that range from certain to undecided."""
    rng = np.random.default_rng(seed)
    shares = [rng.dirichlet(np.full(classes, rng.choice([0.02, 0.1, 1.0]))) for _ in range(images)]
    return np.array([rng.multinomial(draws, share) for share in shares]), shares


def cohens_certify(selection, estimation, sigma, alpha):
    """CERTIFY of Cohen et al. 2019, one image, as the paper's pseudocode has it."""
    top = max(range(len(selection)), key=lambda k: selection[k])
    n = sum(estimation)
    p_lower = stats.binomtest(int(estimation[top]), int(n), alternative="greater").proportion_ci(1 - alpha).low
    return (top, sigma * stats.norm.ppf(p_lower)) if p_lower > 0.5 else (-1, 0.0)


def cohens_predict(counts, alpha):
    """PREDICT of Cohen et al. 2019, one image, as the paper's pseudocode has it."""
    first, second = sorted(range(len(counts)), key=lambda k: -counts[k])[:2]
    total = counts[first] + counts[second]
    return first if total and stats.binomtest(int(counts[first]), int(total), 0.5).pvalue <= alpha else -1


def test_certify_gives_the_verdicts_of_cohens_procedure():
    estimation, shares = random_votes(300, 1000)
    selection = np.array([np.random.default_rng(i).multinomial(100, share) for i, share in enumerate(shares)])
    found = certify_counts(selection, estimation, NOISE, "l2", DIM, alpha=0.001)
    expected = [cohens_certify(*pair, 0.5, 0.001) for pair in zip(selection, estimation, strict=True)]
    assert found.predicted.tolist() == [top for top, _ in expected]
    np.testing.assert_allclose(found.radius, [radius for _, radius in expected], atol=1e-10)
    assert {-1} < set(found.predicted.tolist())
    assert (found.predicted.dtype, found.radius.dtype, len(found)) == (np.int64, np.float64, 300)


def test_predict_gives_the_verdicts_of_cohens_procedure():
    counts, _ = random_votes(300, 50, classes=4)
    counts = np.concatenate([counts, [[25, 25, 0, 0], [0, 0, 0, 50], [0, 0, 0, 0]]])
    for alpha in (0.001, 0.2):
        assert predict_counts(counts, alpha).tolist() == [cohens_predict(row, alpha) for row in counts]


def test_certificate_does_not_use_the_selection_draws_to_estimate():
    found = certify_counts([[100, 0]], [[40, 60]], NOISE, "l2", DIM)
    assert found.predicted[0] == -1
    assert found.radius[0] == 0
    assert found.p_lower[0] == clopper_pearson_lower(40, 100, 0.001)


@pytest.mark.parametrize("noise", [Uniform(scale=0.3), Gaussian(scale=0.25), Laplace(scale=0.2), Split(scale=0.3)])
@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_every_noise_and_norm_of_the_table_certifies(noise, norm):
    estimation, _ = random_votes(50, 1000)
    found = certify_counts(estimation, estimation, noise, norm, DIM)
    sure = found.predicted >= 0
    np.testing.assert_array_equal(sure, found.p_lower > 0.5)
    np.testing.assert_array_equal(found.radius, noise.certified_radius(found.p_lower, norm, DIM))
    assert sure.any()


def test_images_may_have_different_numbers_of_draws():
    found = certify_counts([[5, 0], [5, 0], [5, 0]], [[10, 0], [1000, 0], [0, 0]], NOISE, "l2", DIM)
    assert 0 < found.radius[0] < found.radius[1]
    assert (found.predicted[2], found.p_lower[2]) == (-1, 0)


def test_betting_bound_is_the_price_of_looking_at_any_time():
    votes = [[900, 100]]
    fixed, anytime = (certify_counts(votes, votes, NOISE, "l2", DIM, bound=b) for b in ("clopper-pearson", "betting"))
    assert 0 < anytime.radius[0] < fixed.radius[0]


class TestRandomized:
    uniforms = (0.9, 0.5, 0.004, 1.0)
    votes = ((70, 30, 0), (70, 20, 10), (100, 0, 0), (40, 30, 30))

    def certified(self, uniforms=uniforms, two_class=False):
        return certify_counts(self.votes, self.votes, NOISE, "l2", DIM, 0.01, Randomized(uniforms), two_class=two_class)

    def test_each_image_uses_its_own_draw(self):
        found = self.certified()
        expected = [randomized_lower(row[0], 100, u, 0.01) for row, u in zip(self.votes, self.uniforms, strict=True)]
        assert found.p_lower.tolist() == expected
        assert np.all(np.isfinite(found.radius))
        np.testing.assert_array_equal(found.radius[:3], NOISE.certified_radius(found.p_lower[:3], "l2", DIM))

    def test_the_buckets_share_alpha_and_the_draw(self):
        found = self.certified(two_class=True)
        # {0}, {1}, {2}, or all others in one bucket where only one of them got votes.
        share = 0.01 / 3
        assert found.p_lower[1] == randomized_lower(70, 100, 0.5, share)
        assert found.p_upper[1] == min(randomized_upper(20, 100, 0.5, share), 1 - found.p_lower[1])
        assert found.p_lower[0] == randomized_lower(70, 100, 0.9, 0.01)

    def test_it_is_never_wider_than_clopper_and_pearsons(self):
        exact = certify_counts(self.votes, self.votes, NOISE, "l2", DIM, 0.01)
        assert np.all(self.certified().radius >= exact.radius)
        np.testing.assert_array_equal(self.certified(np.ones(4)).radius, exact.radius)

    def test_draws_are_asked_for(self):
        with pytest.raises(UsageError, match="uniform draw for each image") as error:
            certify_counts([[9, 1]], [[9, 1]], NOISE, "l2", DIM, bound="randomized")
        assert "Randomized(uniforms)" in error.value.hint

    @pytest.mark.parametrize(
        "uniforms", [0.5, [0.5], [[0.5] * 4], [0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, math.nan], [2.0, 0.5, 0.5, 0.5]]
    )
    def test_what_is_not_one_draw_an_image_is_refused(self, uniforms):
        with pytest.raises(UsageError, match="uniform"):
            self.certified(uniforms)


def first_fit(chooser, votes):
    """The top class, and the votes of each bucket, filled one class after the other."""
    order = sorted(range(len(chooser)), key=lambda k: -chooser[k])
    top, others = order[0], order[1:]
    buckets: list[list[int]] = []
    for k in others:
        for bucket in buckets:
            if sum(chooser[j] for j in bucket) + chooser[k] <= chooser[others[0]]:
                bucket.append(k)
                break
        else:
            buckets.append([k])
    return top, [sum(votes[k] for k in bucket) for bucket in buckets]


class TestTwoClasses:
    def test_bounds_come_from_buckets_of_at_most_the_runner_ups_votes(self):
        selection = [[50, 20, 15, 8, 7, 0]]
        estimation = [[4000, 2500, 1500, 1100, 800, 100]]
        found = certify_counts(selection, estimation, NOISE, "l2", DIM, alpha=0.003, two_class=True)
        # {0}, {1, 5}, {2}, {3, 4}: alpha is shared by the class and three buckets; 5 drew no votes and goes in first.
        share = 0.003 / 4
        assert found.p_lower[0] == clopper_pearson_lower(4000, 10_000, share)
        assert found.p_upper[0] == clopper_pearson_upper(2600, 10_000, share)
        assert found.predicted[0] == 0
        assert found.radius[0] == NOISE.certified_radius_two_class(found.p_lower[0], found.p_upper[0], "l2", DIM)

    def test_certifies_a_class_that_leads_without_a_majority(self):
        votes = [[4000, 2000, 2000, 2000]]
        assert certify_counts(votes, votes, NOISE, "l2", DIM).predicted[0] == -1
        assert certify_counts(votes, votes, NOISE, "l2", DIM, two_class=True).radius[0] > 0

    def test_with_one_bucket_it_is_the_one_class_certificate(self):
        for votes in ([[90, 10]], [[100, 0, 0, 0]], [[60, 40, 0]]):
            one, two = (certify_counts(votes, votes, NOISE, "l2", DIM, two_class=flag) for flag in (False, True))
            assert one.predicted[0] == two.predicted[0]
            assert two.radius[0] == pytest.approx(one.radius[0], rel=1e-12)

    def test_is_at_least_the_one_class_radius_at_the_shared_alpha(self):
        estimation, _ = random_votes(100, 2000)
        selection, _ = random_votes(100, 100)
        two = certify_counts(selection, estimation, NOISE, "l2", DIM, alpha=0.01, two_class=True)
        one = certify_counts(selection, estimation, NOISE, "l2", DIM, alpha=0.01 / 10)
        assert np.all(two.radius >= one.radius - 1e-12)

    @pytest.mark.parametrize("classes", [2, 3, 10, 40])
    @pytest.mark.parametrize("bound", ["clopper-pearson", "betting"])
    def test_all_images_at_once_are_as_each_of_them_bucket_by_bucket(self, classes, bound):
        estimation, shares = random_votes(60, 3000, classes)
        rng = np.random.default_rng(1)
        selection = np.array([rng.multinomial(30, share) for share in shares])
        estimation[0] = 0
        found = certify_counts(selection, estimation, NOISE, "l2", DIM, 0.01, bound, two_class=True)
        lower, upper = {
            "clopper-pearson": (clopper_pearson_lower, clopper_pearson_upper),
            "betting": (betting_lower, betting_upper),
        }[bound]
        for row, (chooser, votes) in enumerate(zip(selection.tolist(), estimation.tolist(), strict=True)):
            top, sums = first_fit(chooser, votes)
            share = 0.01 / (len(sums) + 1) if len(sums) > 1 else 0.01
            p_lower = lower(votes[top], sum(votes), share)
            p_upper = max(upper(each, sum(votes), share) for each in sums) if len(sums) > 1 else 1.0
            # Logarithms of arrays and of numbers may differ in the last bit.
            assert found.p_lower[row] == pytest.approx(p_lower, rel=1e-14)
            assert found.p_upper[row] == pytest.approx(min(p_upper, 1 - p_lower), rel=1e-14)
            assert found.predicted[row] == (top if p_lower > found.p_upper[row] else -1)

    def test_no_images_give_no_certificates(self):
        none = np.zeros((0, 5))
        for bound in ("clopper-pearson", "betting", Randomized([])):
            for two_class in (False, True):
                assert len(certify_counts(none, none, NOISE, "l2", DIM, bound=bound, two_class=two_class)) == 0

    def test_a_noise_without_the_theorem_is_named(self):
        with pytest.raises(NoCertificate, match="split"):
            certify_counts([[9, 1]], [[9, 1]], Split(scale=0.3), "l1", DIM, two_class=True)


def test_linear_classifier_certifies_nearly_its_distance_to_the_boundary():
    # The half-space is the theorem's worst case: its radius under Gaussian noise is the distance itself.
    sigma, alpha, images, n = 0.5, 0.001, 200, 100_000
    rng = np.random.default_rng(0)
    distance = np.linspace(0.25, 1.4, images)
    p = stats.norm.cdf(distance / sigma)
    votes = [np.stack([k, m - k], 1) for m in (100, n) for k in [rng.binomial(m, p)]]
    found = certify_counts(*votes, Gaussian(scale=sigma), "l2", DIM, alpha)
    # More than 4 of 200 false claims at 0.001 each: false alarm 2e-6.
    assert ((found.predicted == 0) & (found.radius > distance)).sum() <= 4
    assert np.all(found.radius > 0.9 * distance)
    assert np.all(found.predicted == 0)


def test_linear_classifier_voting_on_drawn_noise_certifies_nearly_its_distance():
    sigma, n, dim = 0.25, 100_000, 27
    weights = torch.randn(dim, generator=generator(0, "weights"), dtype=torch.float64)
    weights /= weights.norm()
    x = torch.full((dim,), 0.5, dtype=torch.float64)
    distance = 0.3
    noise = Gaussian(scale=sigma)

    def counts(m, purpose):
        drawn = noise.sample(x.expand(m, -1), generator(0, purpose))
        wins = int(((x + drawn) @ weights < float(x @ weights) + distance).sum())
        return [[wins, m - wins]]

    radius = certify_counts(counts(100, "select"), counts(n, "estimate"), noise, "l2", dim).radius[0]
    # A claim beyond the true distance would be false, which happens once in a thousand seeds.
    assert 0.9 * distance < radius <= distance


class TestMeans:
    def confidences(self, images=40, n=500, seed=0):
        rng = np.random.default_rng(seed)
        sharp = rng.uniform(0.3, 3, images)[:, None, None]
        logits = rng.standard_normal((images, 1, 4)) * 2 + rng.standard_normal((images, n, 4)) * 0.5
        scores = np.exp(sharp * logits)
        return scores / scores.sum(-1, keepdims=True)

    @pytest.mark.parametrize("bound", ["hoeffding", "empirical-bernstein"])
    def test_radii_are_those_of_the_bound_on_the_mean(self, bound):
        scores = self.confidences()
        chooser = scores[:, :50].sum(1)
        rest = scores[:, 50:]
        found = means(chooser, rest.sum(1), (rest**2).sum(1), 450, 0.001, bound)
        for image, label in enumerate(chooser.argmax(1)):
            values = rest[image, :, label]
            expected = (
                hoeffding_lower(values.mean(), 450, 0.001)
                if bound == "hoeffding"
                else empirical_bernstein_lower(values.mean(), values.var(ddof=1), 450, 0.001)
            )
            assert found.p_lower[image] == pytest.approx(expected, abs=1e-12)
            assert found.predicted[image] == (label if expected > 0.5 else -1)
        assert 0 < (found.predicted == -1).sum() < 40

    def test_constant_full_confidence_stays_finite(self):
        found = means([[5.0, 0.0]], [[100.0, 0.0]], [[100.0, 0.0]], 100)
        assert math.isfinite(found.radius[0])
        assert found.radius[0] > 0

    @pytest.mark.parametrize(
        "sums, squares, trials",
        [([[11.0, 0]], [[5.0, 0]], 10), ([[5.0, 5]], [[6.0, 5]], 10), ([[0.0, 0]], [[0.0, 0]], 0)],
    )
    def test_what_cannot_be_sums_of_confidences_is_refused(self, sums, squares, trials):
        with pytest.raises(UsageError):
            means(sums, sums, squares, trials)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("noise", [Uniform(scale=0.3), Gaussian(scale=0.25), Laplace(scale=0.2), Split(scale=0.3)])
def test_threshold_is_the_smallest_probability_that_certifies(noise, norm):
    most = noise.certified_radius(1.0, norm, DIM)
    for radius in (0.001 * most, 0.3 * most, 0.99 * most):
        p = threshold_probability(noise, radius, norm, DIM)
        assert noise.certified_radius(p, norm, DIM) >= radius
        assert noise.certified_radius(np.nextafter(p, 0), norm, DIM) < radius
    assert threshold_probability(noise, 0.0, norm, DIM) == 0.5
    assert threshold_probability(noise, 1.01 * most, norm, DIM) == math.inf


def test_threshold_of_the_gaussian_is_its_distribution_function():
    assert threshold_probability(Gaussian(scale=0.5), 0.5, "l2", DIM) == pytest.approx(stats.norm.cdf(1), abs=1e-15)
    for radius in (-0.1, math.nan, math.inf):
        with pytest.raises(UsageError):
            threshold_probability(NOISE, radius, "l2", DIM)


def certificates(predicted, radius):
    p = np.full(len(radius), 0.9)
    return Certificates(np.array(predicted), p, 1 - p, np.array(radius, dtype=float))


def test_summary_counts_abstentions_and_wrong_classes_as_uncertified():
    found = certificates([0, 1, -1, 2, 2], [0.5, 0.25, 0.0, 1.0, 0.0])
    told = summarise(found, [0, 1, 1, 0, 2], radii=(0.0, 0.25, 0.5, 0.75))
    assert (told.accuracy.count, told.accuracy.total, told.accuracy.value) == (3, 5, 0.6)
    assert told.abstained.count == 1
    assert [r.count for r in told.certified] == [3, 2, 1, 0]
    assert told.average_radius == pytest.approx(0.15)
    assert told.average_radius_error == pytest.approx(np.std([0.5, 0.25, 0, 0, 0], ddof=1) / math.sqrt(5))
    expected = stats.binomtest(3, 5).proportion_ci(0.95, method="wilson")
    assert (told.accuracy.low, told.accuracy.high) == pytest.approx((expected.low, expected.high))


def test_abstaining_is_not_the_class_minus_one():
    assert summarise(certificates([-1], [0.0]), [-1]).accuracy.count == 0


def test_a_summary_of_nothing_and_labels_of_another_length_are_refused():
    with pytest.raises(UsageError, match="labels"):
        summarise(certificates([0, 1], [0.1, 0.1]), [0])
    with pytest.raises(UsageError, match="no images"):
        rate([])


@pytest.mark.parametrize(
    "call",
    [
        lambda: certify_counts([[1, 2]], [[1, 2, 3]], NOISE, "l2", DIM),
        lambda: certify_counts([[0, 0]], [[1, 2]], NOISE, "l2", DIM),
        lambda: certify_counts([[1, 2]], [[1.5, 2]], NOISE, "l2", DIM),
        lambda: certify_counts([[1, 2]], [[-1, 2]], NOISE, "l2", DIM),
        lambda: certify_counts([1, 2], [1, 2], NOISE, "l2", DIM),
        lambda: certify_counts([[1, 2]], [[1, 2]], NOISE, "l2", DIM, bound="wilson"),
        lambda: certify_counts([[1, 2]], [[1, 2]], NOISE, "l2", DIM, alpha=1.0),
        lambda: certify_counts([[1, 2]], [[1, 2]], NOISE, "l2", DIM, alpha=1e-320),
        lambda: certify_counts([[3, 2, 1]], [[3, 2, 1]], NOISE, "l2", DIM, alpha=2.3e-308, two_class=True),
        lambda: certify_counts([[1, 2]], [[1, math.inf]], NOISE, "l2", DIM),
        lambda: certify_counts([[1, 2]], [[1, math.nan]], NOISE, "l2", DIM),
        lambda: certify_counts([[1, 2]], [[1, 2.0**60]], NOISE, "l2", DIM),
        lambda: certify_counts([[1, 2]], [[1, 2]], NOISE, "l3", DIM),
        lambda: means([[1, 2]], [[1, 2, 3]], [[1, 2]], 10),
        lambda: means([[1, 2]], [[1, 2]], [[1, 2]], 10, bound="clopper-pearson"),
        lambda: predict_counts([[1], [2]]),
        lambda: predict_counts([[1, 2]], alpha=0.0),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(UsageError):
        call()


class NoNorm:
    name = "plugin"
    std = 1.0

    def sample(self, x, generator=None):
        return x

    def certified_radius(self, p, norm, dim):
        raise NoCertificate(f"noise 'plugin' has no theorem for {norm}", "use l2")


class WrongRadii(NoNorm):
    def certified_radius(self, p, norm, dim):
        return np.full(len(p), np.nan)


def test_a_plugin_noise_speaks_for_itself_and_its_nonsense_is_caught():
    with pytest.raises(NoCertificate, match="plugin"):
        certify_counts([[9, 1]], [[9, 1]], NoNorm(), "l1", DIM)
    with pytest.raises(PluginError, match="finite"):
        certify_counts([[9, 1]], [[9, 1]], WrongRadii(), "l1", DIM)
