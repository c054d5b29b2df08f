"""The distribution of the parameters, against closed forms and against torchvision's own draws.

Seeds are fixed. Each statistical test would fail on a fresh seed with probability FALSE_ALARM, or a few times
that where it compares several things.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torchvision.transforms import ColorJitter, RandomResizedCrop

from rushkit.errors import UsageError
from rushkit.system import generator
from rushkit.views import ViewParameters, Views, ViewSettings, sample_parameters
from rushkit.views.parameters import _crop_shape

FALSE_ALARM = 1e-4
MANY = 40_000
PEERS = 4_000


@pytest.fixture(autouse=True)
def seeded_peer() -> Iterator[None]:
    """torchvision draws from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def draw(height: int = 32, width: int = 32, n: int = MANY, **changes: object) -> ViewParameters:
    settings = ViewSettings(**changes)  # type: ignore[arg-type]
    return sample_parameters(n, height, width, settings, generator(1, "parameters"))


def assert_same_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert stats.ks_2samp(ours, theirs).pvalue > FALSE_ALARM


def peer_crops(height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]) -> np.ndarray:
    image = torch.empty(3, height, width)
    return np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(PEERS)])


# For a square image the defaults need no fallback; 40x12 often falls back; 60x6 nearly always.
@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 12), (12, 40), (60, 6), (6, 60)])
def test_crops_have_torchvisions_distribution(height: int, width: int) -> None:
    p = draw(height, width)
    ours = torch.stack((p.top, p.left, p.height, p.width), 1).numpy()
    theirs = peer_crops(height, width, (0.08, 1.0), (3 / 4, 4 / 3))
    for column in range(4):
        assert_same_distribution(ours[:, column], theirs[:, column])
    # Two combinations that tie the columns together: the area, and where the crop's far corner lies.
    assert_same_distribution(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert_same_distribution(ours @ [1, 1, 1, 1], theirs @ [1, 1, 1, 1])


def test_area_is_uniform_and_so_is_the_logarithm_of_the_ratio() -> None:
    # So large an image hides the rounding to pixels, and so small a crop always fits.
    p = draw(100_000, 100_000, scale=[0.05, 0.1], ratio=[0.5, 2.0])
    height, width = p.height.double().numpy(), p.width.double().numpy()
    assert stats.kstest(height * width / 1e10, stats.uniform(0.05, 0.05).cdf).pvalue > FALSE_ALARM
    low, high = math.log(0.5), math.log(2.0)
    assert stats.kstest(np.log(width / height), stats.uniform(low, high - low).cdf).pvalue > FALSE_ALARM


def test_crops_lie_inside_the_image() -> None:
    for height, width in ((32, 32), (5, 90), (1, 1), (2, 3)):
        p = draw(height, width, n=5000)
        assert ((p.top >= 0) & (p.height >= 1) & (p.top + p.height <= height)).all()
        assert ((p.left >= 0) & (p.width >= 1) & (p.left + p.width <= width)).all()


def test_place_of_a_crop_is_uniform_over_those_that_fit() -> None:
    p = draw(n=200_000)
    for start, length in ((p.top, p.height), (p.left, p.width)):
        places = start[length == 20]
        counts = torch.bincount(places, minlength=13).numpy()
        assert len(counts) == 13
        assert stats.chisquare(counts).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("height", "width", "ratio", "box"),
    [
        (90, 6, (3 / 4, 4 / 3), (41, 0, 8, 6)),
        (6, 90, (3 / 4, 4 / 3), (0, 41, 6, 8)),
        (10, 10, (0.5, 0.6), (0, 2, 10, 6)),
        (40, 40, (0.1, 10.0), (0, 0, 40, 40)),
    ],
)
def test_fallback_is_the_centre_crop_of_nearest_ratio(
    height: int, width: int, ratio: tuple[float, float], box: tuple[int, ...]
) -> None:
    # A crop of the whole area fits at the image's own ratio alone.
    p = draw(height, width, n=500, scale=[1.0, 1.0], ratio=list(ratio))
    assert {tuple(row) for row in torch.stack((p.top, p.left, p.height, p.width), 1).tolist()} == {box}
    assert {tuple(row) for row in peer_crops(height, width, (1.0, 1.0), ratio)[:500].tolist()} == {box}


def test_first_attempt_that_fits_is_taken_and_its_size_rounded() -> None:
    # At ratio 1 a crop fits if its side is at most 8 of the 8 x 20 image's height: area at most 64 of 160.
    settings = ViewSettings(scale=[0.1, 1.0], ratio=[1.0, 1.0])
    areas = torch.tensor([[0.9, 0.25, 0.9], [0.3, 0.0, 0.9], [0.0, 0.1, 0.9]])
    height, width, found = _crop_shape(areas, torch.full((3, 3), 0.5), 8, 20, settings)
    # sqrt(160 * 0.37) = 7.69 and sqrt(160 * 0.325) = 7.21; the third never fits, and its ratio 2.5 is above 1.
    assert height.tolist() == width.tolist() == [8, 7, 8]
    assert found.tolist() == [True, True, False]


@pytest.mark.parametrize("name", ["flip", "jitter", "gray"])
def test_coins_have_their_probability(name: str) -> None:
    p = draw(flip=0.5, jitter_p=0.8, grayscale=0.2)
    heads = int(getattr(p, name).sum())
    expected = {"flip": 0.5, "jitter": 0.8, "gray": 0.2}[name]
    assert stats.binomtest(heads, MANY, expected).pvalue > FALSE_ALARM


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_factors_are_uniform_over_torchvisions_range(name: str) -> None:
    low, high = getattr(ColorJitter(0.4, 0.4, 0.4, 0.1), name)
    values = getattr(draw(), name).numpy()
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > FALSE_ALARM


def test_factors_have_the_distribution_of_torchvisions_draws() -> None:
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    bounds = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = np.array([jitter.get_params(*bounds)[1:] for _ in range(PEERS)])
    p = draw()
    for column, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert_same_distribution(getattr(p, name).numpy(), theirs[:, column])


def test_spread_above_one_starts_at_zero_as_in_torchvision() -> None:
    low, high = ColorJitter(brightness=2.0).brightness
    values = draw(brightness=2.0).brightness.numpy()
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > FALSE_ALARM


def order_numbers(order: torch.Tensor) -> torch.Tensor:
    table = {o: i for i, o in enumerate(itertools.permutations(range(4)))}
    return torch.tensor([table[tuple(row)] for row in order.tolist()])


def test_the_24_orders_are_equally_likely() -> None:
    counts = torch.bincount(order_numbers(draw().order), minlength=24).numpy()
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_orders_are_equally_likely_at_every_place_of_a_small_batch() -> None:
    draws = generator(2, "small batches")
    settings = ViewSettings()
    batches = [order_numbers(sample_parameters(5, 8, 8, settings, draws).order) for _ in range(3000)]
    for place in torch.stack(batches, 1):
        assert stats.chisquare(torch.bincount(place, minlength=24).numpy()).pvalue > FALSE_ALARM


def test_images_of_a_batch_are_drawn_independently_of_each_other_and_of_the_other_parameters() -> None:
    p = draw()
    columns = [p.top, p.height, p.flip, p.brightness, p.contrast, p.saturation, p.hue, p.order[:, 0], p.jitter, p.gray]
    # top depends on height and on nothing else; each column also against its own neighbour in the batch.
    pairs = [(a, b) for a, b in itertools.combinations(columns, 2) if not (a is p.top and b is p.height)]
    pairs += [(c[1:], c[:-1]) for c in columns if c is not None]
    for a, b in pairs:
        assert a is not None
        assert b is not None
        correlation = np.corrcoef(a.double().numpy(), b.double().numpy())[0, 1]
        assert abs(correlation) * math.sqrt(MANY) < stats.norm.isf(FALSE_ALARM / 2)


def test_crops_of_a_seed_do_not_depend_on_the_colour_settings() -> None:
    with_colour, without = draw(n=50), draw(n=50, jitter_p=0, grayscale=0)
    assert torch.equal(with_colour.left, without.left)
    assert torch.equal(with_colour.flip, without.flip)


@pytest.mark.parametrize(
    "changes", [{"jitter_p": 0}, {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}], ids=["p", "spreads"]
)
def test_jitter_that_does_nothing_is_left_out(changes: dict[str, float]) -> None:
    p = draw(n=4, **changes)
    assert p.jitter is None
    assert p.gray is not None


def test_slice_of_parameters_is_the_slice_of_every_tensor() -> None:
    p = draw(n=10, grayscale=0)
    part = p[3:5]
    assert len(part) == 2
    assert torch.equal(part.order, p.order[3:5])
    assert part.gray is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", [0.0, 1.0]),
        ("scale", [0.5, 0.2]),
        ("scale", [0.5, 1.2]),
        ("ratio", [2.0, 1.0]),
        ("flip", 1.5),
        ("jitter_p", -0.1),
        ("contrast", -1),
        ("saturation", math.inf),
        ("brightness", math.nan),
        ("hue", 0.6),
        ("grayscale", 2),
    ],
)
def test_value_outside_its_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=f"^1 validation error for ViewSettings\n{name}"):
        ViewSettings.model_validate({name: value})


def test_a_size_below_one_pixel_is_refused() -> None:
    with pytest.raises(UsageError, match="view size must"):
        Views(0)
