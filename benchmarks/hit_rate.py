"""Merge self-tests of the audit with different seeds into the file of figures that rushkit ships.

    for seed in 11 12 13; do rushkit audit --self-test --nproc 2 --set system.seed=$seed; done
    python benchmarks/hit_rate.py runs/*-audit-self-test-*
    python docs/generate.py

A fault counts as caught if it is caught on every seed, a sound model as a false alarm if it is one on any.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rushkit
from rushkit.auditing.selftest.totals import totals_of
from rushkit.errors import UsageError
from rushkit.results.hit_rate import HIT_RATE_FILE, HitRate, HitRow, SeedOutcome
from rushkit.results.selftest import SelfTest, SelfTestRow


def merged(tests: Sequence[SelfTest]) -> HitRate:
    """Return the figures of self-tests, which differ in their seed alone.

    Raises:
        UsageError: two have one seed, or they have other cases, checks or budgets.
    """
    first, seeds = tests[0], [test.seed for test in tests]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"two self-tests have one seed: {', '.join(map(str, seeds))}", "name one run for each seed")
    for test in tests[1:]:
        same = (test.checks, test.budgets, list(map(_same, test.cases)))
        if same != (first.checks, first.budgets, list(map(_same, first.cases))):
            raise UsageError(f"the self-test of seed {test.seed} has other cases, checks or budgets", "run it again")
    rows = [_row([test.cases[place] for test in tests]) for place in range(len(first.cases))]
    return HitRate(
        rushkit=rushkit.__version__,
        seeds=seeds,
        budgets=first.budgets,
        checks=first.checks,
        cases=rows,
        totals=totals_of([row.flagged for row in rows]),
    )


def _row(rows: Sequence[SelfTestRow]) -> HitRow:
    return HitRow(**_same(rows[0]), seeds=[_outcome(row) for row in rows])


def _same(row: SelfTestRow) -> dict[str, Any]:
    """Return what a case has in common on every seed."""
    return {name: getattr(row, name) for name in HitRow.model_fields if name != "seeds"}


def _outcome(row: SelfTestRow) -> SeedOutcome:
    left = min((share for share in (row.adaptive, row.left) if share is not None), default=None)
    same = {name: getattr(row, name) for name in SeedOutcome.model_fields if name != "left"}
    return SeedOutcome(**same | {"clean": None if row.clean is None else round(row.clean, 4), "left": left})


def text_of(figures: HitRate) -> str:
    """Return the text of the file: one line for each case, so that a change shows in a comparison."""
    table = figures.to_table()
    cases, others = table.pop("cases"), json.dumps(table, indent=1)
    assert isinstance(cases, list)
    lines = ",\n".join(f"  {json.dumps(case)}" for case in cases)
    return f'{others[:-2]},\n "cases": [\n{lines}\n ]\n}}\n'


def main() -> None:
    """Read the runs, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of self-tests")
    parser.add_argument("--out", type=Path, default=HIT_RATE_FILE)
    arguments = parser.parse_args()
    tests = [rushkit.results.read(run) for run in arguments.runs]
    wrong = [run for run, test in zip(arguments.runs, tests, strict=True) if not isinstance(test, SelfTest)]
    if wrong:
        raise SystemExit(f"{wrong[0]} holds no results of a self-test")
    figures = merged([test for test in tests if isinstance(test, SelfTest)])
    arguments.out.write_text(text_of(figures), encoding="utf-8")
    print(f"{arguments.out}: {len(figures.cases)} cases on {len(figures.seeds)} seeds")


if __name__ == "__main__":
    main()
