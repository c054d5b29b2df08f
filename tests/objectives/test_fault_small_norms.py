"""NT-Xent depends on directions alone, down to the smallest lengths that float32 has."""

from __future__ import annotations

import math

import pytest
import torch

from rushkit.objectives.nt_xent import nt_xent

# Directions at 0 and 90 degrees, and their second views at 60 and 30.
FIRST = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
SECOND = torch.tensor([[0.5, math.sqrt(0.75)], [math.sqrt(0.75), 0.5]])


def closed_form(temperature: float) -> float:
    """The positive at 60°, two negatives: at 90° and 30° for the first views, at 30° twice for the second."""
    inside, across = math.exp(0.5 / temperature), math.exp(math.sqrt(0.75) / temperature)
    of_first = -math.log(inside / (inside + 1 + across))
    of_second = -math.log(inside / (inside + across + math.exp(math.sqrt(0.75) / temperature)))
    return (of_first + of_second) / 2


@pytest.mark.parametrize("norm", [1e-5, 1e-12, 1e-20, 1e-30, 1e-36, 1e25])
def test_the_loss_is_the_closed_form_at_any_scale(norm):
    loss = nt_xent(norm * FIRST, norm * SECOND, 0.5)
    assert float(loss) == pytest.approx(closed_form(0.5), rel=1e-5)


@pytest.mark.parametrize("norm", [1e-5, 1e-12, 1e-20])
def test_the_gradient_grows_as_the_length_falls(norm):
    def gradient(scale):
        z = (scale * FIRST).requires_grad_()
        (slope,) = torch.autograd.grad(nt_xent(z, scale * SECOND, 0.5), z)
        return slope

    torch.testing.assert_close(norm * gradient(norm), gradient(1.0), rtol=1e-4, atol=1e-6)


def test_a_row_of_zeros_has_no_direction_and_a_gentle_gradient():
    z = torch.zeros(2, 2).requires_grad_()
    loss = nt_xent(z, SECOND, 0.5)
    loss.backward()
    assert math.isfinite(loss.detach())
    assert float(z.grad.abs().max()) < 10
