"""Every operation of a view against torchvision's functional one with the same parameters, image by image."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as peer

from rushkit.errors import UsageError
from rushkit.image_size import sides
from rushkit.system import generator
from rushkit.views import ViewParameters, Views, ViewSettings, apply_views, sample_parameters
from rushkit.views.apply import Interpolation, _render
from rushkit.views.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION

ORDERS = torch.tensor(list(itertools.permutations(range(4))))


def random_images(n: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, channels, height, width), generator=generator(1, "images"), dtype=torch.uint8)


def plain(n: int, height: int, width: int, /, **changes: Tensor | None) -> ViewParameters:
    """The identity: the whole image, no flip, no change of colour; `changes` replace fields."""
    zero, one = torch.zeros(n, dtype=torch.int64), torch.ones(n)
    fields: dict[str, Tensor | None] = {
        "top": zero,
        "left": zero,
        "height": zero + height,
        "width": zero + width,
        "flip": zero.bool(),
        "brightness": one,
        "contrast": one,
        "saturation": one,
        "hue": one * 0,
        "order": torch.arange(4).repeat(n, 1),
        "jitter": None,
        "gray": None,
    }
    return ViewParameters(**(fields | changes))  # type: ignore[arg-type]


def reference(
    image: Tensor, p: ViewParameters, size: int | tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Tensor:
    """One view (C, *size) of one uint8 image from torchvision's functional operations; p has one row."""
    box = [int(t) for t in (p.top, p.left, p.height, p.width)]
    mode = InterpolationMode(interpolation)
    view = peer.resized_crop(image.float() / 255, *box, size=[*sides(size)], interpolation=mode, antialias=True)
    view = view.clamp(0, 1)
    if p.flip:
        view = peer.hflip(view)
    if p.jitter is not None and p.jitter:
        for op in p.order[0].tolist():
            if op == BRIGHTNESS:
                view = peer.adjust_brightness(view, float(p.brightness))
            elif op == CONTRAST:
                view = peer.adjust_contrast(view, float(p.contrast))
            elif op == SATURATION:
                view = peer.adjust_saturation(view, float(p.saturation))
            elif op == HUE:
                view = peer.adjust_hue(view, float(p.hue))
    if p.gray is not None and p.gray:
        view = peer.rgb_to_grayscale(view, num_output_channels=3)
    return view


def assert_equals_torchvision(
    images: Tensor,
    p: ViewParameters,
    size: int | tuple[int, int],
    atol: float = 1e-5,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    views = apply_views(images, p, size, interpolation)
    expected = torch.stack([reference(images[i], p[i : i + 1], size, interpolation) for i in range(len(images))])
    torch.testing.assert_close(views, expected, rtol=0, atol=atol)
    return views


def test_no_change_gives_the_image_itself() -> None:
    images = random_images(5)
    torch.testing.assert_close(apply_views(images, plain(5, 32, 32), 32), images / 255, rtol=0, atol=1e-7)


def test_halving_a_checkerboard_of_period_one_gives_its_mean_inside() -> None:
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255
    view = apply_views(board.to(torch.uint8).expand(1, 3, 16, 16), plain(1, 16, 16), 8)
    torch.testing.assert_close(view[..., 1:-1, 1:-1], torch.full((1, 3, 6, 6), 0.5), rtol=0, atol=1e-6)


def test_flip_reverses_the_columns_of_a_crop() -> None:
    images, box = random_images(1), {"left": torch.tensor([3]), "width": torch.tensor([20])}
    straight = apply_views(images, plain(1, 32, 32, **box), 16)
    flipped = apply_views(images, plain(1, 32, 32, **box, flip=torch.tensor([True])), 16)
    torch.testing.assert_close(flipped, straight.flip(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (32, 32, 32),
        (96, 96, 32),
        (32, 32, 40),
        (20, 37, 24),
        (50, 9, 8),
        (8, 8, 1),
        (1, 1, 4),
        (250, 180, 64),
        (48, 32, (24, 16)),
        (20, 37, (5, 60)),
    ],
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_and_resize_equal_torchvision_antialiased(
    height: int, width: int, size: int | tuple[int, int], interpolation: Interpolation
) -> None:
    settings = ViewSettings(jitter_p=0, grayscale=0)
    p = sample_parameters(20, height, width, settings, generator(2, "crops"))
    assert_equals_torchvision(random_images(20, 3, height, width), p, size, interpolation=interpolation)


def test_views_are_resized_as_their_settings_say() -> None:
    images, bicubic = random_images(8), ViewSettings(interpolation="bicubic")
    p = sample_parameters(8, 32, 32, bicubic, generator(3, "bicubic"))
    views = Views(24, bicubic)(images, generator(3, "bicubic"))
    assert torch.equal(views, apply_views(images, p, 24, "bicubic"))
    assert not torch.allclose(views, apply_views(images, p, 24))
    assert views.amin() >= 0
    assert views.amax() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_crop_and_flip_take_any_number_of_channels(channels: int) -> None:
    p = sample_parameters(6, 16, 16, ViewSettings(jitter_p=0, grayscale=0), generator(3, "crops"))
    images = random_images(6, channels, 16, 16)
    views = apply_views(images, p, 12)
    assert views.shape == (6, channels, 12, 12)
    for c in range(channels):
        torch.testing.assert_close(views[:, c], apply_views(images[:, c : c + 1], p, 12)[:, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_blend_equals_torchvision(name: str) -> None:
    factors = torch.tensor([0.0, 0.2, 0.6, 1.0, 1.4, 3.0])
    p = plain(6, 32, 32, jitter=torch.ones(6, dtype=torch.bool), **{name: factors})
    assert_equals_torchvision(random_images(6), p, 32)


def test_contrast_blends_with_the_mean_of_the_images_own_grayscale() -> None:
    red, black = torch.tensor([255, 0, 0]), torch.zeros(3)
    images = torch.stack([red, black]).to(torch.uint8)[:, :, None, None].expand(2, 3, 4, 4)
    p = plain(2, 4, 4, jitter=torch.tensor([True, True]), contrast=torch.tensor([0.0, 0.0]))
    expected = torch.tensor([0.2989, 0.0])[:, None, None, None].expand(2, 3, 4, 4)
    torch.testing.assert_close(apply_views(images, p, 4), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.05, 1 / 3, 0.5])
def test_hue_equals_torchvision_on_every_corner_of_the_colour_cube_and_between(turns: float) -> None:
    levels = torch.tensor([0, 1, 85, 128, 254, 255])
    cube = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 12, 18).to(torch.uint8)
    p = plain(1, 12, 18, jitter=torch.tensor([True]), hue=torch.tensor([turns]))
    # 18 columns seen through a square view: the two square halves of the cube.
    for left in (0, 6):
        window = dataclasses.replace(p, left=torch.tensor([left]), width=torch.tensor([12]))
        assert_equals_torchvision(cube, window, 12)


def test_hue_third_of_a_turn_takes_red_to_green_to_blue_and_wraps_around() -> None:
    red, green, blue = torch.eye(3).mul(255).to(torch.uint8)[:, None, :, None, None]
    p = plain(1, 1, 1, jitter=torch.tensor([True]), hue=torch.tensor([1 / 3]))
    for source, target in ((red, green), (green, blue), (blue, red)):
        torch.testing.assert_close(apply_views(source, p, 1), target / 255, rtol=0, atol=1e-6)


def test_hue_leaves_greys_exactly_alone() -> None:
    greys = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    p = plain(1, 16, 16, jitter=torch.tensor([True]))
    turned = apply_views(greys, dataclasses.replace(p, hue=torch.tensor([0.3])), 16)
    assert torch.equal(turned, apply_views(greys, p, 16))


def test_grayscale_puts_the_luma_in_all_channels() -> None:
    images = random_images(2)
    views = apply_views(images, plain(2, 32, 32, gray=torch.tensor([True, False])), 32)
    weights = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close(views[0], (images[0] / 255 * weights).sum(0).expand(3, 32, 32), rtol=0, atol=1e-6)
    torch.testing.assert_close(views[1], images[1] / 255, rtol=0, atol=1e-6)


def test_every_order_of_the_four_operations_equals_torchvision() -> None:
    n = len(ORDERS)
    p = sample_parameters(n, 32, 32, ViewSettings(), generator(4, "orders"))
    p = dataclasses.replace(p, order=ORDERS, jitter=torch.ones(n, dtype=torch.bool))
    assert_equals_torchvision(random_images(n), p, 32)


def test_order_matters_so_the_test_of_orders_can_fail() -> None:
    p = sample_parameters(24, 32, 32, ViewSettings(jitter_p=1, grayscale=0), generator(4, "orders"))
    images = random_images(24)
    forwards = apply_views(images, dataclasses.replace(p, order=torch.arange(4).repeat(24, 1)), 32)
    backwards = apply_views(images, dataclasses.replace(p, order=torch.arange(3, -1, -1).repeat(24, 1)), 32)
    assert ((forwards - backwards).abs().amax((1, 2, 3)) > 0.01).sum() > 12


@pytest.mark.parametrize(("n", "height", "width", "size"), [(1, 32, 32, 32), (53, 32, 32, 32), (29, 40, 28, 24)])
def test_whole_pipeline_equals_torchvision_image_by_image(n: int, height: int, width: int, size: int) -> None:
    p = sample_parameters(n, height, width, ViewSettings(), generator(5, "views"))
    views = assert_equals_torchvision(random_images(n, 3, height, width), p, size)
    assert views.dtype == torch.float32
    assert views.amin() >= 0
    assert views.amax() <= 1


def test_wide_settings_stay_in_range_and_equal_torchvision() -> None:
    settings = ViewSettings(scale=[0.01, 1.0], ratio=[0.1, 10.0], brightness=3, contrast=3, saturation=3, hue=0.5)
    p = sample_parameters(40, 32, 32, settings, generator(6, "views"))
    # Saturations up to 4 multiply the rounding of each step.
    assert_equals_torchvision(random_images(40), p, 16, atol=1e-4)


def test_a_view_does_not_depend_on_its_batch() -> None:
    images = random_images(150)  # more than the CPU does at a time
    p = sample_parameters(150, 32, 32, ViewSettings(), generator(7, "views"))
    together = apply_views(images, p, 32)
    for i in (0, 127, 128, 149):
        torch.testing.assert_close(apply_views(images[i : i + 1], p[i : i + 1], 32)[0], together[i], rtol=0, atol=1e-6)


def test_images_are_not_written_to() -> None:
    images = random_images(4)
    before = images.clone()
    Views(32)(images, generator(8, "views"))
    assert torch.equal(images, before)


def test_batch_of_none_gives_none() -> None:
    assert Views(8)(random_images(0), generator(9, "views")).shape == (0, 3, 8, 8)


def test_same_generator_state_gives_the_same_views_and_no_other_does() -> None:
    images, views = random_images(8), Views(32)
    first = views(images, generator(10, "views"))
    assert torch.equal(first, views(images, generator(10, "views")))
    assert not torch.equal(first, views(images, generator(11, "views")))


def test_global_random_state_is_untouched() -> None:
    before = torch.random.get_rng_state()
    Views(32)(random_images(8), generator(12, "views"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_autocast_does_not_coarsen_the_views() -> None:
    images, views = random_images(8), Views(32)
    expected = views(images, generator(13, "views"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(views(images, generator(13, "views")), expected)


def test_nothing_is_read_back_from_the_device() -> None:
    # A meta tensor has no values: any read, or a shape that depends on one, raises.
    p = sample_parameters(50, 32, 32, ViewSettings(), generator(14, "views")).to("meta")
    assert _render(random_images(50).to("meta"), p, 24).shape == (50, 3, 24, 24)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_images_that_a_cpu_sorts_and_renders_in_parts_are_those_rendered_together(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All orders, with and without jitter and grayscale.
    n = 4 * len(ORDERS)
    p = sample_parameters(n, 32, 32, ViewSettings(), generator(18, "views"))
    p = dataclasses.replace(p, order=ORDERS.repeat(4, 1), jitter=torch.arange(n) % 3 > 0)
    monkeypatch.setattr("rushkit.views.apply._CPU_PIXELS", chunk * (32 * 32 + 24 * 24))
    images = random_images(n)
    torch.testing.assert_close(apply_views(images, p, 24), _render(images, p, 24), rtol=0, atol=1e-6)


def test_an_image_without_jitter_keeps_its_colours_bit_for_bit() -> None:
    images = random_images(12)
    p = sample_parameters(12, 32, 32, ViewSettings(), generator(19, "views"))
    p = dataclasses.replace(p, jitter=torch.arange(12) % 2 == 0, gray=None)
    expected = apply_views(images, dataclasses.replace(p, jitter=None), 32)
    assert torch.equal(apply_views(images, p, 32)[1::2], expected[1::2])


@pytest.mark.cuda
@pytest.mark.parametrize("source", ["cpu", "cuda"])
def test_views_on_cuda_equal_those_on_the_cpu(source: str) -> None:
    images = random_images(50)
    p = sample_parameters(50, 32, 32, ViewSettings(), generator(14, "views", device=source), "cuda")
    views = apply_views(images.cuda(), p, 24)
    assert views.device.type == "cuda"
    torch.testing.assert_close(views.cpu(), apply_views(images, p.to("cpu"), 24), rtol=0, atol=1e-5)


def test_apply_views_is_one_graph() -> None:
    images = random_images(5)
    p = sample_parameters(5, 32, 32, ViewSettings(), generator(15, "views"))
    compiled = torch.compile(apply_views, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(images, p, 32), apply_views(images, p, 32), rtol=0, atol=1e-6)


@pytest.mark.parametrize("field", ["jitter_p", "grayscale"])
@pytest.mark.parametrize("channels", [2, 5])
def test_colour_on_images_of_no_known_colours_is_refused_with_the_way_out(field: str, channels: int) -> None:
    settings = ViewSettings(jitter_p=0, grayscale=0).model_copy(update={field: 0.5})
    with pytest.raises(UsageError, match=f"1, 3 or 4 channels, got {channels}") as caught:
        Views(8, settings)(random_images(2, channels=channels), generator(16, "views"))
    assert "--set pretrain.views.grayscale=0" in str(caught.value)
    plain_views = Views(8, settings.model_copy(update={field: 0}))
    assert plain_views(random_images(2, channels=channels), generator(16, "views")).shape == (2, channels, 8, 8)


def test_grey_images_are_jittered_as_torchvision_does_and_have_no_colours_to_lose() -> None:
    images, settings = random_images(24, channels=1, height=9, width=9), ViewSettings(jitter_p=1, grayscale=0.5)
    p = sample_parameters(24, 9, 9, settings, generator(18, "views"))
    views = apply_views(images, p, 8)
    ungreyed = dataclasses.replace(p, gray=None)
    expected = torch.stack([reference(images[row], ungreyed[row : row + 1], 8) for row in range(24)])
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(_render(images, p, 8), views, rtol=0, atol=1e-6)


def test_a_fourth_channel_keeps_its_values_beside_the_colours() -> None:
    images, settings = random_images(24, channels=4, height=9, width=9), ViewSettings(jitter_p=0.8, grayscale=0.5)
    p = sample_parameters(24, 9, 9, settings, generator(19, "views"))
    views = apply_views(images, p, 8)
    # To rounding: the products of other shapes add up in other orders.
    torch.testing.assert_close(views[:, :3], apply_views(images[:, :3], p, 8), rtol=0, atol=1e-6)
    untouched = dataclasses.replace(p, jitter=None, gray=None)
    torch.testing.assert_close(views[:, 3:], apply_views(images[:, 3:], untouched, 8), rtol=0, atol=1e-6)
    torch.testing.assert_close(_render(images, p, 8), views, rtol=0, atol=1e-6)


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_other_than_a_batch_of_uint8_images_is_refused(images: Tensor) -> None:
    with pytest.raises(UsageError, match="uint8 images"):
        Views(8)(images, generator(17, "views"))


def test_parameters_of_another_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="3 images but parameters for 2 views"):
        apply_views(random_images(3), plain(2, 32, 32), 32)
