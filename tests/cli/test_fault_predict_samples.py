"""``rushkit predict`` names the fewest draws that can decide, by the test that decides."""

from __future__ import annotations

import pytest
from PIL import Image


# n draws that all agree have the two-sided p-value 2^(1-n).
@pytest.mark.parametrize("alpha, fewest", [("0.001", 11), ("0.05", 6), ("0.3", 3)])
def test_the_hint_is_the_fewest_draws_that_decide(fails, runs, folder, alpha, fewest):
    Image.new("RGB", (8, 8)).save(folder / "grey.png")
    said = fails(2, "predict", "grey.png", "--alpha", alpha, "--samples", str(fewest - 1))
    assert f"{fewest - 1} draws can never decide at alpha {alpha}" in said.err
    assert f"--samples {fewest}" in said.err
