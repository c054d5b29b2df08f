"""The page in a browser, where there is one: it fits its width, asks nobody for anything, and reads light and dark."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60
HEIGHT = 1400
WIDTHS = (400, 1400)

# Opens pages in frames of some widths, and writes down what each needs, fetched and lets stick out.
LOOK = """<!doctype html><meta charset="utf-8"><body><pre id="seen"></pre><script>
const wanted = WANTED, seen = [];
const look = (frame, name, width) => {
  const page = frame.contentDocument, root = page.documentElement;
  const scrolls = element => element.closest(".scroll, pre, svg");
  const out = [...page.body.querySelectorAll("*")].filter(
    element => !scrolls(element) && element.getBoundingClientRect().right > width + 0.5);
  seen.push({name, width, client: root.clientWidth, scroll: root.scrollWidth,
    sections: page.querySelectorAll("section").length, out: out.map(element => element.outerHTML.slice(0, 200)),
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name)});
  if (seen.length === wanted.length) document.getElementById("seen").textContent = JSON.stringify(seen);
};
for (const [name, width] of wanted) {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; height: 800px; width: ${width}px`;
  frame.onload = () => look(frame, name, width);
  frame.src = name;
  document.body.append(frame);
}
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")


def browse(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the browser with a profile of its own and no network of its own either."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, "TZ": "UTC"}
    )


def screenshot(target: str, width: int, folder: Path, dark: bool) -> np.ndarray:
    """(H, W, 3) pixels of a page."""
    picture = folder / f"{width}-{dark}.png"
    # 0 is dark, 1 is light.
    scheme = f"--blink-settings=preferredColorScheme={int(not dark)}"
    browse(folder, scheme, f"--window-size={width},{HEIGHT}", f"--screenshot={picture}", target)
    return np.asarray(Image.open(picture).convert("RGB")).astype(int)


def look(folder: Path, *wanted: tuple[str, int]) -> tuple[list[dict[str, Any]], list[str]]:
    """What is seen of each file of the folder at its width, in that order, and what the console said."""
    path = folder / "look.html"
    path.write_text(LOOK.replace("WANTED", json.dumps(wanted)), encoding="utf-8")
    options = ("--allow-file-access-from-files", "--enable-logging=stderr", "--v=0", "--dump-dom")
    done = browse(folder, *options, path.as_uri())
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    seen = {(each["name"], each["width"]): each for each in json.loads(html.unescape(found[1]))}
    return [seen[each] for each in wanted], [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def written(runs, measured, tmp_path) -> Path:
    """A folder with the page of a model, and one that compares it with another."""
    other = runs.model()
    for name, models in (("page.html", [measured]), ("both.html", [measured, other])):
        document = build_document(build_report([gather(model) for model in models]))
        (tmp_path / name).write_text(page(document, "report.json"), encoding="utf-8")
    return tmp_path


def test_the_page_reads_light_and_dark(written):
    target = (written / "page.html").as_uri()
    light, dark = (screenshot(target, 400, written, dark) for dark in (False, True))
    for pixels, bright in ((light, True), (dark, False)):
        assert pixels.shape == (HEIGHT, 400, 3)
        background = pixels[-1, 0]
        assert (background.mean() > 200) == bright
        assert (background.mean() < 60) == (not bright)
        # Nothing but background along both edges: the body's padding is there, and no element sticks out of it.
        assert (pixels[:, :6] == background).all()
        assert (pixels[:, -6:] == background).all()
        # Words are there, and as far from the background as they must be to be read.
        assert (np.abs(pixels - background).sum(axis=2) > 400).mean() > 0.01


def test_no_part_is_wider_than_the_screen_and_nothing_is_fetched_or_complained_of(written):
    bad = '<body><section></section><div style="width: 900px">x</div><img src="http://127.0.0.1:9/x.png">'
    (written / "bad.html").write_text(f'<!doctype html>{bad}<script>console.error("oh")</script>', encoding="utf-8")
    wanted = [(name, width) for name in ("page.html", "both.html") for width in WIDTHS]
    (control, *seen), console = look(written, ("bad.html", 400), *wanted)
    # What must not be there is seen where it is.
    assert control["scroll"] > 400
    assert len(control["out"]) == 1
    assert control["fetched"] == ["http://127.0.0.1:9/x.png"]
    assert any("oh" in line for line in console)
    for each in seen:
        assert each["sections"] > 8, each
        assert (each["client"], each["scroll"], each["out"]) == (each["width"], each["width"], []), each
        assert each["fetched"] == [], each
    assert [line for line in console if "bad.html" not in line] == []
