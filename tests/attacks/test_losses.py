"""The attack losses against written-out formulas."""

import math

import pytest
import torch

from rushkit.attacks import losses
from rushkit.errors import UsageError

G = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(5, 4, 6, generator=G, dtype=torch.float64)
LABELS = torch.tensor([0, 3, 5, 2])
TARGETS = torch.tensor([1, 0, 2, 4])


def ratio(z, y, t=None):
    """The difference of logits ratio of one vector of logits."""
    top = sorted(z, reverse=True)
    if t is None:
        other = max(v for k, v in enumerate(z) if k != y)
        return -(z[y] - other) / (top[0] - top[2])
    return -(z[y] - z[t]) / (top[0] - (top[2] + top[3]) / 2)


def written_out(name, i, t):
    draws = LOGITS[:, i].tolist()
    y = int(LABELS[i])
    softmax = [[math.exp(v) / sum(map(math.exp, z)) for v in z] for z in draws]
    log_mean = [math.log(sum(p[k] for p in softmax) / 5) for k in range(6)]
    if name == "nll":
        return -log_mean[y] if t is None else log_mean[t]
    if name == "ce":
        terms = [-math.log(p[y]) if t is None else math.log(p[t]) for p in softmax]
        return sum(terms) / 5
    if name == "dlr":
        return sum(ratio(z, y, t) for z in draws) / 5
    if name == "dlr-mean":
        return ratio(log_mean, y, t)
    rival = max(v for k, v in enumerate(log_mean) if k != y) if t is None else log_mean[t]
    return rival - log_mean[y]


@pytest.mark.parametrize("name", ["nll", "ce", "dlr", "dlr-mean", "margin"])
@pytest.mark.parametrize("targets", [None, TARGETS], ids=["untargeted", "targeted"])
def test_each_loss_equals_its_formula(name, targets):
    values = losses.get(name)(LOGITS, LABELS, targets)
    for i in range(4):
        expected = written_out(name, i, None if targets is None else int(targets[i]))
        assert float(values[i]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["dlr", "dlr-mean"])
@pytest.mark.parametrize("targeted", [False, True])
def test_dlr_names_the_classes_it_needs(name, targeted):
    needed = 4 if targeted else 3
    assert losses.classes_needed(name, targeted) == needed
    logits = torch.randn(2, 3, needed - 1)
    y, t = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    with pytest.raises(UsageError, match=f"needs {needed} classes"):
        losses.get(name)(logits, y, t if targeted else None)


def test_dlr_of_the_draws_keeps_its_gradient_where_log_p_saturates():
    """SCIENCE.md section 3: on logits x 1e4, -log p̄ has zero gradients, the mean DLR none."""
    logits = (1e4 * LOGITS.float()).requires_grad_()
    sure = logits.detach().argmax(2)[0]
    (nll,) = torch.autograd.grad(losses.nll(logits[:1], sure).sum(), logits)
    (dlr,) = torch.autograd.grad(losses.dlr(logits[:1], sure).sum(), logits)
    assert not nll.any()
    assert dlr[0].abs().amax(1).all()


def test_an_unknown_loss_is_named():
    with pytest.raises(UsageError, match="unknown loss 'cw'"):
        losses.get("cw")
