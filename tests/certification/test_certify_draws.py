"""The draws of certificates: counted rightly, packed without a trace, sound where the truth is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from half_spaces import (
    CPU,
    DIM,
    NOISE,
    SHAPE,
    SIGMA,
    HalfSpace,
    claim,
    estimate,
    lines_of,
    procedure_of,
    sampler_of,
)
from scipy.special import ndtr
from torch import nn

from rushkit.certificates import ABSTAIN
from rushkit.certification import draws
from rushkit.certification.all_splits import AllSplits
from rushkit.certification.claim import Claim, smallest_samples
from rushkit.certification.counts import gather_counts
from rushkit.certification.draws import count_votes
from rushkit.certification.procedures import choose_procedure
from rushkit.certification.sequential import SequentialTests
from rushkit.certification.tasks import fixed_tasks, looks, marks
from rushkit.errors import NumericsError, UsageError
from rushkit.noises.split import Split as SplitNoise
from rushkit.recipe.schema import Certify
from rushkit.sequential_test import SequentialTest
from rushkit.units import noisy_unit, unit_sizes
from rushkit.votes import SCORE


class Network(nn.Module):
    """Fixed random logits of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(DIM, 3, generator=torch.Generator().manual_seed(1)).double()

    def forward(self, x):
        return (x.double() - 0.5).flatten(1) @ self.weight


def without_time(lines):
    return [line.with_changes(seconds=0.0) for line in lines]


def test_counts_are_those_of_a_loop_over_single_images():
    model, x = Network(), torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))
    pieces = [(1, noisy_unit(NOISE, x, 30, 0, "a")), (0, noisy_unit(NOISE, x, 5, 0, "b"))]
    pieces.append((1, noisy_unit(NOISE, x, 7, 0, "c")))
    votes, scores, squares = (np.zeros((2, 3), dtype=np.int64) for _ in range(3))
    for row, noisy in pieces:
        for image in noisy:
            logits = model(image[None])[0].float()
            votes[row, int(logits.argmax())] += 1
            score = np.floor(torch.softmax(logits, 0).numpy() * np.float32(SCORE)).astype(np.int64)
            scores[row] += score
            squares[row] += score**2
    counts = count_votes(model, pieces, 2, 3, 8, CPU)
    np.testing.assert_array_equal(counts.votes, votes)
    # The last bit of a softmax may depend on the batch: one unit of 1/SCORE a draw.
    np.testing.assert_allclose(counts.scores, scores, atol=42)
    np.testing.assert_allclose(counts.squares / SCORE, squares / SCORE, atol=84)


@pytest.mark.parametrize("batch", [1, 7, 64, 4096])
def test_batches_are_full_and_change_no_count(batch):
    sizes: list[int] = []

    class Watched(HalfSpace):
        def forward(self, x):
            sizes.append(len(x))
            return super().forward(x)

    x = torch.full(SHAPE, 0.52)
    pieces = [(row, noisy_unit(NOISE, x, size, 0, "packed", row)) for row, size in enumerate((30, 1, 100, 3, 66))]
    expected = count_votes(HalfSpace(), pieces, 5, 2, 1000, CPU)
    found = count_votes(Watched(), pieces, 5, 2, batch, CPU)
    np.testing.assert_array_equal(found.votes, expected.votes)
    assert found.votes.sum(axis=1).tolist() == [30, 1, 100, 3, 66]
    assert set(sizes[:-1]) <= {batch}
    assert sum(sizes) == 200


def test_logits_that_are_not_finite_are_an_error():
    with pytest.raises(NumericsError, match="NaN"):
        count_votes(HalfSpace(math.nan), [(0, torch.rand(3, *SHAPE))], 1, 2, 2, CPU)


def test_scores_are_never_above_the_confidences():
    counts = count_votes(HalfSpace(steepness=3.0), [(0, torch.rand(50, *SHAPE))], 1, 2, 50, CPU)
    assert counts.scores.sum() <= 50 * SCORE
    assert np.all(counts.squares <= counts.scores * SCORE)


def test_units_and_marks_cover_every_draw():
    assert unit_sizes(250) == [100, 100, 50]
    assert unit_sizes(200) == [100, 100]
    assert marks(60) == [60]
    assert marks(1500) == [100, 200, 500, 1000, 1500]
    assert marks(25_000) == [100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 25_000]
    tasks = list(fixed_tasks(300, 100, 25_000))
    for row in (0, 127, 128, 299):
        spans = [(task.start, task.stop) for task in tasks if task.part == "estimation" and row in task.rows]
        assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
        assert spans[-1][1] == 25_000
    assert max(len(task.rows) * (task.stop - task.start) for task in tasks) <= 12_800


def test_looks_begin_early_and_come_a_quarter_then_a_tenth_later():
    assert looks(300) == [
        7,
        9,
        12,
        15,
        19,
        24,
        30,
        38,
        48,
        60,
        75,
        94,
        118,
        130,
        143,
        158,
        174,
        192,
        212,
        234,
        258,
        284,
        300,
    ]
    assert (looks(1), looks(7), looks(8)) == ([1], [7], [7, 8])
    # With fewer draws they are the same, up to the last.
    assert looks(1000)[:-1] == looks(10**9)[: len(looks(1000)) - 1]
    assert len(looks(10**9)) < 200


def test_the_draws_of_an_image_depend_on_its_index_alone(tmp_path):
    levels = [100, 130, 140, 150]
    together = lines_of(sampler_of(levels), procedure_of(claim(300)), tmp_path, name="all")
    alone = lines_of(sampler_of([140], batch=64, indices=[2]), procedure_of(claim(300)), tmp_path, name="one")
    counts, _ = gather_counts(together, 300)
    single, _ = gather_counts(alone, 300)
    np.testing.assert_array_equal(single.votes[0], counts.votes[2])
    np.testing.assert_array_equal(single.selection[0], counts.selection[2])
    assert len({tuple(votes) for votes in counts.votes}) > 1


@pytest.mark.parametrize("mode", ["fixed", "sequential"])
def test_every_unit_of_draws_is_made_once(tmp_path, monkeypatch, mode):
    made: list[tuple] = []

    def watched(noise, x, size, seed, purpose, *counters):
        made.append((purpose, *counters, size))
        return noisy_unit(noise, x, size, seed, purpose, *counters)

    monkeypatch.setattr(draws, "noisy_unit", watched)
    lines_of(sampler_of([129, 140]), procedure_of(claim(1250, mode), 120, [SIGMA * 0.1]), tmp_path)
    assert len(set(made)) == len(made)
    for image in (0, 1):
        assert {unit[2:] for unit in made if unit[:2] == ("certify selection", image)} == {(0, 100), (1, 20)}
        units = sorted(unit[2:] for unit in made if unit[:2] == ("certify estimation", image))
        if mode == "fixed":
            assert units == [*((number, 100) for number in range(12)), (12, 50)]
            continue
        # A stretch between looks begins a unit, and another after each hundred draws.
        spans = list(pairwise([0, *looks(1250)]))
        expected = [(start, min(100, end - start)) for begin, end in spans for start in range(begin, end, 100)]
        assert units == expected[: len(units)]
        assert sum(units[-1]) in looks(1250)


def test_selection_and_estimation_draws_differ(tmp_path):
    counts, _ = gather_counts(lines_of(sampler_of([126, 127, 128, 129]), procedure_of(claim(100)), tmp_path), 100)
    assert not np.array_equal(counts.selection, counts.votes)


def test_a_linear_classifier_is_certified_up_to_its_distance_and_no_further(tmp_path):
    # Under N(0, σ²) a half space at distance d has p = Φ(d/σ), and is certified exactly d: any more is a false claim,
    # of probability at most 1e-9 for each of the 12 images.
    levels = [90, 100, 110, 118, 123, 132, 140, 148, 155, 165, 175, 185]
    counts, done = gather_counts(lines_of(sampler_of(levels), procedure_of(claim(100_000)), tmp_path), 100_000)
    assert done.tolist() == [100_000] * len(levels)
    distance = HalfSpace().distance(np.array(levels) / 255)
    share = counts.votes.max(axis=1) / 100_000
    # Five standard deviations of the vote itself.
    np.testing.assert_allclose(share, ndtr(distance / SIGMA), atol=0.008)
    found = estimate(claim(100_000, alpha=1e-9), counts)
    assert np.all(found.radius <= distance)
    usual = estimate(claim(100_000), counts)
    capped = counts.votes.max(axis=1) == 100_000
    # Near the boundary the slack of p is a large share of a tiny distance.
    clear = ~capped & (distance > 0.2 * SIGMA)
    assert clear.sum() >= 5
    assert np.all(usual.radius[clear] > 0.9 * distance[clear])


class TestSequential:
    radii = (0.5 * SIGMA, SIGMA, 2 * SIGMA)
    # p from 0.55 to nearly 1.
    levels = (130, 133, 137, 142, 144, 150, 155, 160, 165, 170, 178, 190)

    def replayed(self, lines, what, radii=None):
        return SequentialTests.replayed(what, radii or self.radii, lines)

    def test_verdicts_agree_with_the_truth_and_with_a_fixed_number_of_draws(self, tmp_path):
        what = claim(100_000, "sequential")
        state = self.replayed(lines_of(sampler_of(self.levels), procedure_of(what, radii=self.radii), tmp_path), what)
        distance = HalfSpace().distance(np.array(self.levels) / 255)
        fixed, _ = gather_counts(
            lines_of(sampler_of(self.levels), procedure_of(claim(20_000)), tmp_path, name="fixed"), 20_000
        )
        radius = estimate(claim(20_000), fixed).radius
        for bar, decision in zip(self.radii, state.test.decision, strict=True):
            # Of each side, a false claim has probability 0.001 for each of the 12 images.
            assert not np.any((decision == 1) & (distance < bar))
            assert not np.any((decision == -1) & (distance > bar))
            assert not np.any((decision == -1) & (radius >= bar))
        found = state.certificates()
        assert np.all(NOISE.certified_radius(found.p_lower, "l2", DIM) >= found.radius)
        assert np.all(found.radius <= distance)
        assert set(found.predicted.tolist()) <= {1, ABSTAIN}

    def test_takes_at_least_ten_times_fewer_draws_than_100000(self, tmp_path):
        what = claim(100_000, "sequential")
        lines = lines_of(sampler_of(self.levels), procedure_of(what, radii=[SIGMA]), tmp_path)
        test = self.replayed(lines, what, [SIGMA]).test
        assert not test.undecided.any()
        assert test.trials.mean() <= 10_000

    @pytest.mark.parametrize("batch", [16, 5000])
    def test_makes_no_draw_in_vain(self, tmp_path, batch):
        what = claim(5000, "sequential")
        lines = lines_of(sampler_of(self.levels, batch=batch), procedure_of(what, radii=self.radii), tmp_path)
        test = self.replayed(lines, what).test
        assert sum(line.drawn for line in lines if line.part == "round") == test.trials.sum()
        assert test.trials.max() == 5000
        assert set(test.trials.tolist()) <= set(looks(5000))

    def test_fills_its_batches_where_enough_images_are_undecided(self, tmp_path):
        sizes: list[int] = []

        class Watched(HalfSpace):
            def forward(self, x):
                sizes.append(len(x))
                return super().forward(x)

        levels = [129, 130, 131] * 100
        sampler = sampler_of(levels, Watched(), batch=500)
        lines = lines_of(sampler, procedure_of(claim(60, "sequential"), 10, [SIGMA * 0.1]), tmp_path)
        # The selection draws of 128, 128 and 44 images take 3, 3 and 1 passes.
        assert np.mean(sizes[7:]) > 425
        assert sum(sizes) == sum(line.drawn for line in lines)

    def test_packing_changes_neither_draws_nor_verdicts(self, tmp_path):
        what = claim(3000, "sequential")
        results = []
        for batch, levels, indices in (
            (64, self.levels, None),
            (5000, self.levels, None),
            (512, self.levels[3:], list(range(3, len(self.levels)))),
        ):
            sampler = sampler_of(levels, batch=batch, indices=indices)
            state = self.replayed(
                lines_of(sampler, procedure_of(what, radii=self.radii), tmp_path, name=str(batch)), what
            )
            test = state.test
            results.append([test.successes.tolist(), test.trials.tolist(), *test.decision.tolist()])
        assert results[0] == results[1]
        assert [row[3:] for row in results[0]] == results[2]

    def test_no_test_takes_more_than_it_may(self, tmp_path):
        what = claim(250, "sequential")
        distance = HalfSpace().distance(np.array([140]) / 255)[0]
        lines = lines_of(sampler_of([140]), procedure_of(what, radii=[distance]), tmp_path)
        state = self.replayed(lines, what, [distance])
        assert (state.test.trials.tolist(), state.test.undecided.tolist()) == ([250], [True])
        assert state.certificates().predicted.tolist() == [ABSTAIN]

    def test_from_counts_of_more_draws_it_is_the_test_of_fewer(self, tmp_path):
        # 990 is a look of both; the distance of level 140 is on the edge, so that its test goes to the end.
        radii = (HalfSpace().distance(140 / 255), *self.radii)
        more, fewer = (
            lines_of(sampler_of(self.levels), procedure_of(claim(most, "sequential"), radii=radii), tmp_path, str(most))
            for most in (5000, 990)
        )
        both = [self.replayed(lines, claim(990, "sequential"), radii) for lines in (more, fewer)]
        assert both[0].test.trials.tolist() == both[1].test.trials.tolist()
        assert both[0].test.decision.tolist() == both[1].test.decision.tolist()
        assert both[0].certificates().p_lower.tolist() == both[1].certificates().p_lower.tolist()
        assert both[0].done.max() == 5000 > both[1].done.max()

    def test_another_alpha_from_counts_is_a_run_under_that_alpha(self, tmp_path):
        strict, lax = claim(3000, "sequential", alpha=1e-6), claim(3000, "sequential", alpha=0.05)
        states = [
            self.replayed(lines_of(sampler_of(self.levels), procedure_of(what, radii=self.radii), tmp_path, name), lax)
            for name, what in (("strict", strict), ("lax", lax))
        ]
        assert states[0].test.trials.tolist() == states[1].test.trials.tolist()
        assert states[0].test.decision.tolist() == states[1].test.decision.tolist()

    def test_only_numbers_of_draws_that_were_looks_are_taken_from_counts(self):
        procedure_of(claim(990, "sequential"), radii=self.radii).check_logged(5000)
        procedure_of(claim(5000, "sequential"), radii=self.radii).check_logged(5000)
        for samples, hint in ((1000, "--samples 990 or 1089"), (3, "--samples 7,"), (6000, "--samples 5000,")):
            with pytest.raises(UsageError, match=f"no {samples} draws") as error:
                procedure_of(claim(samples, "sequential"), radii=self.radii).check_logged(5000)
            assert hint in error.value.hint

    def test_a_radius_out_of_reach_changes_no_other_test(self, tmp_path):
        what = claim(2000, "sequential")
        lines = lines_of(sampler_of(self.levels), procedure_of(what, radii=self.radii), tmp_path)
        with_it, without = (self.replayed(lines, what, radii) for radii in ((*self.radii, 100.0), self.radii))
        assert with_it.test.decision[:-1].tolist() == without.test.decision.tolist()
        assert set(with_it.test.decision[-1].tolist()) == {-1}

    def test_a_radius_out_of_reach_costs_no_draws(self, tmp_path):
        what = claim(1000, "sequential")
        lines = lines_of(sampler_of(self.levels), procedure_of(what, radii=[100.0]), tmp_path)
        assert [line.part for line in lines] == ["selection"]

    def test_goes_on_as_if_it_had_never_been_stopped(self, tmp_path):
        what = claim(2000, "sequential")
        whole = lines_of(sampler_of(self.levels), procedure_of(what, radii=self.radii), tmp_path, name="whole")
        text = (tmp_path / "whole.jsonl").read_bytes()
        assert len(whole) > 4
        for offset in np.linspace(0, len(text), 23).astype(int):
            (tmp_path / "cut.jsonl").write_bytes(text[:offset])
            again = lines_of(sampler_of(self.levels), procedure_of(what, radii=self.radii), tmp_path, name="cut")
            assert without_time(again) == without_time(whole)


class TestTooFewDraws:
    @pytest.mark.parametrize(("alpha", "radius", "fewest"), [(0.001, 0.0, 12), (0.05, 0.0, 6), (0.001, SIGMA, 47)])
    def test_the_fewest_that_certify_the_smallest_radius_are_those_of_the_test(self, alpha, radius, fewest):
        settings = Certify(alpha=alpha, radii=[2 * SIGMA, radius], norm="l2", samples=fewest)
        what = choose_procedure(settings, NOISE, DIM).claim
        test = SequentialTest(what.p0, alpha)
        while not test.decision[0]:
            test.update(1, 1)
        assert (int(test.trials[0]), int(test.decision[0])) == (fewest, 1)
        assert smallest_samples(what) == fewest
        few = settings.model_copy(update={"radii": [radius], "samples": fewest - 1})
        with pytest.raises(UsageError, match=f"{fewest - 1} draws can never certify") as error:
            choose_procedure(few, NOISE, DIM)
        assert f"--samples {fewest}" in error.value.hint


def test_every_split_is_counted_once(tmp_path):
    noise = SplitNoise(scale=0.1)
    sampler = sampler_of([20, 120, 130, 240], batch=16, noise=noise)
    what = Claim(noise, "l1", DIM, 0.0, "exhaustive", "majority", False, noise.num_splits)
    (line,) = lines_of(sampler, AllSplits(what, 0, noise), tmp_path)
    expected = [[0, 0] for _ in range(4)]
    for row in range(4):
        for version in noise.exhaustive(sampler.image(row)[None])[:, 0]:
            expected[row][int(HalfSpace()(version[None]).argmax())] += 1
    assert line.votes == expected
    assert line.drawn == 4 * noise.num_splits
