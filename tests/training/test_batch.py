"""A batch's draws, rows and means: on every rank they are those of a single process."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from batches import batch_of, plain
from thread_ranks import run_ranks

from rushkit.distributed import ranks
from rushkit.noises.gaussian import Gaussian
from rushkit.noises.uniform import Uniform

COUNTS = [7, 2]
SMOOTHING = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def batch(count, **options):
    """Images of one colour each, whose number is their label, and their smoothing's place."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    made = batch_of(images, torch.arange(count), **options)
    return replace(made, label_smoothing=SMOOTHING[:count][made.share.rows])


def joined(work, world, count):
    """What all ranks get, and what a single process gets; per-image results are joined in the order of ranks."""
    parts = run_ranks(lambda: work(batch(count)), world)
    return parts, work(batch(count))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_draws_are_the_rows_of_what_a_single_process_draws(draw, copies, world, count):
    def work(batch):
        like = torch.zeros(copies * len(batch.images), 2, 5, dtype=torch.float64)
        # The second draw shows that every rank has used up the same.
        getattr(batch, draw)(like)
        return getattr(batch, draw)(like)

    parts, whole = joined(work, world, count)
    assert whole.dtype == torch.float64
    for copy in range(copies):
        rows = [part.view(copies, -1, 2, 5)[copy] for part in parts if len(part)]
        assert torch.equal(torch.cat(rows), whole.view(copies, count, 2, 5)[copy])


def test_uniform_draws_fill_the_interval_and_normal_ones_have_their_moments():
    like = torch.zeros(7, 3000)
    uniform, normal = batch(7).uniform(like), batch(7).normal(like)
    assert -1 <= uniform.min() < -0.99
    assert 0.99 < uniform.max() <= 1
    # Six standard errors of 21000 draws; the variance of U(-1, 1) is 1/3, that of its square 4/45.
    error = 6 / 21000**0.5
    assert uniform.mean().abs() < error / 3**0.5
    assert (uniform.square().mean() - 1 / 3).abs() < error * (4 / 45) ** 0.5
    assert normal.mean().abs() < error
    assert (normal.square().mean() - 1).abs() < error * 2**0.5


@pytest.mark.parametrize("world", [2, 3])
def test_numbers_are_the_same_on_every_rank(world):
    parts, whole = joined(lambda batch: batch.numbers(4), world, 7)
    assert whole.shape == (4,)
    assert whole.dtype == torch.float32
    assert ((whole >= 0) & (whole < 1)).all()
    assert all(torch.equal(part, whole) for part in parts)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("world", [2, 3])
def test_a_shuffled_batch_is_the_same_images_in_an_order_of_all_ranks(world, count):
    def work(batch):
        other = batch.shuffled()
        assert other.share == batch.share
        return torch.stack([other.images[:, 0, 0, 0], other.labels, other.label_smoothing * 10], dim=1), other.numbers(
            1
        )

    parts, (whole, number) = joined(work, world, count)
    assert torch.equal(torch.cat([rows for rows, _ in parts]), whole)
    assert all(torch.equal(other, number) for _, other in parts)
    assert whole[:, 0].sort().values.tolist() == list(range(count))
    # Labels and their smoothing go with their images.
    torch.testing.assert_close(whole, whole[:, :1].expand(-1, 3))


def test_orders_differ_from_draw_to_draw_and_images_without_labels_are_shuffled_too():
    images = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1)
    unlabelled = batch_of(images)
    first, second = (unlabelled.shuffled() for _ in range(2))
    assert first.labels is None
    assert not torch.equal(first.images, images)
    assert not torch.equal(first.images, second.images)
    assert torch.equal(unlabelled.images, images)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("world", [2, 3])
def test_whole_joins_the_rows_of_ranks_and_rows_takes_them_apart(world, count):
    table = torch.randn(9, 2, dtype=torch.float64)

    def work(batch):
        mine = batch.rows(table)
        assert mine.shape == (len(batch.images), 2)
        whole = batch.whole(mine.requires_grad_() * 1)
        assert not whole.requires_grad
        return whole

    # A table may have more rows than the batch: it is made for a full one.
    parts, whole = joined(work, world, count)
    assert torch.equal(whole, table[:count])
    assert all(torch.equal(part, table[:count]) for part in parts)


def test_targets_are_one_hot_or_smoothed_image_by_image():
    smooth = batch(7, classes=10)
    targets = smooth.targets()
    exact = replace(smooth, label_smoothing=None).targets()
    assert exact.dtype == targets.dtype == torch.float32
    assert torch.equal(exact, torch.eye(10)[:7])
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(7))
    for image, share in enumerate(SMOOTHING.tolist()):
        assert targets[image, image].item() == pytest.approx(1 - share + share / 10, abs=1e-6)
        assert targets[image, image - 1].item() == pytest.approx(share / 10, abs=1e-6)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("world", [2, 3])
def test_the_mean_of_the_parts_is_the_mean_over_the_batch(world, count, copies):
    def work(batch):
        weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
        values = (weight * batch.labels.double().square()).repeat(copies)
        loss = batch.mean(values)
        loss.backward()
        batch.note(part=loss)
        assert not batch.noted["part"].requires_grad
        return torch.stack([loss.detach(), weight.grad[0], batch.noted["part"]])

    parts, whole = joined(work, world, count)
    truth = sum(label**2 for label in range(count)) / count
    torch.testing.assert_close(whole, torch.full_like(whole, truth))
    torch.testing.assert_close(torch.stack(parts).mean(0), whole)


def test_a_rank_without_rows_has_a_part_of_zero_that_has_a_gradient():
    def work():
        mine = batch(2)
        values = torch.zeros(len(mine.images), requires_grad=True)
        part = mine.mean(values * 1)
        part.backward()
        return ranks.rank(), len(values), part.item(), values.grad.shape

    assert run_ranks(work, 3)[2] == (2, 0, 0.0, (0,))


@pytest.mark.parametrize("world", [2, 3])
def test_noise_is_that_of_a_single_process_and_is_remembered(world):
    def work(batch):
        assert not batch.draws.noise_drawn
        drawn = batch.noise(torch.zeros(2 * len(batch.images), 3, 2, 2))
        assert batch.draws.noise_drawn
        return drawn

    def noisy():
        return work(batch(7, noise=Gaussian(std=0.5)))

    parts, whole = run_ranks(noisy, world), noisy()
    for copy in range(2):
        rows = torch.cat([part.unflatten(0, (2, -1))[copy] for part in parts])
        assert torch.equal(rows, whole.unflatten(0, (2, -1))[copy])


def test_noise_of_zeros_is_not_remembered_as_noise():
    silent = batch(7)
    assert not silent.noise(torch.ones(7, 3, 2, 2)).any()
    assert not silent.draws.noise_drawn
    # A shuffled batch shares the record, as it shares the generator.
    loud = batch(7, noise=Uniform(scale=0.1))
    loud.shuffled().noise(torch.ones(7, 3, 2, 2))
    assert loud.draws.noise_drawn
    assert loud.distribution == Uniform(scale=0.1)


def test_a_view_is_the_stages_own_or_one_that_is_asked_for():
    mine = batch(7, views=lambda images, source: plain(images, source) + torch.rand(1, generator=source))
    first, second = mine.view(), mine.view()
    assert not torch.equal(first, second)
    assert torch.equal(mine.view(plain), plain(mine.images, None))
