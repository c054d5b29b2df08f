"""MACER against the certified radius in closed form, plain training, and a loop over images."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import Seen, batch_of, losses_of
from scipy.special import ndtri
from smoothed_parts import Normal, in_float64, linear, loss_at, pictures, value_and_gradient

from rushkit import noises
from rushkit.errors import DataError, UsageError
from rushkit.objectives.macer import Macer
from rushkit.setup.start import machine_of
from rushkit.training.finetune import finetuning_job

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


class Half(Normal):
    std = 0.5


def test_the_hinge_is_on_the_certified_radius():
    p = torch.tensor([[0.8, 0.2]], dtype=torch.float64)
    loss = loss_at(Macer(draws=1, lam=1.0, gamma=8.0, beta=1.0), p.log(), torch.tensor([0]), noise=Half())
    radius = 8.0 * 0.5 / 2 - (loss.item() + math.log(0.8))
    assert radius == pytest.approx(0.42081061678645715, abs=1e-12)
    assert radius == pytest.approx(noises.create("gaussian", std=0.5).certified_radius(0.8, "l2", 12), abs=1e-12)


def plain(network, draws):
    """Cross-entropy of the mean prediction over the same noisy images."""
    batch = batch_of(pictures(), LABELS, views=in_float64, noise=Normal(), classes=4)
    x = batch.view().repeat(draws, 1, 1, 1)
    p = network(x + batch.noise(x)).softmax(1).unflatten(0, (draws, -1)).mean(0)
    return -p[torch.arange(6), LABELS].log().mean()


def only_loss(objective, network, progress=0.25):
    batch = batch_of(pictures(), LABELS, views=in_float64, noise=Normal(), classes=4)
    (loss,) = losses_of(objective, network, replace(batch, progress=progress))
    return loss


@pytest.mark.parametrize(
    "objective", [Macer(draws=4, lam=0.0), Macer(draws=4, deferred=0.5)], ids=["no weight", "deferred"]
)
def test_without_the_hinge_it_is_cross_entropy_of_the_mean_prediction(objective):
    network = linear()
    torch.testing.assert_close(
        value_and_gradient(only_loss(objective, network), network),
        value_and_gradient(plain(network, 4), network),
        rtol=0,
        atol=1e-12,
    )


def test_a_deferred_hinge_sets_in():
    network, objective = linear(), Macer(draws=4, deferred=0.5)
    assert torch.equal(only_loss(objective, network, 0.5), only_loss(Macer(draws=4), network))
    assert only_loss(objective, network, 0.49) < only_loss(objective, network, 0.5)


def test_value_and_gradient_are_those_of_a_loop_over_images():
    network, draws, lam, gamma, beta = linear(), 5, 3.0, 2.0, 1.5
    objective = Macer(draws=draws, lam=lam, gamma=gamma, beta=beta)
    batch = batch_of(pictures(), LABELS, views=in_float64, noise=Normal(), classes=4)
    x = batch.view()
    delta = batch.noise(x.repeat(draws, 1, 1, 1))
    standard = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    total, kinds = plain(network, draws) * len(x), set()
    for i in range(len(x)):
        logits = torch.cat([network((x[i] + delta[k * len(x) + i])[None]) for k in range(draws)])
        p = (beta * logits).softmax(1).mean(0)
        first, second = p.topk(2).values
        xi = standard.icdf(first) - standard.icdf(second)
        kinds.add((p.argmax() == LABELS[i]).item() and (xi <= gamma).item())
        if p.argmax() == LABELS[i] and xi <= gamma:
            total = total + lam * 0.25 / 2 * (gamma - xi)
    assert kinds == {True, False}
    torch.testing.assert_close(
        value_and_gradient(only_loss(objective, network), network),
        value_and_gradient(total / len(x), network),
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("certain", [60.0, 1e4])
def test_certain_predictions_add_nothing_and_no_nan(certain):
    # Φ⁻¹(1) is infinite, and so is its slope.
    logits = torch.tensor([[certain, 0.0, 0.0], [0.0, certain, 0.0], [0.0, 0.0, certain]], requires_grad=True)
    loss = loss_at(Macer(draws=1), logits, torch.tensor([0, 0, 2]))
    loss.backward()
    assert loss.item() == pytest.approx(certain / 3, rel=1e-6)
    assert logits.grad.isfinite().all()


def test_a_margin_near_the_hinge_keeps_its_digits_in_float32():
    # 1 − p̄₁ is 3e-5 there, of which float32 holds three digits beside 1.
    tail = 3.2e-5
    logits = torch.tensor([[1 - tail, tail]], dtype=torch.float64).log().float()
    loss = loss_at(Macer(draws=1, lam=1.0, beta=1.0, gamma=8.0), logits, torch.tensor([0]), noise=Half())
    hinge = 0.25 * (8.0 + 2 * ndtri(tail))
    assert loss.item() == pytest.approx(hinge + tail, rel=1e-4)


def test_images_that_are_classified_wrongly_are_divided_by_but_not_widened():
    p = np.array([[0.6, 0.4], [0.3, 0.7]])
    logits = torch.tensor(p).log()
    objective = Macer(draws=1, lam=1.0, beta=1.0)
    wrong = loss_at(objective, logits, torch.tensor([0, 0]), noise=Half())
    hinge = 0.25 * (8.0 + 2 * ndtri(0.4))
    assert wrong.item() == pytest.approx((-math.log(0.6) - math.log(0.3) + hinge) / 2, abs=1e-12)


def test_half_precision_logits_are_sharpened_in_float32():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_at(Macer(draws=2), logits, torch.tensor([0, 1, 2]))
    assert loss.dtype is torch.float32
    assert loss.item() == loss_at(Macer(draws=2), logits.float(), torch.tensor([0, 1, 2])).item()


def test_all_draws_go_through_the_network_in_one_pass():
    network = Seen()
    losses_of(Macer(draws=3), network, batch_of(pictures(), LABELS % 3, noise=Normal(), classes=3))
    (x,) = network.inputs
    assert len({row.sum().item() for row in x}) == 18


@pytest.mark.parametrize("name", ["uniform", "laplace", "none", "split"])
def test_noise_that_is_not_gaussian_is_refused(name):
    options = {"none": {}, "split": {"scale": 0.5}}.get(name, {"std": 0.25})
    with pytest.raises(UsageError, match=f"Gaussian noise, and this noise is {name}"):
        Macer().check_noise(noises.create(name, **options))


def test_training_under_other_noise_does_not_start(tiny):
    recipe = tiny("finetune.objective=macer", "noise.name=laplace", "noise.std=0.25")
    with pytest.raises(UsageError, match="this noise is laplace"):
        finetuning_job(recipe, None, machine_of(recipe))


@pytest.mark.parametrize("name", ["gaussian", "discrete-gaussian"])
def test_gaussian_noise_goes(name):
    Macer().check_noise(noises.create(name, std=0.25))


@pytest.mark.parametrize(
    "wrong", [{"draws": 0}, {"lam": -1.0}, {"gamma": 0.0}, {"beta": math.inf}, {"deferred": 1.5}, {"gamma": math.nan}]
)
def test_an_option_out_of_range_is_a_usage_error(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        Macer(**wrong)


def test_missing_labels_are_a_data_error():
    with pytest.raises(DataError, match="labels"):
        losses_of(Macer(), Seen(), batch_of(pictures()))
