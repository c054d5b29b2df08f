"""Ranks as threads behave as processes of a gloo group do, and say where processes would hang."""

from __future__ import annotations

import pytest
import torch
from test_ranks import check_batch_norm, check_fused_batch_norm
from thread_ranks import run_ranks
from torch import distributed, nn

from rushkit.distributed import ranks
from rushkit.models.draws import global_draws
from rushkit.objectives.gather import all_gather_with_gradient


def collectives():
    rank = ranks.rank()
    summed = ranks.total(torch.tensor([1.0, rank]))
    joined = ranks.joined_rows(torch.full((rank + 1, 2), float(rank)), 3)
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, rank])
    ranks.average_gradients([parameter])
    return (
        ranks.world(),
        ranks.gather({"rank": rank}),
        ranks.broadcast(rank),
        ranks.largest(rank),
        ranks.any_rank(rank == 1),
        summed.tolist(),
        joined[:, 0].tolist(),
        parameter.grad.tolist(),
    )


def test_every_rank_gets_what_all_of_them_give():
    everyone = (3, [{"rank": rank} for rank in range(3)], 0, 2, True, [3, 3], [0, 1, 1, 2, 2, 2], [1, 1])
    assert run_ranks(collectives, 3) == [everyone] * 3
    assert not distributed.is_initialized()
    assert ranks.world() == 1


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("check", [check_batch_norm, check_fused_batch_norm])
def test_batch_norm_covers_the_rows_of_all_ranks(check, world):
    run_ranks(check, world)


def test_gradients_flow_back_to_the_rank_of_each_row():
    def gradient():
        x = torch.full((2, 3), 1.0 + ranks.rank()).requires_grad_()
        everything, first = all_gather_with_gradient(x)
        (everything * everything).sum().backward()
        return first, x.grad[0, 0].item()

    assert run_ranks(gradient, 2) == [(0, 4.0), (2, 8.0)]


def test_weights_are_those_of_rank_0():
    def weight():
        layer = nn.Linear(1, 1)
        nn.init.constant_(layer.weight, ranks.rank() + 5)
        ranks.synchronise(layer)
        return layer.weight.item()

    assert run_ranks(weight, 2) == [5, 5]


def test_each_rank_has_global_generators_of_its_own():
    def drawn():
        with global_draws(0, "rank", ranks.rank()):
            first = torch.rand(1)
            ranks.wait()
            return torch.cat([first, torch.rand(1)])

    before = torch.get_rng_state()
    for rank, draws in enumerate(run_ranks(drawn, 2)):
        with global_draws(0, "rank", rank):
            assert torch.equal(draws, torch.rand(2))
    assert torch.equal(torch.get_rng_state(), before)


def unlike():
    ranks.total(torch.zeros(1 + ranks.rank()))


def one_less():
    if ranks.rank():
        ranks.wait()


def one_more():
    if not ranks.rank():
        ranks.wait()


@pytest.mark.parametrize("work", [unlike, one_less, one_more])
def test_ranks_that_do_not_do_the_same_fail(work):
    with pytest.raises(AssertionError, match="the ranks differ in collective 1"):
        run_ranks(work, 2)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_rank_ends_all(failing):
    def work():
        ranks.wait()
        if ranks.rank() == failing:
            raise ValueError("no more")
        ranks.wait()
        ranks.wait()

    with pytest.raises(ValueError, match="no more"):
        run_ranks(work, 2)
    assert not distributed.is_initialized()
