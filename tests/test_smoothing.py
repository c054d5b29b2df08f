"""SmoothedClassifier against closed forms and written-out loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rushkit.errors import NumericsError, UsageError
from rushkit.smoothing import SmoothedClassifier, log_mean_softmax
from rushkit.votes import first_argmax


class Box:
    """A tiny noise of the tests' own: uniform on [-scale, scale]."""

    def __init__(self, scale):
        self.scale, self.std = scale, scale / math.sqrt(3)

    def sample(self, x, generator=None):
        unit = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return (2 * unit - 1) * self.scale

    def certified_radius(self, p, norm, dim):
        return 2 * self.scale * max(p - 0.5, 0.0)


def small_model(seed=0, classes=5):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, classes)).double()


@pytest.fixture
def x():
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def panel(g, x, m, seed):
    """The m draws of the fixed panel, by looking at what reaches the model."""
    seen = []
    handle = g.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with g.fixed_noise(seed):
        g.tally(x)
    handle.remove()
    return torch.cat(seen).reshape(m, *x.shape)


def test_value_and_gradient_of_eq_7_equal_a_written_out_loop(x):
    model, m, label = small_model(), 7, 2
    g = SmoothedClassifier(model, Box(0.3), samples=m)
    noisy = panel(g, x, m, seed=11)
    reference_x = x.clone().requires_grad_()
    total = 0.0
    for n in range(len(x)):
        mean = (
            sum(torch.softmax(model(reference_x[n : n + 1] + (noisy[i, n] - x[n])), 1)[0, label] for i in range(m)) / m
        )
        total = total - torch.log(mean)
    total.backward()

    tested = x.clone().requires_grad_()
    with g.fixed_noise(11):
        loss = -g(tested)[:, label].sum()
    loss.backward()
    assert loss.item() == pytest.approx(total.item(), abs=1e-6)
    torch.testing.assert_close(tested.grad, reference_x.grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 3, 4, 9, 27, 28, 1000])
def test_chunk_changes_neither_values_nor_gradients(x, chunk):
    def run(chunk):
        model = small_model()
        g = SmoothedClassifier(model, Box(0.3), samples=7, chunk=chunk, seed=5)
        inputs = x.clone().requires_grad_()
        loss = -g(inputs)[:, 0].sum()
        loss.backward()
        return loss.detach(), inputs.grad, [p.grad for p in model.parameters()], g.tally(x).votes

    whole, part = run(None), run(chunk)
    torch.testing.assert_close(part[0], whole[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(part[1], whole[1], atol=1e-6, rtol=0)
    for ours, theirs in zip(part[2], whole[2], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert torch.equal(part[3], whole[3])


def test_log_mean_softmax_survives_logits_that_underflow_a_softmax():
    logits = torch.tensor([[[0.0, 1e4]], [[0.0, 1e4]]])
    assert log_mean_softmax(logits)[0].tolist() == [-1e4, 0.0]


def test_two_branches_have_the_closed_form_mean():
    logits = torch.tensor([[[1.0, 0.0]], [[-3.0, 0.0]]])
    sigmoid = lambda margin: 1 / (1 + math.exp(-margin))  # noqa: E731
    expected = math.log((sigmoid(1) + sigmoid(-3)) / 2)
    assert log_mean_softmax(logits)[0, 0].item() == pytest.approx(expected, abs=1e-6)


class Sign(nn.Module):
    """Class 1 where the first pixel is positive."""

    def forward(self, x):
        first = x[:, 0, 0, 0]
        return torch.stack([-first, first], dim=1)


def test_votes_follow_the_binomial_of_a_known_classifier():
    # U(-0.3, 0.3) around 0.15 is positive with probability 3/4; 20000 draws, 5 standard deviations (p 6e-7).
    votes = SmoothedClassifier(Sign(), Box(0.3), seed=3).votes(torch.full((1, 1, 1, 1), 0.15), samples=20000)
    assert votes.sum().item() == 20000
    assert abs(votes[0, 1].item() / 20000 - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 20000)


def test_every_image_has_draws_of_its_own_unless_the_panel_is_fixed():
    seen = []

    class Spy(Sign):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    x = torch.zeros(2, 1, 4, 4)
    g = SmoothedClassifier(Spy(), Box(0.3), samples=3, seed=0)
    g.votes(x)
    fresh = seen[-1].reshape(3, 2, -1)
    assert not torch.equal(fresh[:, 0], fresh[:, 1])
    with g.fixed_noise(1):
        g.votes(x)
        g.votes(x[1:])
    fixed, subset = seen[-2].reshape(3, 2, -1), seen[-1].reshape(3, 1, -1)
    assert torch.equal(fixed[:, 0], fixed[:, 1])
    assert torch.equal(fixed[:, 1:], subset)


def test_streams_are_fresh_at_every_call_and_repeat_with_the_seed(x):
    def stream(seed):
        g = SmoothedClassifier(small_model(), Box(0.3), samples=2, seed=seed)
        return [g(x).detach() for _ in range(2)]

    first, again, other = stream(1), stream(1), stream(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_fresh_noise_restarts_its_stream_and_leaves_the_outer_one_alone(x):
    g = SmoothedClassifier(small_model(), Box(0.3), samples=2, seed=1)
    twin = SmoothedClassifier(small_model(), Box(0.3), samples=2, seed=1)
    with g.fresh_noise(9):
        inner = [g(x), g(x)]
    with g.fresh_noise(9):
        assert torch.equal(g(x), inner[0])
    assert not torch.equal(inner[0], inner[1])
    assert torch.equal(g(x), twin(x))


def test_the_global_random_state_is_untouched(x):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    g = SmoothedClassifier(small_model(), Box(0.3), samples=3, chunk=2)
    inputs = x.clone().requires_grad_()
    g(inputs).sum().backward()
    g.predict(x)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_the_rules_differ_where_a_minority_is_confident():
    class Lopsided(nn.Module):
        def forward(self, x):
            first = x[:, 0, 0, 0]
            return torch.stack([torch.zeros_like(first), torch.where(first > 0.15, 9.0, -0.2)], dim=1)

    # Positive beyond 0.15 with probability 1/4, where class 1 is nearly certain; elsewhere class 0 barely wins.
    g = SmoothedClassifier(Lopsided(), Box(0.3), samples=400, seed=0)
    x = torch.zeros(1, 1, 1, 1)
    assert g.predict(x, "majority").item() == 0
    assert g.predict(x, "mean").item() == 1


def test_a_tie_goes_to_the_lowest_class():
    assert first_argmax(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 0.0], [0.0, 0.0, 5.0]])).tolist() == [1, 0, 2]


def test_confidences_are_the_mean_softmax(x):
    g = SmoothedClassifier(small_model(), Box(0.3), samples=6)
    with g.fixed_noise(4):
        tally, log_mean = g.tally(x), g(x)
    torch.testing.assert_close((tally.confidence / 6).log().float(), log_mean.detach().float(), atol=1e-5, rtol=0)


def test_logits_under_autocast_come_back_in_float32():
    model = small_model().float()
    g = SmoothedClassifier(model, Box(0.3), samples=4, seed=1)
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert g.sample_logits(x).dtype == torch.float32
        assert g(x).exp().sum(1).allclose(torch.ones(2), atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("call", ["forward", "tally"])
def test_logits_that_are_not_finite_are_an_error(bad, call):
    class Broken(Sign):
        def forward(self, x):
            return super().forward(x) + bad

    with pytest.raises(NumericsError, match="NaN or infinite"):
        getattr(SmoothedClassifier(Broken(), Box(0.1)), call)(torch.zeros(1, 1, 2, 2))


def test_forwards_are_counted_and_a_recomputed_chunk_counts_once(x):
    g = SmoothedClassifier(small_model(), Box(0.1), samples=6)
    g.votes(x)
    assert g.image_forwards == 24
    g = SmoothedClassifier(small_model(), Box(0.1), samples=6, chunk=8)
    g(x.requires_grad_()).sum().backward()
    assert g.image_forwards == 24


def test_wrong_arguments_are_named(x):
    with pytest.raises(UsageError, match="samples=0"):
        SmoothedClassifier(Sign(), Box(0.1), samples=0)
    g = SmoothedClassifier(Sign(), Box(0.1))
    with pytest.raises(UsageError, match="N, C, H, W"):
        g(x[0])
    with pytest.raises(UsageError, match="unknown rule"):
        g.predict(x, rule="median")
