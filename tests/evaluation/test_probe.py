"""The probe against linear maps whose largest ratio is known, and the stage that runs it for three encoders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_runs import QUIET, checkpoint_of, finetuned, pretrained
from torch import nn

from rushkit.attacks.norms import random_start
from rushkit.errors import NumericsError, UsageError
from rushkit.evaluation import probe as module
from rushkit.evaluation.probe import Ball, encoders_of, how_to_supervise, lipschitz_ratios, probe, summary
from rushkit.setup.start import start_run
from rushkit.system import generator

SIDE, SINGULAR = 3, (5.0, 2.0, 1.0, 0.5)


class Map(nn.Module):
    """A linear map with the singular values above, the others zero."""

    def __init__(self):
        super().__init__()
        source = torch.Generator().manual_seed(0)
        left = torch.linalg.qr(torch.randn(4, 4, generator=source, dtype=torch.float64)).Q
        right = torch.linalg.qr(torch.randn(3 * SIDE * SIDE, 4, generator=source, dtype=torch.float64)).Q
        self.register_buffer("weight", left @ torch.diag(torch.tensor(SINGULAR, dtype=torch.float64)) @ right.T)

    def forward(self, x):
        return x.flatten(1).double() @ self.weight.T


def images(count=12):
    """In the middle of the box, which the balls below do not reach."""
    return 0.4 + 0.2 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def test_ascent_reaches_the_largest_singular_value_and_nothing_exceeds_it():
    found = lipschitz_ratios(Map(), images(), Ball("l2", 0.3, 60), seed=0, unit=False)
    assert found["ascent"] == pytest.approx(SINGULAR[0], rel=1e-3)
    assert (found["ascent"] <= SINGULAR[0] * (1 + 1e-6)).all()
    assert (found["random"] < SINGULAR[0]).all()


def test_random_points_have_the_mean_square_of_the_singular_values():
    found = lipschitz_ratios(Map(), images(400), Ball("l2", 0.3, 1), seed=0, unit=False)
    # The square root of ‖W‖²/d bounds the mean ratio, and lies close to it from above.
    expected = math.sqrt(sum(value**2 for value in SINGULAR) / (3 * SIDE * SIDE))
    assert expected * 0.85 < found["random"].mean() < expected


def test_with_unit_features_ascent_reaches_the_slope_of_the_normalised_map():
    model, x = Map(), images(6)
    found = lipschitz_ratios(model, x, Ball("l2", 0.002, 120), seed=0)
    for image, ratio in zip(x, found["ascent"], strict=True):
        z = model(image[None])[0]
        direction = z / z.norm()
        slope = (torch.eye(4, dtype=torch.float64) - torch.outer(direction, direction)) @ model.weight / z.norm()
        assert ratio == pytest.approx(float(torch.linalg.matrix_norm(slope, 2)), rel=0.02)


@pytest.mark.parametrize("norm, eps", [("linf", 0.05), ("l2", 0.3), ("l1", 0.5)])
def test_ascent_beats_random_points_in_every_norm(norm, eps):
    found = lipschitz_ratios(Map(), images(), Ball(norm, eps, 30), seed=0)
    assert (found["ascent"] > found["random"]).all()


def test_the_ascent_in_l_inf_reaches_the_corner_of_a_one_dimensional_map():
    class Sum(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(1, keepdim=True)

    # Every pixel moves by eps: distance d·eps in the features, √d·eps in the image.
    found = lipschitz_ratios(Sum(), images(), Ball("linf", 0.05, 30), seed=0, unit=False)
    assert found["ascent"] == pytest.approx(math.sqrt(3 * SIDE * SIDE), rel=1e-3)


class Sum(nn.Module):
    """One feature: the sum of the pixels, or the root of how far it is from that of a grey image."""

    def __init__(self, root=False):
        super().__init__()
        self.root = root

    def forward(self, x):
        found = x.flatten(1).sum(1, keepdim=True)
        return (found - 0.5 * x[0].numel()).abs().sqrt() if self.root else found


def at_the_start(x, ball):
    """(N,) how far each pixel sum is from its own where the ascent begins, and how far the image is."""
    moved = random_start(x, ball.norm, ball.eps, generator(3, "probe start")) - x
    return moved.flatten(1).sum(1).abs().numpy(), moved.flatten(1).norm(dim=1).numpy()


def test_the_point_of_the_last_step_is_looked_at():
    ball = Ball("linf", 0.05, 1)
    found = lipschitz_ratios(Sum(), images(), ball, seed=3, unit=False)
    feature, distance = at_the_start(images(), ball)
    assert (found["ascent"] > feature / distance + 0.1).all()


def test_the_largest_ratio_on_the_way_counts_and_not_the_last():
    # Of one pixel, the root of its distance over its distance: the farther, the smaller.
    x, ball = torch.full((6, 1, 1, 1), 0.5), Ball("linf", 0.05, 10)
    found = lipschitz_ratios(Sum(root=True), x, ball, seed=3, unit=False)
    feature, distance = at_the_start(x, ball)
    assert (found["ascent"] >= np.sqrt(feature) / distance * (1 - 1e-3)).all()


def test_each_block_of_images_has_draws_of_its_own_and_each_encoder_the_same(trained, monkeypatch):
    recipe, source, _ = trained
    seeds, original = [], module.lipschitz_ratios

    def noted(encoder, x, ball, seed, unit=True):
        seeds.append(seed)
        return original(encoder, x, ball, seed, unit)

    monkeypatch.setattr(module, "_BLOCK", 4)
    monkeypatch.setattr(module, "lipschitz_ratios", noted)
    with start_run("probe", recipe, QUIET) as run:
        results = probe(recipe, source, Ball(steps=1), run, images=10)
    assert results.data == "digits/test"
    assert len(seeds) == 6
    assert len(set(seeds[:3])) == 3
    assert seeds[:3] == seeds[3:]


def test_the_same_seed_gives_the_same_ratios_and_the_model_is_left_alone():
    model = Map()
    before = model.weight.clone()
    first, second = (lipschitz_ratios(model, images(), Ball(steps=3), seed=5) for _ in range(2))
    other = lipschitz_ratios(model, images(), Ball(steps=3), seed=6)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert not np.array_equal(first["random"], other["random"])
    assert torch.equal(model.weight, before)


def test_features_that_are_not_finite_are_named():
    class Broken(nn.Module):
        def forward(self, x):
            return x.flatten(1) * torch.nan

    with pytest.raises(NumericsError, match="NaN or infinite features"):
        lipschitz_ratios(Broken(), images(), Ball(), seed=0)


@pytest.mark.parametrize("eps, steps", [(0.0, 20), (0.1, 0), (math.nan, 3)])
def test_a_ball_without_extent_is_refused(eps, steps):
    with pytest.raises(UsageError, match="eps above 0"):
        Ball("linf", eps, steps)


def test_the_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    row = summary("random", "ascent", values, seed=1)
    # Of a normal sample, the half width is 1.96 standard errors, to about a tenth of it.
    half = 1.96 * values.std(ddof=1) / 20
    assert row.mean == pytest.approx(values.mean())
    assert (row.high - row.low) / 2 == pytest.approx(half, rel=0.15)
    assert row.low < row.mean < row.high
    assert row.quantiles["0.5"] == pytest.approx(np.median(values))
    assert row.largest == values.max()


@pytest.fixture
def trained(tiny):
    """-> recipe, a pre-trained checkpoint, a supervised one."""
    recipe = tiny("pretrain.epochs=1", "pretrain.knn.every=0")
    supervised = tiny("finetune.freeze=none", "finetune.epochs=1")
    return recipe, checkpoint_of(pretrained(recipe)), checkpoint_of(finetuned(supervised, None))


def test_the_stage_probes_three_encoders_of_one_shape(trained):
    recipe, source, supervised = trained
    with start_run("probe", recipe, QUIET, parent=str(source.path)) as run:
        results = probe(recipe, source, Ball(steps=2), run, images=10, supervised=supervised)
    kinds = [(row.encoder, row.points) for row in results.rows]
    assert kinds == [(name, way) for name in ("pre-trained", "random", "supervised") for way in ("random", "ascent")]
    assert all(row.images == 10 and row.low <= row.mean <= row.high for row in results.rows)
    assert (run.path / "results.json").exists()


def test_without_a_supervised_run_its_rows_are_left_out(trained):
    recipe, source, _ = trained
    with start_run("probe", recipe, QUIET) as run:
        results = probe(recipe, source, Ball(steps=1), run, images=4)
    assert {row.encoder for row in results.rows} == {"pre-trained", "random"}


def test_the_random_encoder_has_other_weights_than_the_trained_one(trained):
    _, source, supervised = trained
    encoders = encoders_of(source, supervised)
    weights = [torch.cat([parameter.flatten() for parameter in encoder.parameters()]) for encoder in encoders.values()]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert not any(encoder.training for encoder in encoders.values())


def test_a_frozen_run_is_no_supervised_encoder(trained, tiny):
    _, source, _ = trained
    frozen = checkpoint_of(finetuned(tiny("finetune.epochs=1"), source))
    with pytest.raises(UsageError, match="no supervised encoder") as caught:
        encoders_of(source, frozen)
    assert "rushkit finetune --recipe" in caught.value.hint


def test_an_encoder_of_another_shape_is_refused(trained, tiny):
    _, source, _ = trained
    wider = tiny("finetune.freeze=none", "finetune.epochs=1", "backbone.width=4")
    with pytest.raises(UsageError, match="another backbone"):
        encoders_of(source, checkpoint_of(finetuned(wider, None)))


def test_a_recipe_that_trains_all_weights_keeps_its_name_in_the_hint(tiny):
    assert how_to_supervise(tiny()).endswith("-supervised")
    assert how_to_supervise(tiny("finetune.freeze=none")).endswith("--supervised RUN, the folder that it prints")
