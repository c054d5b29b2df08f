"""Pages for everybody: axe-core finds nothing in them, narrow and wide, light and dark.

It takes Chromium, and axe-core, which a package of PyPI has in it: ``pip install --no-deps axe-playwright-python``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import BROWSER, Tab, browser
from every_page import PAGES

# Its own module would import a driver of browsers.
_PACKAGE = find_spec("axe_playwright_python")
if BROWSER is None or _PACKAGE is None or _PACKAGE.origin is None:
    pytest.skip("no Chromium here" if BROWSER is None else "no axe-core here", allow_module_level=True)
AXE = Path(_PACKAGE.origin).parent / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
# Nearly all of the time goes to contrast, which the width does not change: each theme is asked for it once.
CONTRAST = '{type: "rule", values: ["color-contrast"]}'
ALL = f'{{type: "tag", values: {RULES}}}'
ALL_BUT_CONTRAST = f'{ALL}, rules: {{"color-contrast": {{enabled: false}}}}'
LOOKS = {"1400 px, light": (1400, False, ALL), "400 px, light": (400, False, ALL_BUT_CONTRAST)}
LOOKS["400 px, dark"] = (400, True, CONTRAST)
LOOKED_FOR = {"color-contrast", "image-alt", "html-has-lang"}
ASK = """axe.run(document, {runOnly: OPTIONS, resultTypes: ["violations"]}).then(seen => seen.violations.map(
  one => one.id + ": " + one.nodes.map(node => node.html.slice(0, 200) + " " + node.failureSummary).join("; ")))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def problems(tab: Tab, path: Path, look: str) -> list[str]:
    """What axe-core has against a page."""
    width, dark, options = LOOKS[look]
    tab.open(path, width, dark)
    tab.run(AXE.read_text(encoding="utf-8") + ";0")
    return [f"{look}: {problem}" for problem in tab.run(ASK.replace("OPTIONS", options))]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(name, tab, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGES[name](tmp_path), encoding="utf-8")
    assert [problem for look in LOOKS for problem in problems(tab, path, look)] == []


@pytest.mark.parametrize(
    "look, wanted",
    [
        ("1400 px, light", {"color-contrast", "image-alt", "html-has-lang"}),
        ("400 px, light", {"image-alt", "html-has-lang"}),
        ("400 px, dark", {"color-contrast"}),
    ],
)
def test_axe_would_find_what_is_wrong(tab, tmp_path, look, wanted):
    path = tmp_path / "bad.html"
    light = "@media (prefers-color-scheme: light) { p { color: #ccc; background: #fff } }"
    style = "p { color: #555; background: #000 } " + light
    text = f'<!doctype html><title>x</title><style>{style}</style><p>words<img src="x.png"></p>'
    path.write_text(text, encoding="utf-8")
    assert {problem.split(": ")[1] for problem in problems(tab, path, look)} & LOOKED_FOR == wanted
