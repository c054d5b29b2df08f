"""benchmarks/table_1.py compares RUSH with each row on the same images, at equal epochs."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "table_1.py"


@pytest.fixture(scope="module")
def table_1():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))
        spec = importlib.util.spec_from_file_location("table_1", FILE)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "table_1", module)
        spec.loader.exec_module(module)
        yield module


def test_a_difference_is_that_of_the_seeds_means_image_by_image(table_1):
    rush = [{3: 1.0, 5: 0.4, 7: 0.0}, {7: 0.0, 5: 1.0, 3: 1.0}]
    other = [{5: 1.0, 3: 0.0, 7: 0.0}, {3: 1.0, 5: 1.0, 7: 1.0}]
    found = table_1.difference(rush, other)
    # By image 3, 5 and 7: (1 + 0) / 2, (-0.6 + 0) / 2 and (0 - 1) / 2; two pairs that differ by 1 and -1 are added.
    mean, centre, squares = -0.3 / 3, -0.3 / 5, (0.25 + 0.09 + 0.25 + 2) / 5
    half = 1.96 * math.sqrt((squares - centre**2) / 5)
    assert (found.images, found.value) == (3, pytest.approx(mean))
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert (found.only_rush, found.only_other) == ((1, 0), (1, 1))


def test_rows_that_agree_leave_an_interval_of_some_width(table_1):
    same = [dict.fromkeys(range(98), 1.0)]
    found = table_1.difference(same, same)
    assert found.value == 0
    assert found.high == -found.low == pytest.approx(1.96 * math.sqrt(2) / 100)


def test_other_images_are_no_pairs(table_1):
    with pytest.raises(ValueError, match="other images"):
        table_1.difference([{1: 1.0}], [{2: 1.0}])


def test_all_rows_have_the_same_number_of_epochs(table_1, tmp_path):
    bench = table_1.Bench(tmp_path, tmp_path, table_1.EPOCHS)
    for row in table_1.ROWS:
        method = bench.method(row, 1)
        recipe = method.recipe
        pretraining = recipe.pretrain.epochs if method.pretrains else 0
        assert pretraining + recipe.finetune.epochs == 18
        assert pretraining in (0, 12)
        assert recipe.system.seed == 1
        assert [attack.limit for attack in recipe.attack] == [64]
        assert ("certify" in method.stages) == (recipe.noise.name != "none")
        assert recipe.pretrain.batch_size == recipe.finetune.batch_size == 128


def test_what_shares_an_encoder_or_needs_one_waits_for_it(table_1, tmp_path):
    bench = table_1.Bench(tmp_path, tmp_path, table_1.EPOCHS)
    waves = {(row.recipe, row.variant): bench.method(row, 0).wave for row in table_1.ROWS}
    assert {place for place, wave in waves.items() if wave} == {
        ("advcl-digits", ""),
        ("advcl-digits", "aff"),
        ("deacl-digits", ""),
    }
    (aff,) = (bench.method(row, 0) for row in table_1.ROWS if row.variant)
    assert aff.stages[0] == "finetune"
    assert aff.folder("pretrain") == tmp_path / "seed-0" / "advcl-digits" / "pretrain"
    assert aff.folder("finetune") == tmp_path / "seed-0" / "advcl-digits-aff" / "finetune"


def test_the_page_has_the_marks(table_1):
    text = (FILE.parents[1] / "docs" / "results.md").read_text()
    begin, end = table_1.MARK
    assert text.index(begin) < text.index(end)
