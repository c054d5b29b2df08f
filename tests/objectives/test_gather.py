from __future__ import annotations

from pathlib import Path

import pytest
import torch
from batches import loss_of
from torch import distributed, multiprocessing

from rushkit.objectives.gather import all_gather_with_gradient, gather_over_ranks
from rushkit.objectives.nt_xent import Rush, nt_xent

RANKS, IMAGES, TEMPERATURE = 2, 4, 0.5


def check_one_rank(rank: int, meeting_point: str) -> None:
    """Run one of the ranks and compare with the joined batch, which every rank computes alone as well."""
    distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=RANKS)
    generator = torch.Generator().manual_seed(0)
    x1, x2 = torch.randn(2, RANKS * IMAGES, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 5, generator=generator, dtype=torch.float64).requires_grad_()
    joined = [(x @ weight).detach().requires_grad_() for x in (x1, x2)]
    expected = nt_xent(*joined, TEMPERATURE)
    expected_z = torch.autograd.grad(expected, joined)
    (expected_weight,) = torch.autograd.grad(nt_xent(x1 @ weight, x2 @ weight, TEMPERATURE), weight)

    mine = slice(rank * IMAGES, (rank + 1) * IMAGES)
    z1, z2 = x1[mine] @ weight, x2[mine] @ weight
    loss = nt_xent(z1, z2, TEMPERATURE, all_gather_with_gradient)
    gradients = torch.autograd.grad(loss, (z1, z2, weight))
    for got, whole in zip(gradients[:2], expected_z, strict=True):
        torch.testing.assert_close(got / RANKS, whole[mine], atol=1e-6, rtol=0)
    for got, whole in ((loss.detach(), expected.detach()), (gradients[2], expected_weight)):
        total = got.clone()
        distributed.all_reduce(total)
        torch.testing.assert_close(total / RANKS, whole, atol=1e-6, rtol=0)

    assert loss_of(Rush(TEMPERATURE), torch.cat([z1, z2])).item() == pytest.approx(loss.item(), abs=1e-12)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_have_the_value_and_gradient_of_the_joined_batch(tmp_path: Path):
    multiprocessing.spawn(check_one_rank, args=(str(tmp_path / "meeting_point"),), nprocs=RANKS)


def test_one_process_gathers_nothing():
    assert gather_over_ranks() is None


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_mean_over_ranks_is_the_joined_loss(rank):
    """Without processes: the rows of all ranks, as each would give them, are put in by hand."""
    generator = torch.Generator().manual_seed(1)
    z1, z2 = torch.randn(2, 3, IMAGES, 5, generator=generator, dtype=torch.float64)
    everything = torch.nn.functional.normalize(torch.cat([z1, z2], dim=1).flatten(0, 1), dim=1)
    mine = nt_xent(z1[rank], z2[rank], TEMPERATURE, lambda rows: (everything / TEMPERATURE**0.5, rank * len(rows)))
    similarities = everything @ everything.T / TEMPERATURE
    losses = []
    for i in range(rank * 2 * IMAGES, (rank + 1) * 2 * IMAGES):
        positive = rank * 2 * IMAGES + (i + IMAGES) % (2 * IMAGES)
        others = [k for k in range(len(everything)) if k != i]
        losses.append(similarities[i, others].logsumexp(0) - similarities[i, positive])
    assert mine.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-9)
