"""The quick search of the discrete Gaussian on a CPU finds what a plain one does."""

from __future__ import annotations

import pytest
import torch

from rushkit.noises.discrete_gaussian import _BITS, _cells, _thresholds_on


@pytest.mark.parametrize("sigma", [1e-4, 0.01, 0.25, 1.0, 20.0])
def test_the_leading_bits_settle_no_cell_wrongly(sigma):
    thresholds = _thresholds_on(sigma, torch.device("cpu"))
    some = torch.randint(1 << _BITS, (40_000,), generator=torch.Generator().manual_seed(0))
    # The integers at the thresholds and beside them are where a mistake would be.
    near = torch.cat([thresholds - 1, thresholds, thresholds + 1]).clamp(0, (1 << _BITS) - 1)
    ends = torch.tensor([0, (1 << _BITS) - 1])
    drawn = torch.cat([some, near, ends])
    assert torch.equal(_cells(sigma, drawn), torch.searchsorted(thresholds, drawn, right=True))
    assert torch.equal(_cells(sigma, some.view(4, 100, 100)).flatten(), _cells(sigma, some))
