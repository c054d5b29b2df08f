"""The draws of certificates: counted rightly, packed without a trace, sound where the truth is known."""

from __future__ import annotations

import math

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
from rushkit.certification.claim import Claim
from rushkit.certification.counts import gather_counts
from rushkit.certification.draws import count_votes
from rushkit.certification.sequential import SequentialTests
from rushkit.certification.tasks import fixed_tasks, marks
from rushkit.errors import NumericsError
from rushkit.noises.split import Split as SplitNoise
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
    tasks = fixed_tasks(300, 100, 25_000)
    for row in (0, 127, 128, 299):
        spans = [(task.start, task.stop) for task in tasks if task.part == "estimation" and row in task.rows]
        assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
        assert spans[-1][1] == 25_000
    assert max(len(task.rows) * (task.stop - task.start) for task in tasks) <= 12_800


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
        assert units == [*((number, 100) for number in range(12)), (12, 50)][: len(units)]
        assert mode == "sequential" or len(units) == 13


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
        for bar, test in zip(self.radii, state.tests, strict=True):
            # False claims of either kind have probability 0.001 for each of the 36 tests.
            assert not np.any((test.decision == 1) & (distance < bar))
            assert not np.any((test.decision == -1) & (distance > bar))
            assert not np.any((test.decision == -1) & (radius >= bar))
        found = state.certificates()
        assert np.all(found.radius <= distance)
        assert set(found.predicted.tolist()) <= {1, ABSTAIN}

    def test_takes_at_least_ten_times_fewer_draws_than_100000(self, tmp_path):
        what = claim(100_000, "sequential")
        lines = lines_of(sampler_of(self.levels), procedure_of(what, radii=[SIGMA]), tmp_path)
        state = self.replayed(lines, what, [SIGMA])
        assert state.open_ended == 0
        assert state.trials.mean() <= 10_000
        # What was drawn to keep batches full counts as well.
        assert sum(line.drawn for line in lines) <= 10_000 * len(self.levels)

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
            results.append([(test.decision.tolist(), test.successes.tolist()) for test in state.tests])
        assert results[0] == results[1]
        assert [(decision[3:], successes[3:]) for decision, successes in results[0]] == results[2]

    def test_no_test_takes_more_than_it_may(self, tmp_path):
        what = claim(250, "sequential")
        distance = HalfSpace().distance(np.array([140]) / 255)[0]
        lines = lines_of(sampler_of([140]), procedure_of(what, radii=[distance]), tmp_path)
        state = self.replayed(lines, what, [distance])
        assert (state.trials.tolist(), state.open_ended) == ([250], 1)
        assert state.certificates().predicted.tolist() == [ABSTAIN]
        # From counts of more draws, only whole units within the number count.
        longer = lines_of(
            sampler_of([140]), procedure_of(claim(1000, "sequential"), radii=[distance]), tmp_path, name="longer"
        )
        assert self.replayed(longer, what, [distance]).trials.tolist() == [200]

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
