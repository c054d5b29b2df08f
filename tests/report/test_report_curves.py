"""The points of curves, from results alone."""

from __future__ import annotations

import pytest
from synthetic_runs import certification

from rushkit.report.curves import certified_points
from rushkit.statistics import wilson_interval


def test_a_certified_curve_is_of_all_images_those_that_are_wrong_too():
    found = certified_points(certification([0.1, 0.2, 0.3, 0.3], [True, True, False, False]))
    assert found.radius == (0.0, 0.1, 0.2, 0.3)
    assert found.value == (0.5, 0.5, 0.25, 0.0)
    for index, count in enumerate((2, 2, 1, 0)):
        low, high = wilson_interval(count, 4)
        assert (found.low[index], found.high[index]) == pytest.approx((low, high))
