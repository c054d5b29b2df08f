"""Charts as records, and as SVG: round ticks, points where they belong."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from rushkit.report.curves import distribution, thin
from rushkit.report.pictures.charts import Chart, Series, axis, percent_axis, slug, ticks, waymarks, xs, ys
from rushkit.report.pictures.svg import HEIGHT, WIDTH, draw, sample


def chart(*series, x_log=False, y_range=None, rows=(), **words):
    x = axis(words.pop("x_label", "x"), xs(series), log=x_log)
    y = axis(words.pop("y_label", "y"), ys(series), y_range)
    return Chart("name", words.pop("title", "t"), words.pop("label", "l"), x, y, series, rows=rows, **words)


def drawn(*series, **about):
    return draw(chart(*series, **about)).body


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


def corners(path: str) -> list[tuple[float, float]]:
    """The corners of a path of M, L, H and V."""
    found, x, y = [], 0.0, 0.0
    for way, words in re.findall(r"([MLHV])([-\d. ]+)", path):
        numbers = [float(word) for word in words.split()]
        x, y = {"H": (numbers[0], y), "V": (x, numbers[0])}.get(way) or tuple(numbers)
        found.append((x, y))
    return found


def lines(svg: str) -> list[list[tuple[float, float]]]:
    return [corners(path) for path in re.findall(r'class="line[^"]*" d="([^"]*)"', svg)]


def line(*series, **about) -> list[tuple[float, float]]:
    (only,) = lines(drawn(*series, **about))
    return only


def test_a_line_goes_from_corner_to_corner():
    (x0, y0), (x1, y1) = line(Series("s", [(0, 0), (1, 100)]), y_range=(0, 100))
    assert 0 < x0 < x1 < WIDTH
    assert 0 < y1 < y0 < HEIGHT


def test_a_step_keeps_its_height_up_to_each_point():
    x = [x for x, _ in line(Series("s", [(0, 0), (1, 0), (2, 0)]))]
    y = [y for _, y in line(Series("s", [(0, 3), (1, 2), (2, 1)]))]
    found = line(Series("s", [(0, 3), (1, 2), (2, 1)], kind="step"))
    assert found == [(x[0], y[0]), (x[0], y[1]), (x[1], y[1]), (x[1], y[2]), (x[2], y[2])]


def height_at(path: list[tuple[float, float]], at: float) -> float:
    """The height of the level part of a path above an x."""
    return next(y for (x, y), (after, _) in pairwise(path) if x <= at < after)


def test_thousands_of_steps_are_drawn_by_few_and_no_height_moves_by_more_than_the_line_is_wide():
    points = [(index / 5000, 100 * (1 - (index / 5000) ** 2)) for index in range(5001)]
    long = line(Series("s", points, kind="step"), y_range=(0, 100))
    assert len(long) < 4 * WIDTH
    (left, top), (right, bottom) = line(Series("s", [(0, 100), (1, 0)]), y_range=(0, 100))
    for share in (0.1, 0.33, 0.5, 0.71, 0.9):
        at = left + share * (right - left)
        exact = top + share**2 * (bottom - top)
        assert height_at(long, at) == pytest.approx(exact, abs=1.5)
    assert (long[0], long[-1]) == ((left, top), (right, bottom))


def test_the_end_of_a_step_curve_falls_at_its_last_radius():
    found = line(Series("s", [(0, 50), (0.3, 25), (0.3, 0)], kind="step"), y_range=(0, 100))
    assert found[-2][0] == found[-1][0]
    assert found[-2][1] < found[-1][1]


def test_a_band_of_steps_goes_along_its_upper_edge_and_back_along_the_lower_one():
    svg = drawn(Series("s", [(0, 2), (1, 1)], [(0, 1, 3), (1, 0, 2)], kind="step"), y_range=(0, 3))
    (path,) = re.findall(r'class="band[^"]*" d="([^"]*)Z"', svg)
    left, right = 58, WIDTH - 18
    at = {value: y for value, (_, y) in enumerate(line(Series("s", [(x, x) for x in range(4)])))}
    upper = [(left, at[3]), (left, at[2]), (right, at[2])]
    assert corners(path) == [*upper, (right, at[0]), (left, at[0]), (left, at[1])]


def test_of_many_points_in_a_column_the_outermost_are_drawn():
    points = [(index / 1e6, float(index == 70) - float(index == 30)) for index in range(100)] + [(1.0, 0.0)]
    found = line(Series("s", points))
    assert len(found) == 5
    assert {min(y for _, y in found), max(y for _, y in found)} == {10.0, float(HEIGHT - 42)}


def test_on_a_logarithmic_axis_doublings_are_equal_steps_with_a_tick_each():
    svg = drawn(Series("s", [(x, 50) for x in (4, 8, 16, 64)]), y_range=(0, 100), x_log=True)
    first, second, third, last = (x for x, _ in lines(svg)[0])
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert last - third == pytest.approx(2 * (second - first), abs=0.3)
    assert re.findall(r'text-anchor="middle">([\d.]+)</text>', svg) == ["4", "8", "16", "64"]


def test_ticks_that_would_run_into_each_other_are_left_out():
    svg = drawn(Series("s", [(x, 50) for x in (100, 101, 200)]), y_range=(0, 100), x_log=True)
    assert re.findall(r'text-anchor="middle">([\d.]+)</text>', svg) == ["100", "200"]


def test_a_tick_of_thousands_is_written_in_full():
    svg = drawn(Series("s", [(0, 1), (12000, 2)]))
    assert ">10000</text>" in svg


def test_one_point_on_a_logarithmic_axis_can_be_drawn():
    assert "nan" not in drawn(Series("s", [(3, 50)]), y_range=(0, 100), x_log=True)


def test_values_outside_the_axis_stay_on_its_edge():
    assert all(0 <= y <= HEIGHT for _, y in line(Series("s", [(0, -5), (1, 500)]), y_range=(0, 100)))


@pytest.mark.parametrize("kind", ["line", "step", "points"])
@pytest.mark.parametrize("values", [[(1.0, 1.0)], [(0.0, 2.0), (0.0, 2.0)]])
def test_one_point_or_a_flat_line_can_be_drawn(kind, values):
    assert "nan" not in drawn(Series("s", values, [(x, y, y) for x, y in values], kind=kind))


def test_words_are_escaped():
    one = Series("<s>", [(0, 1), (1, 2)])
    assert not re.search(r"<[sxyr]>", drawn(one, x_label="<x>", y_label='"<y>"'))
    assert not re.search(r"<[sxyr]>", drawn(one, x_label="<x>", y_label='"<y>"', rows=("<r>", "</svg><r>")))


def test_rows_stand_below_each_other_in_their_order_with_every_series_in_each():
    one = Series("a", [(0, 10), (1, 90)], [(0, 5, 15), (1, 80, 95)], kind="points")
    other = Series("b", [(0, 20), (1, 50)], kind="points", colour=6)
    found = draw(chart(one, other, y_range=(0, 100), rows=("cat", "dog")))
    dots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', found.body)]
    assert dots[0][0] < dots[2][0] < dots[3][0] < dots[1][0]
    assert dots[0][1] < dots[2][1] < dots[1][1] < dots[3][1] < found.height
    assert re.findall(r'text-anchor="end">(\w+)</text>', found.body) == ["cat", "dog"]
    assert "<title>a: cat, 10</title>" in found.body


def test_long_lines_of_several_colours_have_markers_on_their_way_and_those_of_one_have_none():
    long = [(float(x), float(x)) for x in range(50)]
    assert "dot" not in drawn(Series("s", long), Series("t", long, dashed=True))
    assert drawn(Series("s", long), Series("t", long, colour=6)).count('"dot') == 10


def test_a_waymark_lies_on_its_line():
    line_points = [(0.0, 0.0), (1.0, 10.0), (3.0, 30.0)]
    assert all(y == pytest.approx(10 * x) for x, y in waymarks(Series("s", line_points)))
    assert {y for _, y in waymarks(Series("s", line_points, kind="step"))} <= {10.0, 30.0}


def test_a_legend_shows_a_line_with_its_dashes_and_points_without_one():
    dashed, points = Series("a", [(0, 1), (1, 2)], dashed=True), Series("b", [(0, 1)], kind="points", colour=7)
    both = chart(dashed, points)
    assert 'class="line c0 dashed"' in sample(dashed, both)
    assert "line" not in sample(points, both)
    assert both.legend == [dashed, points]
    assert chart(dashed).legend == []


def test_a_chart_of_a_single_percentage_runs_from_nothing_to_all():
    assert (percent_axis("y").low, percent_axis("y").high) == (0, 100)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("Certified accuracy", "l-inf"), "certified-accuracy-l-inf"),
        (("../../etc", "\x00$(a)"), "etc-a"),
        (("é",), "chart"),
    ],
)
def test_a_file_is_named_by_letters_digits_and_hyphens(words, expected):
    assert slug(*words) == expected
    assert len(slug("x" * 500)) == 80


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
