"""The images of a page in a browser, where there is one: keys switch their versions, and paper has all of them."""

from __future__ import annotations

import pytest
from browser import BROWSER, Tab, browser
from every_page import of_one_model

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")


@pytest.fixture
def tab(tmp_path):
    """A browser with the page of a model with images."""
    path = tmp_path / "page.html"
    path.write_text(of_one_model(tmp_path), encoding="utf-8")
    with browser(tmp_path) as opened:
        opened.open(path, 1400, dark=False)
        yield opened


def visible(tab: Tab) -> list[str]:
    """The version that each tile shows; of a tile that shows several, all."""
    return tab.run(
        """[...document.querySelectorAll(".tile")].map(tile => [...tile.querySelectorAll(".view")].filter(
          view => view.offsetParent).map(view => view.classList[1]).join(" "))"""
    )


def test_keys_switch_all_images_and_swap_one(tab):
    assert visible(tab) == ["attacked"] * 3
    tab.run("document.querySelector('.tile input').focus()")
    tab.press(" ", 32, text=" ")
    assert visible(tab) == ["clean", "attacked", "attacked"]
    tab.run("document.querySelector('.choose input:checked').focus()")
    tab.press("ArrowLeft", 37)
    assert visible(tab) == ["attacked", "clean", "clean"]
    tab.press("ArrowLeft", 37)
    assert visible(tab) == ["clean attacked change noisy"] * 3
    tab.press("ArrowLeft", 37)
    assert visible(tab) == ["clean", "noisy", "noisy"]


def test_every_version_is_on_paper(tab):
    tab.do("Emulation.setEmulatedMedia", media="print")
    assert visible(tab) == ["clean attacked change noisy"] * 3
