"""What is made of an image file, and what is said of its counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import beta
from tiny_runs import QUIET, checkpoint_of, finetuned

from rushkit import data
from rushkit.certificates import ABSTAIN
from rushkit.certification import draws
from rushkit.certification.claim import Claim
from rushkit.certification.counts import ImageCounts
from rushkit.certification.draws import Counts
from rushkit.certification.fixed_samples import FixedSamples
from rushkit.certification.image_files import read_image
from rushkit.certification.predict import predict
from rushkit.data.picture import Form
from rushkit.noises import create
from rushkit.statistics import randomized_lower
from rushkit.votes import SCORE


def claim(samples=100, alpha=0.05, rule="majority", bound="clopper-pearson"):
    return Claim(create("gaussian", scale=0.25), "l2", 12, alpha, bound, rule, False, samples)


def verdict(what, counts):
    return FixedSamples(what, 10).verdict(counts)


def counts(votes, selection=(9, 1), uniform=1.0):
    nothing = np.zeros(1, dtype=np.int64)
    return ImageCounts(
        images=nothing,
        labels=nothing,
        uniforms=np.array([uniform]),
        selection=np.array([selection]),
        selection_scores=np.array([selection], dtype=float),
        votes=np.array([votes]),
        scores=np.zeros(1),
        squares=np.zeros(1),
        seconds=np.zeros(1),
    )


@pytest.mark.parametrize("wide", [True, False])
def test_the_middle_square_is_seen(tmp_path, wide):
    stripes = np.zeros((2, 6, 3), dtype=np.uint8)
    stripes[:, 2:4] = 200
    pixels = stripes if wide else stripes.transpose(1, 0, 2)
    Image.fromarray(pixels).save(tmp_path / "stripes.png")
    picture = read_image(tmp_path / "stripes.png", Form(2))
    assert picture.pixels.shape == (3, 2, 2)
    assert (picture.pixels == 200).all()
    assert picture.notes == (f"middle 2x2 of {'6x2' if wide else '2x6'}",)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "turned.jpg", "palette.gif", "clear.png", "grey.png"])
@pytest.mark.parametrize("form", [Form(8), Form(16, 1, "pad"), Form(24, 4, "stretch"), Form(40), Form(130, 1)], ids=str)
def test_predict_sees_the_pixels_of_a_folder_data_set(tmp_path, name, form):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 121, 3), dtype=np.uint8))
    turned = photo.getexif()
    turned[274] = 6
    path = tmp_path / "train" / name
    path.parent.mkdir()
    mode = {"palette.gif": "P", "clear.png": "RGBA", "grey.png": "L"}.get(name, "RGB")
    photo.convert(mode).save(path, **({"exif": turned} if name == "turned.jpg" else {}))
    dataset = data.create("folder", root=str(tmp_path), image_size=form.size, channels=form.channels, fit=form.fit)
    assert torch.equal(read_image(path, form).pixels, dataset.split("train").images[0])


def test_a_palette_with_transparent_colours_is_read_without_a_word(tmp_path):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "palette.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "palette.png", Form(2)).pixels[:, 0, 0].tolist() == [10, 20, 30]


def test_the_bounds_are_those_of_clopper_and_pearson_at_alpha():
    image = verdict(claim(1000, 0.01), counts([900, 100]))
    assert image.predicted == 0
    assert image.p_lower == pytest.approx(beta.ppf(0.005, 900, 101))
    assert image.p_upper == pytest.approx(beta.ppf(0.995, 901, 100))


def test_an_abstention_has_no_radius_though_certify_alone_would_give_one():
    # 59 of 100 at alpha 0.05: a one-sided bound is above a half, the two-sided test of PREDICT is not passed.
    assert beta.ppf(0.05, 59, 42) > 0.5
    image = verdict(claim(), counts([59, 41]))
    assert (image.predicted, image.radius) == (ABSTAIN, 0.0)
    assert verdict(claim(), counts([75, 25])).radius > 0


def test_a_randomized_bound_uses_the_draw_that_is_kept_with_the_counts():
    exact = verdict(claim(), counts([75, 25]))
    radii = [verdict(claim(bound="randomized"), counts([75, 25], uniform=u)).radius for u in (1.0, 0.5, 0.01)]
    assert radii[0] == exact.radius
    assert radii == sorted(radii)
    expected = create("gaussian", scale=0.25).certified_radius(float(randomized_lower(75, 100, 0.5, 0.05)), "l2", 12)
    assert radii[1] == expected


def test_the_reach_of_a_randomized_bound_is_what_its_luckiest_draw_shows():
    what, luckiest = claim(bound="randomized"), verdict(claim(bound="randomized"), counts([100, 0], uniform=1e-9))
    assert luckiest.radius == pytest.approx(what.reach, rel=1e-12)
    # What twice as many draws show by Clopper and Pearson.
    assert what.reach == pytest.approx(claim(200).reach, rel=1e-12)
    assert what.decides(3)
    assert not what.decides(2)


def test_the_mean_is_that_of_the_class_that_was_chosen_before_its_draws():
    def drawn(*scores):
        table = np.array([scores], dtype=np.int64) * SCORE
        return Counts(np.array([scores], dtype=np.int64), table, table * SCORE)

    found = ImageCounts.of_one(drawn(6, 4), drawn(30, 70))
    assert (found.scores.tolist(), found.squares.tolist()) == ([30.0], [30.0])
    assert found.votes.tolist() == [[30, 70]]


def test_the_draws_of_an_image_are_its_own_and_those_that_estimate_are_not_those_that_chose(
    tiny, tmp_path, monkeypatch
):
    recipe = tiny("finetune.epochs=1", "data.limit=20", "certify.samples=100", "certify.selection=10")
    for shade in (0, 100):
        Image.new("RGB", (8, 8), (shade, shade, shade)).save(tmp_path / f"{shade}.png")
    drawn, original = [], draws.noisy_unit

    def noted(noise, x, size, seed, purpose, pixels, unit):
        drawn.append((purpose, pixels))
        return original(noise, x, size, seed, purpose, pixels, unit)

    monkeypatch.setattr(draws, "noisy_unit", noted)
    predict(recipe, checkpoint_of(finetuned(recipe, None)), sorted(tmp_path.glob("*.png")), QUIET)
    assert len(set(drawn)) == 4
    assert len({pixels for _, pixels in drawn}) == len({purpose for purpose, _ in drawn}) == 2


@pytest.mark.parametrize(
    ("fit", "notes"),
    [
        ("crop", ("middle 6x6 of 12x6", "resized from 6x6 to 4x4")),
        ("pad", ("black bars beside 12x6", "resized from 12x12 to 4x4")),
        ("stretch", ("stretched from 12x6",)),
    ],
)
def test_a_prediction_says_how_an_image_became_square(tmp_path, fit, notes):
    Image.new("RGB", (12, 6)).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", Form(4, fit=fit)).notes == notes
