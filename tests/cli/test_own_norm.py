"""Without ``--norm``, certify and predict use the norm in which the noise's theorem is tight."""

from __future__ import annotations

import json

import numpy as np
import pytest
from commands import contents, only, sets
from PIL import Image

from rushkit import noises
from rushkit.errors import NoCertificate
from rushkit.recipe.load import load_recipe

FEW = ("--samples", "200", "--limit", "2", "-q", *sets("certify.selection=20"))


class OneNorm:
    """A noise of a plugin, with a theorem for l-inf alone, of which it says nothing more."""

    std = 0.1

    def sample(self, x, generator=None):
        return x.new_zeros(x.shape).uniform_(-0.1, 0.1, generator=generator)

    def certified_radius(self, p, norm, dim):
        if norm != "linf":
            raise NoCertificate(f"no theorem for {norm}", "use linf")
        return np.maximum(np.asarray(p) - 0.5, 0.0) / 5


@pytest.fixture
def one_norm():
    noises.register("one-norm")(lambda: OneNorm())
    yield
    noises._registry.unregister("one-norm", noises._registry.entry("one-norm").owner)


@pytest.mark.usefixtures("runs", "one_norm")
@pytest.mark.parametrize(
    ("noise", "norm"), [("uniform", "l1"), ("gaussian", "l2"), ("laplace", "l1"), ("one-norm", "linf")]
)
def test_certify_takes_the_noises_own_norm(cli, noise, norm):
    scale = () if noise == "one-norm" else ("noise.scale=0.3",)
    said = cli("certify", *FEW, "--json", *sets(f"noise.name={noise}", *scale))
    assert said.code == 0, said.err
    assert json.loads(said.out)["norm"] == norm


def test_a_flag_and_the_recipe_come_first_and_predict_is_alike(cli, runs, folder):
    for change in (("--norm", "l2"), sets("certify.norm=l2")):
        assert json.loads(cli("certify", *FEW, "--json", *change).out)["norm"] == "l2"
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(folder / "black.png")
    for change, norm in (((), "l1"), (("--norm", "l2"), "l2")):
        said = cli("predict", "black.png", "--samples", "100", "--json", "-q", *change)
        assert json.loads(said.out)["norm"] == norm


def test_radii_of_counts_in_the_noises_own_norm_are_not_taken_for_radii_in_another(cli, fails, runs):
    assert cli("certify", *FEW, "--radius", "0.05").code == 0
    run = only(runs, "certify")
    said = fails(2, "certify", "--from-counts", str(run), "--norm", "l2")
    assert "the counts are of l1 0.05, and the norm is now l2" in said.err
    # To name the norm that they are in is no change.
    assert cli("certify", "--from-counts", str(run), "--norm", "l1", "-q").code == 0


def test_a_radius_beyond_the_own_norms_distances_is_refused_before_a_folder_is_made(fails, runs):
    before = contents(runs)
    assert "l1 radius 5000 is more than two images" in fails(2, "certify", *FEW, "--radius", "5000").err
    gaussian = sets("noise.name=gaussian", "noise.scale=0.3")
    assert "l2 radius 50 is more than two images" in fails(2, "certify", *FEW, "--radius", "50", *gaussian).err
    assert contents(runs) == before


def test_a_noise_without_a_theorem_keeps_its_refusal(fails, runs):
    said = fails(2, "certify", *FEW, *sets("noise.name=none"))
    assert "without noise there is nothing to certify" in said.err


def test_the_recipes_default_is_auto():
    assert load_recipe("digits").certify.norm == "auto"
