from __future__ import annotations

import math

import pytest
import torch
from batches import Seen, batch_of, inputs_of, loss_of, losses_of, plain
from contrastive_parts import written_out
from thread_ranks import run_ranks
from torch import Generator, Tensor

from rushkit import objectives
from rushkit.distributed.share import share_of
from rushkit.errors import UsageError
from rushkit.objectives.gather import Gather, gather_over_ranks
from rushkit.objectives.nt_xent import Rush, SimCLR, nt_xent, nt_xent_views


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_value_and_gradient_equal_the_written_out_loss(temperature):
    fast = [draw(5, 3, seed=seed).requires_grad_() for seed in (0, 1)]
    slow = [z.detach().clone().requires_grad_() for z in fast]
    value, expected = nt_xent(*fast, temperature), written_out(slow, temperature)
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    for z, reference in zip(torch.autograd.grad(value, fast), torch.autograd.grad(expected, slow), strict=True):
        torch.testing.assert_close(z, reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize("positives", ["sum", "mean"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_any_number_of_views_equals_the_written_out_loss(count, positives):
    fast = [draw(4, 3, seed=seed, dtype=torch.float64).requires_grad_() for seed in range(count)]
    slow = [z.detach().clone().requires_grad_() for z in fast]
    value, expected = nt_xent_views(fast, 0.5, positives), written_out(slow, 0.5, positives)
    torch.testing.assert_close(value, expected, atol=1e-12, rtol=0)
    gradients = torch.autograd.grad(value, fast), torch.autograd.grad(expected, slow)
    for z, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(z, reference, atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_equal_projections_of_any_number_of_views_have_the_closed_form(count):
    z = torch.ones(5, 6, dtype=torch.float64)
    value, mean = (nt_xent_views([z] * count, 0.5, positives).item() for positives in ("sum", "mean"))
    assert value == pytest.approx((count - 1) * math.log(count * 5 - 1), abs=1e-12)
    assert mean == pytest.approx(math.log(count * 5 - 1), abs=1e-12)


@pytest.mark.parametrize("count, expected", [(2, 1.6213780), (3, 4.1812792), (4, 7.2262674)])
def test_orthogonal_images_of_any_number_of_views_have_the_closed_form(count, expected):
    z = torch.eye(16, dtype=torch.float64)
    by_hand = (count - 1) * (-2 + math.log((count - 1) * math.exp(2) + count * 15))
    assert by_hand == pytest.approx(expected, abs=5e-8)
    assert nt_xent_views([z] * count, 0.5).item() == pytest.approx(by_hand, abs=1e-12)


def test_a_single_view_has_nothing_to_be_compared_with():
    with pytest.raises(ValueError, match="at least 2 views"):
        nt_xent_views([draw(4, 3)], 0.5)


@pytest.mark.parametrize("positives", ["sum", "mean"])
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_have_the_value_and_gradient_of_the_joined_batch(world, count, positives):
    """With as many ranks as images each has a single one, whose negatives are the others'."""
    x = draw(count, 4, 6, seed=3, dtype=torch.float64)
    weight = draw(6, 5, seed=4, dtype=torch.float64)

    def graded(rows: slice, gather: Gather | None) -> tuple[Tensor, Tensor]:
        w = weight.clone().requires_grad_()
        loss = nt_xent_views([view[rows] @ w for view in x], 0.5, positives, gather)
        return loss.detach(), torch.autograd.grad(loss, w)[0]

    def rank() -> tuple[Tensor, Tensor]:
        return graded(share_of(4).rows, gather_over_ranks())

    expected = graded(slice(None), None)
    parts = run_ranks(rank, world)
    for got, whole in zip(zip(*parts, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.stack(got).mean(0), whole, atol=1e-12, rtol=0)


def test_gradient_is_that_of_finite_differences():
    z1, z2 = (draw(3, 4, seed=seed, dtype=torch.float64).requires_grad_() for seed in (2, 3))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (z1, z2))


def test_equal_projections_leave_nothing_to_tell_apart():
    z = torch.ones(4, 6)
    assert nt_xent(z, z, 0.5).item() == pytest.approx(math.log(2 * 4 - 1), abs=1e-6)


def test_orthogonal_images_with_equal_views_have_the_closed_form():
    z = torch.eye(4)
    expected = math.log(math.exp(2) + 2 * 4 - 2) - 2
    assert nt_xent(z, z, 0.5).item() == pytest.approx(expected, abs=1e-6)


def test_opposite_views_have_the_closed_form_so_negative_cosines_are_not_clamped():
    z = torch.eye(4)
    expected = math.log(math.exp(-2) + 2 * 4 - 2) + 2
    assert nt_xent(z, -z, 0.5).item() == pytest.approx(expected, abs=1e-6)


def test_one_image_has_no_negatives_and_no_loss():
    assert nt_xent(draw(1, 3), draw(1, 3, seed=1), 0.5).item() == 0


def test_views_may_be_exchanged():
    z1, z2 = draw(6, 4), draw(6, 4, seed=1)
    assert nt_xent(z1, z2, 0.5).item() == pytest.approx(nt_xent(z2, z1, 0.5).item(), abs=1e-6)


def test_order_of_the_images_does_not_matter():
    z1, z2, order = draw(6, 4), draw(6, 4, seed=1), torch.tensor([3, 1, 5, 0, 2, 4])
    assert nt_xent(z1[order], z2[order], 0.5).item() == pytest.approx(nt_xent(z1, z2, 0.5).item(), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_scale_of_the_projections_does_not_matter(scale):
    z1, z2 = draw(6, 4), draw(6, 4, seed=1)
    assert nt_xent(z1 * scale, z2, 0.5).item() == pytest.approx(nt_xent(z1, z2, 0.5).item(), abs=1e-5)


def test_a_row_with_one_entry_that_counts_has_the_gradient_of_a_direction():
    # Moving along itself changes no direction: the gradient is orthogonal to the row, and that of finite differences.
    row = torch.zeros(2, 5, dtype=torch.float64)
    row[0, 2], row[1, 1], row[1, 3] = 7.0, -3.0, 1e-12
    others = draw(2, 5, seed=2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, others, 0.5), row.requires_grad_())


def test_computed_in_float32_under_autocast():
    z1, z2 = draw(16, 8).bfloat16(), draw(16, 8, seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = nt_xent(z1, z2, 0.1)
    assert value.dtype is torch.float32
    assert value.item() == nt_xent(z1.float(), z2.float(), 0.1).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zero_projections_have_finite_loss_and_gradient(dtype):
    z1, z2 = draw(4, 3).to(dtype), torch.zeros(4, 3, dtype=dtype)
    z1[0] = 0
    value = nt_xent(z1.requires_grad_(), z2.requires_grad_(), 0.5)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, (z1, z2)))


class UniformNoise:
    """δ uniform on [-0.3, 0.3], the paper's default."""

    std = 0.3 / 3**0.5

    def sample(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        return (torch.rand(x.shape, generator=generator) * 2 - 1) * 0.3


def shifted(images: Tensor, generator: Generator) -> Tensor:
    """A random view: every image brighter by a draw of its own."""
    return images.float() / 512 + torch.rand(len(images), 1, 1, 1, generator=generator) / 2


def pixels() -> Tensor:
    """Images of the darkest and the brightest pixels only, where a clamp would show."""
    return torch.randint(0, 2, (8, 3, 16, 16), generator=Generator().manual_seed(0)).mul(255).to(torch.uint8)


def test_rush_puts_uniform_noise_on_the_second_view_alone_without_a_clamp():
    images = pixels()
    x = inputs_of(Rush(), images, noise=UniformNoise(), seed=0)
    assert x.dtype is torch.float32
    assert x.shape == (16, 3, 16, 16)
    first, second = x.chunk(2)
    assert torch.equal(first, plain(images, Generator()))
    delta = second - first
    # 6144 draws all short of 0.299 in size have probability (299/300)^6144 < 1e-8.
    assert 0.299 < delta.abs().max() <= 0.3 + 1e-6
    assert second.min() < -0.29
    assert second.max() > 1.29


def test_noise_on_both_and_on_none():
    images, clean = pixels(), plain(pixels(), Generator())
    both = inputs_of(Rush(noise_on="both"), images, noise=UniformNoise(), seed=0).chunk(2)
    none = inputs_of(Rush(noise_on="none"), images, noise=UniformNoise(), seed=0).chunk(2)
    assert not torch.equal(both[0], clean)
    assert not torch.equal(both[0], both[1])
    assert torch.equal(none[0], clean)
    assert torch.equal(none[1], clean)


def test_both_views_are_drawn_anew():
    first, second = inputs_of(SimCLR(), pixels(), views=shifted).chunk(2)
    assert not torch.equal(first, second)


def test_views_are_the_same_whoever_carries_noise():
    inputs = [
        inputs_of(Rush(noise_on=where), pixels(), views=shifted, noise=UniformNoise(), seed=0)
        for where in ("none", "second", "both")
    ]
    assert torch.equal(inputs[0][:8], inputs[1][:8])
    assert torch.equal(inputs[1][8:], inputs[2][8:])


def test_inputs_repeat_with_the_generator_and_leave_the_global_one_alone():
    before = torch.random.get_rng_state()
    first, again, other = (
        inputs_of(Rush(), pixels(), views=shifted, noise=UniformNoise(), seed=seed) for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_only_rush_notes_that_noise_was_drawn():
    for objective, noted in ((Rush(), True), (Rush(noise_on="none"), False), (SimCLR(), False)):
        batch = batch_of(pixels(), noise=UniformNoise())
        losses_of(objective, Seen(), batch)
        assert batch.draws.noise_drawn == noted


def test_a_noise_of_zeros_is_none():
    batch = batch_of(pixels())
    losses_of(Rush(), Seen(), batch)
    assert not batch.draws.noise_drawn


def test_loss_pairs_the_first_half_with_the_second():
    outputs = draw(10, 4)
    assert loss_of(Rush(temperature=0.2), outputs).item() == nt_xent(outputs[:5], outputs[5:], 0.2).item()


def test_projector_has_the_sizes_asked_for():
    projector = Rush().head(512, [10])
    assert [tuple(p.shape) for p in projector.parameters()] == [(2048, 512), (2048,), (128, 2048), (128,)]
    small = Rush(hidden=6, out=3, batch_norm=True).head(4, [10])
    assert small(draw(5, 4)).shape == (5, 3)
    assert dict(small.named_buffers())["norm.running_mean"].shape == (6,)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"hidden": 0}, {"out": -1}, {"noise_on": "first"}])
def test_option_out_of_range_is_a_usage_error(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        objectives.create("rush", **options)


def test_registry_makes_the_objectives():
    assert isinstance(objectives.create("rush", temperature=0.1, batch_norm=True), Rush)
    assert objectives.create("simclr").noise_on == "none"
    with pytest.raises(UsageError, match="noise_on"):
        objectives.create("simclr", noise_on="both")
