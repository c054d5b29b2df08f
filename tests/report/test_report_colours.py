"""The page's colours can be read, light and dark, and told apart by who lacks a kind of cones.

Contrast is that of WCAG 2. What a reader without red or green cones sees is simulated by the matrices of Machado,
Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency" (IEEE Transactions on
Visualization and Computer Graphics 15, 2009), for severity 1 and linear RGB. Distances are those of CIELAB 1976.
"""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from rushkit.report.page.render import style
from rushkit.report.pictures.palette import DARK, LIGHT, LOOKS, colour_class, marker
from rushkit.report.pictures.plots import colour_of

TEXT = ("ink", "soft", "accent", "good", "warn", "bad")
DRAWN = (*(f"s{number}" for number in range(LOOKS)), "right", "wrong")
SEEN_BY = {
    "all cones": np.eye(3),
    "no red cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# Of CIELAB, where 2.3 is just seen.
FAR = 15


def schemes() -> dict[str, dict[str, str]]:
    """Light and dark -> name of a colour -> "#rrggbb"."""
    light, dark = {}, {}
    for block, colours in re.findall(r"(@media[^{]*\{\s*)?:root \{([^}]*)\}", style()):
        (dark if "dark" in block else light).update(re.findall(r"--(\w+): (#[0-9a-f]{6});", colours))
    return {"light": light, "dark": light | dark}


def linear(colour: str) -> np.ndarray:
    """Linear RGB of "#rrggbb"."""
    shares = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, other: str, seen_by: str = "all cones") -> float:
    first, second = (lab(SEEN_BY[seen_by] @ linear(colour)) for colour in (one, other))
    return float(np.linalg.norm(first - second))


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_distance_is_that_of_the_standard_and_red_and_green_come_nearer_without_green_cones():
    assert distance("#000000", "#ffffff") == pytest.approx(100)
    assert distance("#ff0000", "#00ff00") == pytest.approx(170.6, abs=0.1)
    assert distance("#c83c00", "#5a7800", "no green cones") < distance("#c83c00", "#5a7800") / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_from_what_is_behind_them(scheme):
    colours = schemes()[scheme]
    for behind in ("page", "card", "strict", "note"):
        for name in TEXT[:2] if behind in ("strict", "note") else TEXT:
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for name in DRAWN:
        for behind in ("page", "card"):
            assert contrast(colours[name], colours[behind]) >= 3, (name, behind)


@pytest.mark.parametrize("seen_by", SEEN_BY)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_no_two_of_twelve_have_one_colour_for_any_reader(colours, seen_by):
    assert len(colours) == 12
    near = [pair for pair in combinations(colours, 2) if distance(*pair, seen_by) < FAR]
    assert near == []


def test_no_two_of_twelve_have_one_marker():
    assert len({(marker(number)[0], marker(number)[2]) for number in range(LOOKS)}) == 12


def test_page_and_files_take_their_colours_from_one_list():
    for scheme, expected in (("light", LIGHT), ("dark", DARK)):
        assert tuple(schemes()[scheme][f"s{number}"] for number in range(LOOKS)) == expected
    assert [colour_of(number) for number in range(LOOKS)] == list(LIGHT)
    for number in range(LOOKS):
        assert f".{colour_class(number)} {{ --c: var(--s{number}); }}" in style()


def test_a_thirteenth_model_has_the_look_of_the_first():
    assert (colour_class(12), colour_of(12), marker(12)) == (colour_class(0), colour_of(0), marker(0))
