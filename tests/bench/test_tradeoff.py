"""benchmarks/tradeoff.py pairs images by their index, and its intervals have a width where all images agree."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "tradeoff.py"


@pytest.fixture(scope="module")
def tradeoff():
    spec = importlib.util.spec_from_file_location("tradeoff", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tradeoff"] = module
    spec.loader.exec_module(module)
    return module


def point(tradeoff, name, passes, right):
    return tradeoff.Point(name, name, passes, {"majority": right, "mean": right})


def test_a_difference_is_that_of_agresti_and_min_on_the_images_that_both_have(tradeoff):
    old = point(tradeoff, "version 1", 1000.0, {7: 10, 3: 10, 5: 0, 11: 4})
    new = point(tradeoff, "effort 1", 200.0, {3: 0, 5: 0, 7: 5, 99: 10})
    # On images 3, 5 and 7 the shares change by -1, 0 and -0.5; the two added pairs add 1 to the sum of squares.
    change, low, high = tradeoff.difference(new, old, "majority")
    centre, squares = -1.5 / 5, (1 + 0.25 + 1) / 5
    half = 1.96 * math.sqrt((squares - centre**2) / 5)
    assert (change, low, high) == pytest.approx((-0.5, centre - half, centre + half))


def test_images_that_all_agree_leave_an_interval_of_some_width(tradeoff):
    same = point(tradeoff, "version 1", 1000.0, dict.fromkeys(range(98), 10))
    change, low, high = tradeoff.difference(same, same, "majority")
    assert change == 0
    assert high == -low == pytest.approx(1.96 * math.sqrt(1 / 100 / 100))


def test_the_table_has_a_row_for_each_effort_beside_version_1(tradeoff):
    old = point(tradeoff, "version 1", 1000.0, dict.fromkeys(range(8), 10))
    new = point(tradeoff, "effort 1", 200.0, dict.fromkeys(range(8), 10))
    halfway = point(tradeoff, "round 2", 50.0, dict.fromkeys(range(8), 10))
    text = tradeoff.table([("digits", tradeoff.Ball("l1", 3.0, 8), [old, halfway, new])])
    first, second = text.splitlines()[2:]
    assert first.startswith("| `digits`, l1 3 | 8 | version 1 | 1000 |  | 100.0 [")
    assert second.startswith("| `digits`, l1 3 | 8 | effort 1 | 200 | 1/5.0 | 100.0 [")


def test_points_come_back_from_their_file(tradeoff, tmp_path):
    points = [point(tradeoff, "version 1", 1000.0, {7: 10, 3: 4})]
    tradeoff.write(tmp_path / "points.json", [vars(each) for each in points])
    assert tradeoff.read_points(tmp_path / "points.json") == points
