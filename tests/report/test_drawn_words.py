"""Every word that a page draws lies inside of its drawing and can be read, on a phone and on a wide screen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import BROWSER, Tab, browser
from every_page import PAGES
from synthetic_runs import Runs, attack_row, attacks, certification

from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import page

if BROWSER is None:
    pytest.skip("no Chromium here", allow_module_level=True)

# In pixels of the screen: the smallest letters, and how far a letter's box, which is larger than it, may stand out.
SMALLEST, SLACK = 10, 2
OUTSIDE = f"""[...document.querySelectorAll("main figure > svg, main figure > div > svg")].flatMap(drawing => {{
  const box = drawing.getBoundingClientRect();
  return [...drawing.querySelectorAll("text")].filter(text => {{
    const own = text.getBoundingClientRect();
    return own.left < box.left - {SLACK} || own.right > box.right + {SLACK}
      || own.top < box.top - {SLACK} || own.bottom > box.bottom + {SLACK};
  }}).map(text => text.textContent);
}})"""
# Words along the vertical axis are turned.
SMALL = f"""[...document.querySelectorAll("main figure svg text")].filter(text => {{
  const {{a, b}} = text.getScreenCTM();
  return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b) < {SMALLEST};
}}).map(text => text.textContent)"""
WIDE = """[...document.querySelectorAll(".report .scroll")].filter(box => box.scrollWidth > box.clientWidth)
  .map(box => box.getAttribute("aria-label"))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def of_reasons(folder):
    """A page whose ladders say at length why figures are missing, and with as many digits as there can be."""
    runs = Runs(folder / "runs")
    models = [runs.model(name=name) for name in ("another-vote", "no-radius")]
    runs.add("attack", models[0], attacks(attack_row([1, 1], "paper", samples=1), attack_row([10] * 1200 + [9] * 2)))
    runs.add("attack", models[1], attacks(attack_row([1, 1], "paper")))
    runs.add("certify", models[1], certification([0.0] * 4, [True] * 4))
    return page(build_document(build_report(list(map(gather, models)))), "report.json")


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", ["one model", "nine models", "a clean figure", "reasons"])
def test_words_of_drawings_are_whole_and_large_enough(name, width, tab, tmp_path):
    path = tmp_path / "page.html"
    path.write_text((of_reasons if name == "reasons" else PAGES[name])(tmp_path), encoding="utf-8")
    tab.open(path, width, dark=False)
    assert tab.run(OUTSIDE) == []
    assert tab.run(SMALL) == []
    if width == 1400:
        assert tab.run(WIDE) == []
