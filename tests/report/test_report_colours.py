"""The page's colours can be read, light and dark: contrast as WCAG 2 counts it."""

from __future__ import annotations

import re

import pytest

from rushkit.report.page.render import STYLE

TEXT = ("ink", "soft", "accent", "good", "warn", "bad")
DRAWN = ("s0", "s1", "s2", "s3", "s4", "s5", "right", "wrong")


def schemes() -> dict[str, dict[str, str]]:
    """Light and dark -> name of a colour -> "#rrggbb"."""
    style = STYLE.read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in style.split("@media")[:2])
    return {"light": light, "dark": light | dark}


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb"."""
    shares = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_from_what_is_behind_them(scheme):
    colours = schemes()[scheme]
    for behind in ("page", "card", "strict", "note"):
        for name in TEXT[:2] if behind in ("strict", "note") else TEXT:
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for name in DRAWN:
        assert contrast(colours[name], colours["card"]) >= 3, name
