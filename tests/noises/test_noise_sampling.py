"""What is drawn: distribution, standard deviation, seeds, dtype. Statistical tests fail by chance once in a million."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rushkit.errors import UsageError
from rushkit.noises import create, noisy_images, settled
from rushkit.noises.discrete_gaussian import DiscreteGaussian
from rushkit.noises.gaussian import Gaussian
from rushkit.noises.laplace import Laplace
from rushkit.noises.split import Split
from rushkit.noises.uniform import Uniform
from rushkit.system import generator

SCALE = 0.3
ADDITIVE = [Uniform(scale=SCALE), Gaussian(scale=SCALE), Laplace(scale=SCALE)]
ALL = [*ADDITIVE, DiscreteGaussian(scale=SCALE), Split(scale=SCALE)]
TRUTH = {
    "uniform": stats.uniform(-SCALE, 2 * SCALE),
    "gaussian": stats.norm(0, SCALE),
    "laplace": stats.laplace(0, SCALE),
}
FALSE_ALARM = 1e-6


def by_name(noise):
    return noise.name


def images(count=64, seed=0, dtype=torch.float32):
    """Random 8-bit images of middling grey."""
    levels = torch.randint(80, 176, (count, 3, 16, 16), generator=generator(seed, "images"))
    return (levels / 255).to(dtype)


@pytest.mark.parametrize("noise", ADDITIVE, ids=by_name)
def test_draws_follow_the_named_distribution(noise):
    drawn = noise.sample(images(128), generator(1, "noise")).double().numpy().ravel()
    assert stats.kstest(drawn, TRUTH[noise.name].cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("noise", ADDITIVE, ids=by_name)
def test_coordinates_of_one_image_and_of_two_are_uncorrelated(noise):
    drawn = noise.sample(torch.zeros(2000, 1, 2, 2), generator(2, "noise")).flatten(1).double().numpy()
    pairs = [(drawn[:, 0], drawn[:, 1]), (drawn[:, 0], drawn[:, 3]), (drawn[::2, 0], drawn[1::2, 0])]
    for first, second in pairs:
        assert stats.spearmanr(first, second).pvalue > FALSE_ALARM


@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_std_is_that_of_the_draws(noise):
    # Split draws one shift an image and pixel offsets are fixed, so its images are averaged over, not its pixels.
    # A narrow noise, so that no cell is cut off at black or white.
    noise = type(noise)(scale=0.05)
    drawn = noise.sample(images(2000), generator(3, "noise")).double()
    per_image = (drawn**2).mean(dim=(1, 2, 3))
    error = float(per_image.std() / math.sqrt(len(per_image)))
    # 5 standard errors: false alarm 6e-7. The grids add at most (1/255)²/3 to the variance.
    assert abs(float(per_image.mean()) - noise.std**2) < 5 * error + (1 / 255) ** 2 / 3


@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_draws_depend_on_the_generator_only(noise):
    x = images(4)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = noise.sample(x, generator(5, "noise"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(noise.sample(x, generator(5, "noise")), first)
    assert not torch.equal(noise.sample(x, generator(6, "noise")), first)


@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_without_a_generator_draws_are_fresh_and_the_global_state_is_left_alone(noise):
    x = images(8)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = noise.sample(x), noise.sample(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_each_image_of_a_batch_has_its_own_draw(noise):
    same = images(1).expand(4, -1, -1, -1)
    drawn = noise.sample(same, generator(7, "noise"))
    assert len({tuple(row.flatten().tolist()) for row in drawn}) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_shape_and_dtype_are_those_of_x(noise, dtype):
    x = images(3, dtype=dtype)
    drawn = noise.sample(x, generator(8, "noise"))
    assert (drawn.shape, drawn.dtype, drawn.device) == (x.shape, dtype, x.device)
    assert not drawn.requires_grad


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_noisy_images_are_the_sum_and_leave_the_images_alone(noise, gradient):
    x = images(3)
    before = x.clone()
    delta = noise.sample(x, generator(10, "noise"))
    noisy = noisy_images(noise, x.requires_grad_(gradient), generator(10, "noise"))
    assert torch.equal(noisy, settled(noise, before + delta))
    assert torch.equal(x, before)


def test_a_draw_that_a_noise_keeps_is_not_overwritten():
    class Kept:
        def sample(self, x, generator=None):
            return delta

    x, delta = images(3), torch.full((1,), 0.5).expand(3, 3, 16, 16)
    assert torch.equal(noisy_images(Kept(), x), x + 0.5)
    assert delta.eq(0.5).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("noise", ADDITIVE, ids=by_name)
def test_half_precision_is_the_rounded_float32_draw(noise, dtype):
    x = images(3)
    wide = noise.sample(x, generator(9, "noise"))
    assert torch.equal(noise.sample(x.to(dtype), generator(9, "noise")), wide.to(dtype))


@pytest.mark.parametrize("noise", ALL[3:], ids=by_name)
def test_half_precision_cannot_hold_a_grid(noise):
    with pytest.raises(UsageError, match="float32"):
        noise.sample(images(1, dtype=torch.bfloat16), generator(9, "noise"))


@pytest.mark.cuda
@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_on_a_gpu_draws_come_from_either_kind_of_generator(noise):
    x = images(4).cuda()
    assert torch.equal(noise.sample(x, generator(1, "n")).cpu(), noise.sample(x.cpu(), generator(1, "n")))
    there = noise.sample(x, generator(1, "n", device="cuda"))
    assert there.device == x.device
    assert torch.equal(there, noise.sample(x, generator(1, "n", device="cuda")))
    assert noise.sample(x).device == x.device


@pytest.mark.parametrize("name", ["uniform", "gaussian", "laplace"])
def test_scale_and_std_say_the_same(name):
    by_scale = create(name, scale=0.4)
    by_std = create(name, std=by_scale.std)
    assert by_std.scale == pytest.approx(0.4, rel=1e-15)
    assert by_std.std == by_scale.std
    assert by_scale.std == pytest.approx(float(TRUTH[name].std()) / SCALE * 0.4, rel=1e-12)


@pytest.mark.parametrize("kind", [Uniform, Gaussian, Laplace, DiscreteGaussian, Split])
@pytest.mark.parametrize(
    "options", [{}, {"scale": 0.3, "std": 0.2}, {"scale": 0.0}, {"scale": -1.0}, {"std": math.inf}, {"std": math.nan}]
)
def test_anything_but_one_positive_finite_scale_is_refused(kind, options):
    with pytest.raises(UsageError, match=kind.name):
        kind(**options)


@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_a_noise_cannot_be_changed_and_compares_by_value(noise):
    with pytest.raises(AttributeError):
        noise.scale = 1.0
    assert noise == type(noise)(scale=SCALE)
    assert hash(noise) == hash(type(noise)(scale=SCALE))
    assert noise != type(noise)(scale=2 * SCALE)


@pytest.mark.parametrize("noise", ALL, ids=by_name)
def test_whole_number_images_are_refused(noise):
    with pytest.raises(UsageError, match="floating-point"):
        noise.sample(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


def test_laplace_draws_are_finite_at_the_ends_of_the_uniform_ones(monkeypatch):
    ends = torch.tensor([-1.0, 0.0, math.nextafter(1.0, 0.0)])
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda out, low, high, generator: out.copy_(ends))
    drawn = Laplace(scale=0.5).sample(torch.zeros(3), generator(0, "noise"))
    assert torch.isfinite(drawn).all()
    assert (drawn[0] < -8, drawn[1] == 0, drawn[2] > 7) == (True, True, True)


def test_uniform_noise_stays_within_its_width():
    drawn = Uniform(scale=0.3).sample(images(64), generator(1, "noise"))
    assert float(drawn.abs().max()) <= np.float32(0.3)
