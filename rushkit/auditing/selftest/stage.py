"""Let the audit audit planted defences and attacks of which it is known whether they are broken, weak or sound.

Each case is built, trained and audited by one rank alone, and its row is logged as soon as it is there, so a stopped
self-test goes on with the next case. A row is a function of the case and the seed, whoever computes it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from pydantic import ValidationError

import rushkit
from rushkit.auditing.checks.checklist import CHECKS, check_all
from rushkit.auditing.given import Given
from rushkit.auditing.measure import Measured, Point, measure
from rushkit.auditing.plan import Settings
from rushkit.auditing.scoring import score
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.cases import choose
from rushkit.auditing.selftest.claimed import adaptive, naive
from rushkit.auditing.selftest.ground import CLASSES, SIDE, Ground
from rushkit.auditing.selftest.totals import totals_of
from rushkit.distributed import ranks
from rushkit.errors import NumericsError
from rushkit.files import JSON
from rushkit.models.draws import global_draws
from rushkit.recipe.schema import Data, Recipe, System
from rushkit.results.notes import Check, Status
from rushkit.results.records import first_problem
from rushkit.results.selftest import SelfTest, SelfTestBudgets, SelfTestRow, does_count, is_caught
from rushkit.run.folder import Run
from rushkit.run.log_checks import Record, demand
from rushkit.setup.resumable import Line, Made, SharedLog, Work, resumable
from rushkit.setup.start import run_or_new
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

NAME = "self-test"
# Test images that each audit looks at, the default of ``rushkit audit``.
IMAGES = 64
# Test images of the attacks behind a claim, and of those that refute it.
CLAIM_IMAGES = 128
_LOG = "self-test.jsonl"


def self_test(
    recipe: Recipe | None = None,
    names: Sequence[str] = (),
    run: Run | None = None,
    cases: Sequence[Case] | None = None,
) -> SelfTest:
    """Audit planted defences and attacks, and count which of them the audit flags, for the right cause or not.

    Example::

        results = self_test(names=["rounding", "linear"])
        for row in results.cases:
            print(row.name, row.kind, row.failed, row.caught)

    Args:
        recipe: Its ``system.seed`` seeds every network and every draw; None means seed 0. All else of it is unused:
            the networks are small, and train on the CPU in float32.
        names: The cases to audit; none means all.
        run: The run that rows and results.json are written to; a stopped run is resumed. None starts a new one.
        cases: The cases to choose from; None means those of the self-test.

    Returns:
        The contents of results.json, where ``cases`` has a row for each case, ``totals`` a line for each group of them.

    Raises:
        UsageError: there is no case of a name.
        Interrupted: a signal asked to stop; the rows of finished cases are kept.
    """
    recipe, chosen = recipe or self_test_recipe(), choose(names, cases)
    seed = recipe.system.seed
    with run_or_new(run, "audit", recipe) as run:
        log = SharedLog(run, _LOG, _rows_depend_on(chosen, seed), partial(_check_rows, chosen), units=lambda line: 1)
        run.speaker.say(
            f"self-test: {len(chosen)} case{'s' * (len(chosen) != 1)} on the embedded digits, seed {seed}, cpu, float32"
        )
        with (
            _one_thread(),
            resumable(
                run,
                log,
                verb="audit",
                label=NAME,
                unit="cases",
                total=len(chosen),
                kept=lambda done: f"the rows of {len(log.lines)} of {len(chosen)} cases are kept",
                notice="stopping",
            ) as work,
        ):
            part = work.part()
            ground = Ground(seed, part.pause)

            def make(case: Case) -> Made:
                with ranks.alone(), part.stopping():
                    return Made(examine(case, ground, part).to_table())

            for line in work.in_rounds(chosen[len(log.lines) :], make):
                run.speaker.detail(_outcome(SelfTestRow(**line)))
        rows = [SelfTestRow(**line) for line in log.lines]
        results = SelfTest(
            seed=seed,
            budgets=_budgets(seed),
            checks=_codes(),
            cases=rows,
            totals=totals_of([row.flagged for row in rows]),
        )
        return run.write_results(results)


def self_test_recipe(seed: int = 0, **system: str) -> Recipe:
    """Return the recipe of a self-test: the digits, on the CPU in float32.

    Args:
        seed: Seed of all networks and draws.
        **system: Further keys of the section system, such as ``runs_dir``.
    """
    where = System(seed=seed, device="cpu", precision="float32", compile="off", **system)  # type: ignore[arg-type]
    return Recipe(name=NAME, data=Data(name="digits", image_size=SIDE), system=where)


def examine(case: Case, ground: Ground, work: Work | None = None) -> SelfTestRow:
    """Build a case, attack it as its claim does, and audit it by default settings on the first 64 test images.

    Args:
        case: The case.
        ground: The data and the networks that cases share.
        work: Stops between two measurements if asked to.
    """
    started = time.perf_counter()
    try:
        planted = case.build(ground)
    except NumericsError as error:
        figures = _Figures(problem=error.message)
    else:
        figures = _measured(case, planted, ground, work)
    failed = figures.with_status("fail")
    return SelfTestRow(
        name=case.name,
        kind=case.kind,
        held_out=case.held_out,
        norm=case.norm,
        eps=case.eps,
        causes=list(case.causes),
        clean=figures.clean,
        claimed=figures.claimed,
        adaptive=figures.adaptive,
        left=figures.left,
        failed=failed,
        warned=figures.with_status("warn"),
        skipped=figures.with_status("skipped"),
        caught=is_caught(case.causes, failed),
        counts=does_count(case.kind, figures.clean),
        problem=figures.problem,
        passes=figures.passes,
        seconds=round(time.perf_counter() - started, 2),
    )


@dataclass(frozen=True)
class _Figures:
    """The figures of a case; those of a case that could not be built are empty. The fields are as in the row."""

    clean: float | None = None
    claimed: float | None = None
    adaptive: float | None = None
    left: float | None = None
    checks: Sequence[Check] = ()
    problem: str = ""
    passes: int = 0

    def with_status(self, status: Status) -> list[str]:
        """Return the codes of the checks with a status."""
        return [check.code for check in self.checks if check.status == status]


def _measured(case: Case, planted: Planted, ground: Ground, work: Work | None) -> _Figures:
    """Measure what a case has been built to show, each figure on a copy of its own: a defence may remember queries."""
    settings = _settings(case, derived_seed(ground.seed, f"self-test {case.name}"))
    x, y = ground.test
    # A model that is random by itself draws from the global generators.
    with global_draws(settings.seed, "self-test clean"):
        right = score(_classifier(copy.deepcopy(planted)), x, y, 1, settings.seed, "clean").share
    given = Given(classes=CLASSES, training=ground.train, attack=planted.attack)
    measured = measure(_classifier(copy.deepcopy(planted)), x[:IMAGES], y[:IMAGES], settings, given, work)
    # A weak attack is itself what the claim rests on.
    claimed = _of_all(measured.rival("losses"), measured) if case.kind == "weak" else None
    few, labels = x[:CLAIM_IMAGES], y[:CLAIM_IMAGES]
    return _Figures(
        clean=math.fsum(right) / len(right),
        claimed=naive(case, copy.deepcopy(planted), few, labels, ground.seed) if claimed is None else claimed,
        adaptive=adaptive(case, copy.deepcopy(planted), few, labels, ground.seed),
        left=_of_all(measured.strongest, measured),
        checks=check_all(measured),
        problem=measured.problem,
        passes=measured.passes,
    )


def _classifier(planted: Planted) -> SmoothedClassifier:
    return SmoothedClassifier(planted.model, planted.noise, planted.samples, seed=0)


def _of_all(point: Point | None, measured: Measured) -> float | None:
    """Return the accuracy under one attack out of all images, those that were wrong before it included."""
    return None if point is None else math.fsum(point.share) / measured.images


def _settings(case: Case, seed: int) -> Settings:
    return Settings(case.norm, case.eps, seed=seed)


def _budgets(seed: int) -> SelfTestBudgets:
    default = Settings("linf", 0.1, seed=seed)
    return SelfTestBudgets(
        images=IMAGES, steps=default.steps, eot=default.eot, queries=default.queries, planted=default.planted
    )


def _codes() -> list[str]:
    return [code for code, *_ in CHECKS]


def _outcome(row: SelfTestRow) -> str:
    """Return what is said of a case as soon as it is audited."""
    return f"{row.name}: fails {', '.join(row.failed) or 'no check'}; {row.seconds:.0f} s"


def _rows_depend_on(chosen: Sequence[Case], seed: int) -> dict[str, JSON]:
    """Return everything that the rows depend on; resuming requires that none of it has changed."""
    return {
        "version": rushkit.__version__,
        "seed": seed,
        "cases": [case.name for case in chosen],
        "checks": [*_codes()],
        "budgets": _budgets(seed).to_table(),
    }


def _check_rows(chosen: Sequence[Case], subject: Record, lines: Sequence[Line]) -> None:
    """Check logged rows. Raises ValueError unless they are rows of the first cases, in order."""
    demand(len(lines) <= len(chosen), "it has more rows than there are cases")
    for case, line in zip(chosen, lines, strict=False):
        try:
            row = SelfTestRow.model_validate(line)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error
        demand(row.name == case.name, f"its rows are not in the order of the cases: {row.name} for {case.name}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: a sum over several is rounded differently, and the networks are too small to gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
