"""benchmarks/hit_rate.py merges self-tests that differ in their seed alone, into a file that reads back."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from rushkit.auditing.selftest.totals import totals_of
from rushkit.errors import UsageError
from rushkit.results.hit_rate import HitRate
from rushkit.results.selftest import SelfTest, SelfTestBudgets, SelfTestRow

FILE = Path(__file__).parents[2] / "benchmarks" / "hit_rate.py"
BUDGETS = SelfTestBudgets(images=64, steps=20, eot=10, queries=200, planted=8)


@pytest.fixture(scope="module")
def hit_rate():
    spec = importlib.util.spec_from_file_location("hit_rate", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["hit_rate"] = module
    spec.loader.exec_module(module)
    return module


def self_test(seed, *failed, names=("rounding",), checks=("RK104", "RK107"), eps=0.1):
    rows = [
        SelfTestRow(
            name=name, kind="broken", held_out=False, norm="linf", eps=eps, causes=["RK104"], clean=0.9 + seed / 100,
            claimed=0.9, adaptive=0.05, left=0.1, failed=list(failed), warned=[], skipped=[], caught="RK104" in failed,
            counts=True, passes=10, seconds=1.0,
        )
        for name in names
    ]  # fmt: skip
    totals = totals_of([row.flagged for row in rows])
    return SelfTest(seed=seed, budgets=BUDGETS, checks=list(checks), cases=rows, totals=totals)


def test_a_case_has_an_outcome_for_each_seed_and_the_least_that_is_left(hit_rate):
    figures = hit_rate.merged([self_test(1, "RK104"), self_test(2, "RK107")])
    (row,) = figures.cases
    assert [outcome.failed for outcome in row.seeds] == [["RK104"], ["RK107"]]
    assert [outcome.clean for outcome in row.seeds] == [0.91, 0.92]
    assert {outcome.left for outcome in row.seeds} == {0.05}
    assert (figures.faults(held_out=False), figures.seeds) == ((0, 1), [1, 2])


def test_the_file_reads_back_and_has_a_line_for_each_case(hit_rate):
    figures = hit_rate.merged([self_test(1, "RK104", names=("rounding", "saturated"))])
    text = hit_rate.text_of(figures)
    assert HitRate.model_validate(json.loads(text)) == figures
    assert sum('"name"' in line for line in text.splitlines()) == 2


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (self_test(1), "two self-tests have one seed"),
        (self_test(2, names=("other",)), "other cases"),
        (self_test(2, checks=("RK104",)), "other cases, checks"),
        (self_test(2, eps=0.2), "other cases"),
    ],
)
def test_what_differs_in_more_than_its_seed_is_refused(hit_rate, other, reason):
    with pytest.raises(UsageError, match=reason):
        hit_rate.merged([self_test(1), other])
