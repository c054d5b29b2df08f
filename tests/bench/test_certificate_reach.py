"""benchmarks/certificate_reach.py: its optima against closed forms, and its refusal of a radius beyond one."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from rushkit import noises

FILE = Path(__file__).parents[2] / "benchmarks" / "certificate_reach.py"
M = 153


@pytest.fixture(scope="module")
def reach():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))
        spec = importlib.util.spec_from_file_location("certificate_reach", FILE)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "certificate_reach", module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("p", [0.6, 0.999])
def test_optima_of_one_coordinate_are_the_known_ones(reach, p):
    for norm in reach.NORMS:
        assert reach.gaussian(norm, 1, p).radius == pytest.approx(0.3 * ndtri(p), rel=1e-12)
        assert reach.uniform(norm, 1, p).radius == pytest.approx(0.6 * (p - 0.5), rel=1e-12)
        assert reach.laplace(norm, 1, p).radius == pytest.approx(-0.3 * math.log(2 * (1 - p)), rel=1e-12)
        assert reach.split(norm, 1, p).radius == pytest.approx(0.6 * (p - 0.5), rel=1e-9)


def test_optima_in_other_norms_lie_on_the_diagonal(reach):
    # Four coordinates of a box, each moved by the share 1 − 0.6^(1/4) of its side, keep 0.6 of it.
    side = 0.6 * (1 - 0.6**0.25)
    assert reach.uniform("linf", 4, 0.9).radius == pytest.approx(side, rel=1e-12)
    assert reach.uniform("l2", 4, 0.9).radius == pytest.approx(2 * side, rel=1e-12)
    assert reach.uniform("l1", 4, 0.9).radius == pytest.approx(0.24, rel=1e-12)
    assert reach.gaussian("linf", 4, 0.9).radius == pytest.approx(0.15 * ndtri(0.9), rel=1e-12)


def test_the_optimum_of_laplace_noise_in_l2_is_bounded_by_an_axis_and_by_the_central_limit(reach):
    close, far = (reach.laplace("l2", 192, p) for p in (0.6, 0.9))
    assert close.radius <= -0.3 * math.log(0.8)
    assert far.radius == pytest.approx(0.3 * ndtri(0.9), rel=0.02)
    assert not far.known


def test_half_lines_of_sums_of_rounded_pixels_are_those_of_gaussian_noise_to_a_thousandth(reach):
    for count in (1, 30):
        bound = reach.half_line_optimum(count, 0.9)
        assert ndtri(0.9) < bound < ndtri(0.9) * 1.001


def test_a_moved_pixel_changes_its_share_of_the_noisy_versions(reach):
    # One of 4 pixels by one level: one version of 153; by half a level: one half of that on average; all 4: one each.
    assert reach.split_loss(4, 1, 1.0, 0.9) == pytest.approx(1 / M, rel=1e-9)
    assert reach.split_loss(4, 1, 0.5, 0.9) == pytest.approx(0.5 / M, rel=1e-9)
    assert reach.split_loss(4, 4, 1.0, 0.9) == pytest.approx(4 / M, rel=1e-9)


class Claiming:
    """A noise that claims a multiple of a radius."""

    def __init__(self, radius):
        self.radius = radius

    def certified_radius(self, p, norm, dim):
        return self.radius


def test_a_share_is_rounded_down_and_only_a_whole_one_is_1(reach):
    optimum = 0.3 * ndtri(0.9)
    cells = [
        reach.share(Claiming(optimum * ratio), "gaussian", "l2", 7, 0.9)
        for ratio in (1.0, 1 - 1e-12, 0.99999, 0.75001, 0.00123456)
    ]
    assert cells == ["1", "1", "0.999", "0.750", "0.00123"]
    assert reach.share(Claiming(0.01), "laplace", "l2", 3, 0.6).startswith("≥ ")


def test_a_radius_beyond_the_optimum_ends_the_command(reach):
    with pytest.raises(SystemExit, match=r"false certificate: laplace linf, d 3072, p 0\.9"):
        reach.share(Claiming(0.3 * 0.0240), "laplace", "linf", 3072, 0.9)


def test_sizes_with_the_same_shares_take_one_row(reach, monkeypatch, tmp_path):
    monkeypatch.setattr(reach, "OPTIMA", {"uniform": reach.uniform, "laplace": reach.laplace})
    monkeypatch.setattr(reach, "DIMS", (1, 2, 3))
    monkeypatch.setattr(reach, "PROBABILITIES", (0.9,))
    text = reach.table()
    lines = text.splitlines()
    assert lines[0] == "| noise | norm | d | p = 0.9 |"
    assert "| `uniform` | l1 | 1 to 3 | 1 |" in lines
    assert "| `laplace` | l2 | 1 | 1 |" in lines
    page = tmp_path / "certificates.md"
    page.write_text(f"above\n{reach.MARK[0]}\nold\n{reach.MARK[1]}\nbelow\n", encoding="utf-8")
    reach.write_page(tmp_path, text)
    assert page.read_text(encoding="utf-8") == f"above\n{reach.MARK[0]}\n\n{text}\n{reach.MARK[1]}\nbelow\n"


def test_every_noise_but_none_is_in_the_table(reach):
    assert set(reach.OPTIMA) == set(noises.names()) - {"none"}


def test_the_mixtures_tried_fit_their_image(reach):
    for dim in (2, 4, 192):
        tried = list(reach.mixtures(dim))
        assert max(sum(mixture.counts) for mixture in tried) == dim
        assert min(min(mixture.counts + mixture.multiples) for mixture in tried) >= 1
    assert np.isfinite(reach.laplace("linf", 150528, 0.999).radius)
