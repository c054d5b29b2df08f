"""The record of a self-test: what follows from its rows, and what contradicts them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rushkit.auditing.selftest.totals import rate, totals_of
from rushkit.results import dump, parse
from rushkit.results.selftest import SelfTest, SelfTestBudgets, SelfTestRow

CHECKS = ["RK104", "RK107", "RK112"]


def row(name, kind="broken", failed=(), clean=0.95, held_out=False, **changes):
    causes = [] if kind == "sound" else ["RK104", "RK112"]
    table = {
        "name": name,
        "kind": kind,
        "held_out": held_out,
        "norm": "linf",
        "eps": 0.1,
        "causes": causes,
        "clean": clean,
        "claimed": 0.9,
        "adaptive": None,
        "left": 0.1,
        "failed": list(failed),
        "warned": [],
        "skipped": [],
        "caught": not set(causes).isdisjoint(failed),
        "counts": kind != "sound" or clean > 0.8,
        "passes": 10,
        "seconds": 1.0,
    }
    return SelfTestRow(**table | changes)


ROWS = [
    row("caught", failed=["RK112"]),
    row("wrong cause", failed=["RK107"]),
    row("missed"),
    row("weak", "weak", failed=["RK104"], held_out=True),
    row("quiet", "sound", warned=["RK107"]),
    row("alarm", "sound", failed=["RK107"]),
    row("collapsed", "sound", failed=["RK104"], clean=0.1),
]
BUDGETS = SelfTestBudgets(images=64, steps=20, eot=10, queries=200, planted=8)


def totals(rows):
    return totals_of([row.flagged for row in rows])


def record(rows=ROWS, **changes):
    return SelfTest(
        **{"seed": 3, "budgets": BUDGETS, "checks": CHECKS, "cases": rows, "totals": totals(rows)} | changes
    )


def test_the_groups_are_counted_apart():
    broken, sound, weak = record().totals
    assert (broken.kind, broken.held_out, sound.kind, weak.kind, weak.held_out) == (
        "broken",
        False,
        "sound",
        "weak",
        True,
    )
    assert (broken.caught.count, broken.failed.count, broken.caught.total) == (1, 2, 3)
    assert (weak.caught.count, weak.caught.total) == (1, 1)


def test_a_sound_model_that_does_not_classify_is_in_no_total():
    sound = record().totals[1]
    assert (sound.caught, sound.failed.count, sound.failed.total, sound.warned.count) == (None, 1, 2, 1)


def test_intervals_are_wilsons():
    # 11 of 24 and 0 of 11, as in the issue that asked for the self-test.
    assert [round(100 * end) for end in (rate(11, 24).low, rate(11, 24).high)] == [28, 65]
    assert [round(100 * end) for end in (rate(0, 11).low, rate(0, 11).high)] == [0, 26]


def test_the_record_is_written_as_it_is_read():
    text = dump(record())
    assert dump(parse(text)) == text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"totals": totals(ROWS[1:])}, "totals are not those"),
        ({"totals": totals(ROWS)[1:]}, "totals are not those"),
        ({"totals": totals(ROWS)[::-1]}, "totals are not those"),
        ({"checks": ["RK104", "RK107"]}, "caught has a check that is not among the checks: RK112"),
        ({"cases": [*ROWS, ROWS[0]], "totals": totals([*ROWS, ROWS[0]])}, "listed twice"),
        ({"totals": [*totals(ROWS), totals(ROWS)[0]]}, "totals are not those"),
        ({"totals": []}, "totals are not those"),
        ({"cases": [], "totals": []}, "at least 1"),
    ],
)
def test_what_contradicts_the_rows_is_refused(change, reason):
    with pytest.raises(ValidationError, match=reason):
        record(**change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"caught": True}, "caught does not follow"),
        ({"failed": ["RK104"]}, "caught does not follow"),
        ({"counts": False}, "counts does not follow"),
        ({"kind": "sound", "causes": [], "clean": 0.8, "counts": True}, "counts does not follow"),
    ],
)
def test_a_row_says_of_itself_what_its_checks_say(change, reason):
    with pytest.raises(ValidationError, match=reason):
        row("missed").with_changes(**change)
