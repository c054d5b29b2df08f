"""What holds for all images of a test set together: exact sums in the worst case, then procedures by simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom
from tiny_runs import QUIET, TINY, checkpoint_of, finetuned

from rushkit import noises
from rushkit.certificates import Certificates, MeanSums, Randomized, certify_counts, certify_means
from rushkit.certification.certify import certify, recertify
from rushkit.recipe.load import derive_recipe, load_recipe
from rushkit.recipe.sections import MIN_ALPHA
from rushkit.results.together import most_false, together_at
from rushkit.sequential_test import SequentialTest
from rushkit.setup.start import start_run
from rushkit.statistics import SMALLEST_ALPHA, clopper_pearson_lower

ALPHAS = ["0.45", "0.2", "0.05", "0.01", "0.001", "1e-9"]
SIGMA = 0.5


def fails(images, most_false, false, strictly_false):
    """P(more than ``most_false`` of N fail at alpha, or one fails at the strict alpha), from those of one image.

    An image that fails at the strict alpha fails at the larger one, so all is well with no such image and few others.
    """
    return 1 - sum(
        math.comb(images, k) * (false - strictly_false) ** k * (1 - false) ** (images - k)
        for k in range(min(most_false, images) + 1)
    )


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("images", [1, 2, 3, 10, 50, 200])
def test_the_bound_fails_with_probability_alpha_at_most_where_every_certificate_is_as_false_as_it_may_be(images, alpha):
    together = together_at(float(alpha), images)
    exact, strict = Fraction(float(alpha)), Fraction(together.strict_alpha)
    # The strict alpha is a float, and off by its last bit.
    assert fails(images, together.most_false, exact, strict) <= exact * (1 + Fraction(1, 10**12))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("images", [2, 3, 10, 50, 200])
def test_no_smaller_number_of_false_certificates_has_that_probability(images, alpha):
    exact = Fraction(float(alpha))
    fewer = together_at(float(alpha), images).most_false - 1
    assert fewer >= 0
    assert fails(images, fewer, exact, Fraction(0)) > exact / 2


def test_as_many_false_certificates_as_of_ten_thousand_images():
    # P(X > 22) = 0.00034 and P(X > 21) = 0.00070 for X ~ Bin(10000, 0.001).
    assert together_at(0.001, 10_000).most_false == 22
    assert binom.sf(22, 10_000, 0.001) <= 0.0005 < binom.sf(21, 10_000, 0.001)
    assert together_at(0.001, 10_000).strict_alpha == 5e-8


def test_where_nothing_is_left_to_chance_nothing_is_subtracted():
    together = together_at(0.0, 500)
    assert (together.most_false, together.strict_alpha) == (0, 0.0)
    assert together.proved(400, 400) == 400


def test_of_a_single_image_the_certificate_is_the_bound():
    together = together_at(0.05, 1)
    assert (together.most_false, together.strict_alpha) == (0, 0.05)
    assert together.proved(1, 1) == 1


def test_the_better_of_the_two_bounds_counts_and_neither_goes_below_nothing():
    together = together_at(0.001, 100)
    assert together.most_false == 2
    assert [together.proved(*counts) for counts in ((60, 59), (60, 40), (1, 0), (0, 0))] == [59, 58, 0, 0]


@pytest.mark.parametrize("images", [2, 10**6, 10**12])
def test_the_smallest_alpha_of_a_recipe_can_still_be_shared(images):
    together = together_at(MIN_ALPHA, images)
    assert together.most_false == 1
    assert together.strict_alpha > SMALLEST_ALPHA
    assert 0 < clopper_pearson_lower(9_990, 10_000, together.strict_alpha) < 0.99


@pytest.mark.parametrize(("images", "samples", "alpha"), [(1, 40, 0.05), (2, 40, 0.05), (30, 100, 0.05), (30, 13, 0.2)])
def test_clopper_pearson_certificates_fail_together_with_probability_alpha_at_most(images, samples, alpha):
    together = together_at(alpha, images)
    # Just above this probability the certificate is true: here each image lies just below, so every one is false.
    for p in (0.5, 0.7, 0.9, 0.99):
        hits = np.arange(samples + 1)
        chances = binom.pmf(hits, samples, p)
        false, strictly = (
            float(chances[clopper_pearson_lower(hits, samples, level) > p].sum())
            for level in (alpha, together.strict_alpha)
        )
        assert false <= alpha * (1 + 1e-12)
        assert fails(images, together.most_false, false, strictly) <= alpha * (1 + 1e-9)


def majority(chance, p, shape, two_class, bound):
    """Certificates of images whose class has probability p, and the two others the same of what is left."""
    share = (1 - p) / 2
    votes = chance.multinomial(200, [p, share, share], size=shape)
    if bound == "randomized":
        bound = Randomized(1 - chance.random(shape))
    selection = np.tile([[30, 20, 20]], (shape, 1))
    noise = noises.create("gaussian", scale=SIGMA)
    return lambda level: certify_counts(selection, votes, noise, "l2", 12, level, bound, two_class)


def means(chance, p, shape):
    """The same for the mean rule: confidences 0 and 1, whose mean is p."""
    hits = chance.binomial(200, p, size=shape).astype(float)
    sums = MeanSums(np.zeros(shape, dtype=np.int64), hits, hits, 200)
    return lambda level: certify_means(sums, noises.create("gaussian", scale=SIGMA), "l2", 12, level)


def sequential(chance, p, shape):
    """The same for the sequential test of just one radius, looked at after every 20 of 400 draws."""
    gains = chance.binomial(20, p, size=(20, shape))

    def at(level):
        test = SequentialTest(p, level, images=shape)
        for gained in gains:
            test.update(gained, np.full(shape, 20))
        certified = test.decision == 1
        return Certificates(np.where(certified, 0, -1), np.zeros(shape), np.ones(shape), np.where(certified, 9.0, 0.0))

    return at


@pytest.mark.parametrize(
    ("draw", "options", "p"),
    [
        (majority, (False, "clopper-pearson"), 0.8),
        (majority, (False, "betting"), 0.8),
        (majority, (False, "randomized"), 0.8),
        (majority, (True, "clopper-pearson"), 0.45),
        (means, (), 0.8),
        (sequential, (), 0.8),
    ],
    ids=["clopper-pearson", "betting", "randomized", "two classes", "mean", "sequential"],
)
def test_no_procedure_proves_more_images_than_are_robust_more_often_than_alpha(draw, options, p):
    # Each set has 10 images. None is robust at more than its true radius, so each proved image there is one too many.
    alpha, images, sets = 0.2, 10, 250
    noise = noises.create("gaussian", scale=SIGMA)
    truth = {
        True: lambda: noise.certified_radius_two_class(p, (1 - p) / 2, "l2", 12),
        False: lambda: noise.certified_radius(p, "l2", 12),
    }[p < 0.5]()
    certificates = draw(np.random.default_rng(0), p, images * sets, *options)
    together = together_at(alpha, images)
    counts, strict = (
        (certificates(level).radius > truth).reshape(sets, images).sum(axis=1)
        for level in (alpha, together.strict_alpha)
    )
    wrong = sum(together.proved(*pair) > 0 for pair in zip(counts.tolist(), strict.tolist(), strict=True))
    # A bound at exactly alpha fails this test but once in a million seeds.
    assert wrong <= binom.ppf(1 - 1e-6, sets, alpha)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe under uniform noise and a tiny model of it."""
    changes = [
        *TINY,
        "backbone.name=resnet10-small",
        "finetune.epochs=8",
        "noise.scale=0.2",
        "certify.norm=l1",
        "certify.samples=200",
        "certify.limit=8",
        "certify.selection=20",
        "certify.alpha=0.01",
        f"system.runs_dir={tmp_path_factory.mktemp('together') / 'runs'}",
    ]
    recipe = load_recipe("digits", changes, {})
    return recipe, checkpoint_of(finetuned(recipe, None))


@pytest.mark.parametrize("radii", [[], [0.001, 0.05, 0.1]], ids=["fixed", "sequential"])
def test_the_strict_count_is_that_of_certificates_at_the_strict_alpha(trained, radii):
    recipe = derive_recipe(trained[0], {"certify.radii": radii, "certify.samples": 1000 if radii else 200}, {})
    with start_run("certify", recipe, QUIET, parent=str(trained[1].path)) as run:
        results = certify(recipe, trained[1], run)
    assert results.together == together_at(0.01, 8)
    again = derive_recipe(
        recipe,
        {"certify.alpha": results.together.strict_alpha, "certify.radii": [row.radius for row in results.certified]},
        {},
    )
    strict = recertify(again, run.path)
    assert [row.strict for row in results.certified] == [row.count for row in strict.certified]
    assert results.certified[0].strict > 0
    assert results.certified[0].proved == max(results.certified[0].count - 1, results.certified[0].strict)


def test_a_count_over_all_splits_is_proved_as_it_is(trained):
    noise = {"name": "split", "scale": 0.1}
    recipe = derive_recipe(trained[0], {"noise": noise}, {})
    with start_run("certify", recipe, QUIET, parent=str(trained[1].path)) as run:
        results = certify(recipe, trained[1], run)
    assert results.together == together_at(0.0, 8)
    assert all(row.proved == row.strict == row.count for row in results.certified)
    assert results.method.startswith("exact, all 51 splits; theorem: ")


def test_the_number_of_false_certificates_is_the_smallest_that_the_exact_sum_allows():
    for trials in (1, 5, 30):
        for p in (0.01, 0.3, 0.999):
            for chance in (1e-12, 0.011, 0.45, 0.97):
                above = [
                    sum(
                        Fraction(math.comb(trials, k)) * Fraction(p) ** k * (1 - Fraction(p)) ** (trials - k)
                        for k in range(q + 1, trials + 1)
                    )
                    for q in range(trials + 1)
                ]
                assert most_false(trials, p, chance) == next(q for q, tail in enumerate(above) if tail <= chance)


@pytest.mark.parametrize("images", [2, 100, 10_000, 200_000])
@pytest.mark.parametrize("alpha", [1e-150, 1e-6, 0.001, 0.05, 0.45, 0.99])
def test_it_agrees_with_scipys_tail(images, alpha):
    q = most_false(images, alpha, alpha / 2)
    assert binom.sf(q, images, alpha) <= alpha / 2
    assert q == 0 or binom.sf(q - 1, images, alpha) > alpha / 2
