from __future__ import annotations

import pytest
import torch

from rushkit.models.draws import global_draws

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def drawn(*counters: int, device: str = "cpu") -> torch.Tensor:
    with global_draws(3, "test", *counters, device=device):
        return torch.rand(5, device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_counters_draw_the_same_and_others_draw_others(device):
    assert torch.equal(drawn(1, 2, device=device), drawn(1, 2, device=device))
    assert not torch.equal(drawn(1, 2, device=device), drawn(1, 3, device=device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fails", [False, True])
def test_the_global_state_is_put_back(device, fails):
    # An odd number of normal draws: one waits in the generator, and belongs to its state.
    torch.randn(1, device=device)
    state = torch.get_rng_state() if device == "cpu" else torch.cuda.get_rng_state()
    expected = torch.randn(3, device=device)
    (torch.set_rng_state if device == "cpu" else torch.cuda.set_rng_state)(state)
    try:
        with global_draws(3, "test", device=device):
            torch.rand(7, device=device)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.equal(torch.randn(3, device=device), expected)
