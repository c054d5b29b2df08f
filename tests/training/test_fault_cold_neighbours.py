"""Nearest neighbours at low temperatures vote as they do in exact arithmetic."""

from __future__ import annotations

import pytest
import torch

from rushkit.errors import UsageError
from rushkit.system import generator
from rushkit.training import knn


def exact(bank, labels, queries, k: int, temperature: float, classes: int) -> torch.Tensor:
    """The vote in float64, by the logarithm of each class's sum of weights."""
    similarity, neighbour = (queries @ bank.T).topk(k, dim=1)
    log_weight = similarity.double() / temperature
    theirs = labels[neighbour][:, :, None] == torch.arange(classes)
    return torch.logsumexp(log_weight[:, :, None].masked_fill(~theirs, -torch.inf), dim=1).argmax(dim=1)


@pytest.mark.parametrize("temperature", [0.01, 0.005, 1e-4])
def test_the_vote_is_the_exact_one(temperature):
    directions = torch.randn(900, 16, generator=generator(0, "features"))
    # All near one another, as features of one network are: every weight is exp of a large number.
    features = torch.nn.functional.normalize(directions + 12, dim=1)
    labels = torch.randint(0, 10, (400,), generator=generator(0, "labels"))
    asked = features[:400], labels, features[400:], 200, temperature, 10
    assert torch.equal(knn.predict(*asked), exact(*asked))


def test_a_temperature_that_float32_cannot_resolve_is_no_setting(tiny):
    with pytest.raises(UsageError, match=r"knn\.temperature"):
        tiny("pretrain.knn.temperature=1e-7")
