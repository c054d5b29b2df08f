"""``pgd-at`` finds the worst corner of a linear model, and is cross-entropy where there is no ball."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of, losses_of
from robust_losses import Logistic, graded, images_of, network_of, wide
from torch.nn import functional as F

from rushkit.errors import DataError, UsageError
from rushkit.objectives.pgd_at import PgdAt

EPS, LABELS = 0.03, torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("start", ["uniform", "gaussian", "clean"])
def test_the_loss_of_a_logistic_model_has_a_closed_form_and_so_has_its_gradient(start):
    model, images = Logistic(), images_of(4)
    loss = graded(PgdAt(eps=EPS, start=start), model, images, LABELS)
    x, w = wide(images, None).flatten(1), model.weight.detach().clone().requires_grad_()
    margin = (2 * LABELS - 1) * (x @ w)
    expected = F.softplus(-margin + EPS * w.abs().sum()).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.weight.grad, w.grad, rtol=0, atol=1e-12)


def test_in_l2_the_worst_case_lies_along_the_weights():
    model, images = Logistic(), images_of(4)
    loss = graded(PgdAt(norm="l2", eps=EPS, start="clean"), model, images, LABELS)
    margin = (2 * LABELS - 1) * (wide(images, None).flatten(1) @ model.weight.detach())
    expected = F.softplus(-margin + EPS * model.weight.detach().norm()).mean()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", ["uniform", "gaussian", "clean"])
def test_without_a_ball_it_is_cross_entropy(start):
    network, plain, images = network_of(), network_of(), images_of(4, 8)
    loss = graded(PgdAt(eps=0.0, start=start), network, images, LABELS)
    expected = F.cross_entropy(plain(wide(images, None)), LABELS)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


def test_the_attack_is_on_smoothed_labels_where_they_are_smoothed():
    model, images = Logistic(), images_of(4)
    batch = batch_of(images, LABELS, views=wide, classes=2)
    batch.label_smoothing = torch.full((4,), 0.5)
    (loss,) = losses_of(PgdAt(eps=EPS, start="clean"), model, batch)
    margin = (2 * LABELS - 1) * (wide(images, None).flatten(1) @ model.weight.detach())
    # 3/4 of the weight is on the label: beyond odds of 3 to 1 it pays the attack to raise them.
    moved = margin + EPS * model.weight.detach().abs().sum() * torch.where(torch.sigmoid(margin) > 0.75, 1, -1)
    expected = (0.75 * F.softplus(-moved) + 0.25 * F.softplus(moved)).mean()
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=1e-12)


def test_missing_labels_are_a_data_error():
    with pytest.raises(DataError, match="labels"):
        graded(PgdAt(), Logistic(), images_of(4), None)


@pytest.mark.parametrize("options, word", [
    ({"steps": 0}, "steps"),
    ({"eps": 8.0}, "eps"),
    ({"step_size": 2.0}, "step_size"),
    ({"eps": -0.1}, "eps"),
    ({"eps": float("nan")}, "eps"),
])  # fmt: skip
def test_an_attack_out_of_range_is_a_usage_error(options, word):
    with pytest.raises(UsageError, match=word):
        PgdAt(**options)
