"""The page in a browser, where there is one: it fits its width, light and dark."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rushkit.report.collect import gather
from rushkit.report.document import build_document
from rushkit.report.html import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60
HEIGHT = 1400


def screenshot(target: str, width: int, folder: Path, dark: bool) -> np.ndarray:
    """(H, W, 3) pixels of a page."""
    picture = folder / f"{width}-{dark}.png"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / f'profile-{width}-{dark}'}", f"--window-size={width},{HEIGHT}"]
    # 0 is dark, 1 is light.
    command += [f"--blink-settings=preferredColorScheme={int(not dark)}", f"--screenshot={picture}", target]
    subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, env={**os.environ, "TZ": "UTC"})
    return np.asarray(Image.open(picture).convert("RGB")).astype(int)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_its_width_light_and_dark(measured, tmp_path, width):
    path = tmp_path / "page.html"
    path.write_text(page(build_document([gather(measured)]), "report.json"), encoding="utf-8")
    light, dark = (screenshot(path.as_uri(), width, tmp_path, dark) for dark in (False, True))
    for pixels, bright in ((light, True), (dark, False)):
        assert pixels.shape == (HEIGHT, width, 3)
        background = pixels[-1, 0]
        assert (background.mean() > 200) == bright
        assert (background.mean() < 60) == (not bright)
        # Nothing but background along both edges: the body's padding is there, and no element sticks out of it.
        assert (pixels[:, :6] == background).all()
        assert (pixels[:, -6:] == background).all()
        # Words are there, and as far from the background as they must be to be read.
        assert (np.abs(pixels - background).sum(axis=2) > 400).mean() > 0.01
