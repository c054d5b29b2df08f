"""Charts: round ticks, points where they belong."""

from __future__ import annotations

import re

import pytest

from rushkit.report.curves import distribution, thin
from rushkit.report.pictures.charts import HEIGHT, WIDTH, Series, chart, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.3, [0, 0.1, 0.2, 0.3]),
        (3.2, 4.9, [3.5, 4.0, 4.5]),
        (0.5, 1.5, [0.6, 0.8, 1.0, 1.2, 1.4]),
        (0, 1e-12, [0, 2e-13, 4e-13, 6e-13, 8e-13, 1e-12]),
    ],
)
def test_ticks_are_round_and_few(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def points_of(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def test_a_line_goes_from_corner_to_corner():
    drawn = chart("t", [Series("s", [(0, 0), (1, 100)])], "x", "y", (0, 100)).drawing
    (path,) = re.findall(r'class="line[^"]*" d="([^"]*)"', drawn)
    (x0, y0), (x1, y1) = points_of(path)
    assert 0 < x0 < x1 < WIDTH
    assert 0 < y1 < y0 < HEIGHT


def test_a_step_keeps_its_height_up_to_each_point():
    drawn = chart("t", [Series("s", [(0, 3), (1, 2), (2, 1)], kind="step")], "x", "y").drawing
    (path,) = re.findall(r'class="line[^"]*" d="([^"]*)"', drawn)
    points = points_of(path)
    assert [x for x, _ in points] == [points[0][0], points[0][0], points[2][0], points[2][0], points[4][0]]
    heights = [y for _, y in points]
    assert heights[1] == heights[2]
    assert heights[3] == heights[4]
    assert heights[0] < heights[1] < heights[3]


def test_on_a_logarithmic_axis_doublings_are_equal_steps_with_a_tick_each():
    drawn = chart("t", [Series("s", [(x, 50) for x in (4, 8, 16, 64)])], "x", "y", (0, 100), x_log=True).drawing
    (path,) = re.findall(r'class="line[^"]*" d="([^"]*)"', drawn)
    first, second, third, last = (x for x, _ in points_of(path))
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert last - third == pytest.approx(2 * (second - first), abs=0.3)
    assert re.findall(r'text-anchor="middle">([\d.]+)</text>', drawn) == ["4", "8", "16", "64"]


def test_ticks_that_would_run_into_each_other_are_left_out():
    drawn = chart("t", [Series("s", [(x, 50) for x in (100, 101, 200)])], "x", "y", (0, 100), x_log=True).drawing
    assert re.findall(r'text-anchor="middle">([\d.]+)</text>', drawn) == ["100", "200"]


def test_one_point_on_a_logarithmic_axis_can_be_drawn():
    assert "nan" not in chart("t", [Series("s", [(3, 50)])], "x", "y", (0, 100), x_log=True).drawing


def test_values_outside_the_axis_stay_on_its_edge():
    drawn = chart("t", [Series("s", [(0, -5), (1, 500)])], "x", "y", (0, 100)).drawing
    (path,) = re.findall(r'class="line[^"]*" d="([^"]*)"', drawn)
    assert all(0 <= y <= HEIGHT for _, y in points_of(path))


@pytest.mark.parametrize("kind", ["line", "step", "points"])
@pytest.mark.parametrize("values", [[(1.0, 1.0)], [(0.0, 2.0), (0.0, 2.0)]])
def test_one_point_or_a_flat_line_can_be_drawn(kind, values):
    drawn = chart("t", [Series("s", values, [(x, y, y) for x, y in values], kind=kind)], "x", "y").drawing
    assert "nan" not in drawn


def test_words_are_escaped():
    drawn = chart("<t>", [Series("<s>", [(0, 1), (1, 2)])], "<x>", '"y"', caption="<c>").drawing
    assert not re.search(r"<[tsxc]>", drawn)


def test_a_distribution_runs_from_the_smallest_value_to_the_largest():
    values = [float(x) for x in range(1000)]
    found = distribution(values, 10)
    assert len(found) == 11
    assert (found[0], found[-1]) == ((0.0, 0.0), (999.0, 1.0))
    assert found[5] == (pytest.approx(499.5), 0.5)
    assert distribution([2.0]) == [(2.0, 0.0), (2.0, 1.0)]


def test_thinning_keeps_the_mean_and_short_series():
    points = [(float(x), float(x % 7)) for x in range(1000)]
    thinned = thin(points, 50)
    assert len(thinned) == 50
    assert sum(y for _, y in thinned) / 50 == pytest.approx(sum(y for _, y in points) / 1000)
    assert thin(points[:50], 50) == points[:50]
