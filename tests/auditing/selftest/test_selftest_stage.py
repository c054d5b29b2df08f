"""The stage of the self-test: its verdicts on cases whose verdicts are known, stops, ranks, and the choice of cases."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from fake_cases import CASES, COLLAPSED, SOUND, STANDING, UNTRAINED, WRONG_CAUSE, ZERO_SLOPE, untrained
from gloo_ranks import run_ranks
from torch import nn

from rushkit.auditing.attacks import Attacks
from rushkit.auditing.selftest import stage
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.cases import choose
from rushkit.auditing.selftest.ground import Ground, convolutional
from rushkit.auditing.selftest.stage import self_test, self_test_recipe
from rushkit.errors import Interrupted, RushkitError, UsageError
from rushkit.results import read
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run

QUIET = Speaker(-1)
# Enough for the verdicts below.
FEW = 24


def without_times(results):
    """The record, without what no two runs share."""
    rows = [row.with_changes(seconds=0.0) for row in results.cases]
    return results.with_changes(cases=rows, run="")


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """Audits of a few images, which take a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "IMAGES", FEW)
        yield


def begun(folder, seed=0):
    return start_run("audit", self_test_recipe(seed, runs_dir=str(folder)), QUIET)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All fake cases, in one go."""
    before = torch.get_rng_state()
    with begun(tmp_path_factory.mktemp("runs")) as run:
        results = self_test(self_test_recipe(), run=run, cases=CASES)
    assert torch.equal(torch.get_rng_state(), before)
    return results


def test_every_case_gets_the_verdict_that_it_has(whole):
    rows = {row.name: row for row in whole.cases}
    assert list(rows) == [case.name for case in CASES]
    assert {name: row.caught for name, row in rows.items() if row.kind != "sound"} == {
        "zero-slope": True,
        "other-cause": False,
        "standing": True,
    }
    assert "RK104" in rows["other-cause"].failed
    assert rows["linear"].failed == []
    assert (rows["linear"].counts, rows["untrained"].counts) == (True, False)
    assert rows["untrained"].clean < 0.3 < 0.8 < rows["linear"].clean


def test_a_case_whose_training_fails_is_a_row_and_in_no_total(tmp_path):
    with begun(tmp_path) as run:
        results = self_test(self_test_recipe(), run=run, cases=[COLLAPSED])
    (row,) = results.cases
    assert (row.clean, row.counts, row.problem) == (None, False, "the training collapsed")
    assert results.totals == []


class Remembering(nn.Module):
    """A linear network that counts the images it has seen."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, 0

    def forward(self, x):
        self.seen += len(x)
        return self.network(x)


def test_no_figure_of_a_case_depends_on_the_queries_of_another(monkeypatch):
    network = Remembering(untrained(Ground(0)))
    planted = Planted(network, stand_in=network)
    seen = {}

    def watched(name, model_of):
        original = getattr(stage, name)

        def measuring(*arguments):
            model = model_of(*arguments)
            before = model.seen
            figure = original(*arguments)
            seen[name] = (before, model.seen > before)
            return figure

        monkeypatch.setattr(stage, name, measuring)

    for name in ("score", "measure"):
        watched(name, lambda g, *rest: g.model)
    for name in ("naive", "adaptive"):
        watched(name, lambda case, planted, *rest: planted.model)
    stage.examine(Case("remembers", "broken", "linf", 0.05, lambda ground: planted), Ground(0))
    assert seen == dict.fromkeys(("score", "measure", "naive", "adaptive"), (0, True))


def test_the_record_is_what_the_run_holds(whole):
    assert read(whole.run) == whole


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that was asked to stop in the audit of its third case."""
    original, audits = stage.measure, 0

    def measure(*arguments, **options):
        nonlocal audits
        audits += 1
        if audits == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "measure", measure)
        with pytest.raises(Interrupted) as raised, begun(tmp_path) as run:
            self_test(self_test_recipe(), run=run, cases=CASES)
    assert "the rows of 2 of 5 cases are kept" in raised.value.message
    assert f"rushkit audit --resume --run {run.path}" in raised.value.hint
    return run.path


def test_a_stopped_self_test_goes_on_to_the_record_of_one_run_through(stopped, whole, monkeypatch):
    audited, original = [], stage.examine
    monkeypatch.setattr(stage, "examine", lambda case, *rest: audited.append(case.name) or original(case, *rest))
    with Run.open(stopped, QUIET) as run:
        results = self_test(self_test_recipe(), run=run, cases=CASES)
    assert audited == ["standing", "linear", "untrained"]
    assert without_times(results) == without_times(whole)


@pytest.mark.parametrize("stops, error", [(True, Interrupted), (False, ValueError)])
def test_a_stop_that_an_error_hides_is_a_stop_and_any_other_error_is_not(tmp_path, monkeypatch, stops, error):
    def measure(*arguments):
        if stops:
            os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("made of it by an attack")

    monkeypatch.setattr(stage, "measure", measure)
    with pytest.raises(error), begun(tmp_path) as run:
        self_test(self_test_recipe(), run=run, cases=[UNTRAINED])


def test_a_stop_does_not_wait_for_the_measurements_that_are_left(tmp_path, monkeypatch):
    measured, original = [], Attacks.measure

    def measure(self, measurement):
        measured.append(measurement.label)
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, measurement)

    monkeypatch.setattr(Attacks, "measure", measure)
    with pytest.raises(Interrupted), begun(tmp_path) as run:
        self_test(self_test_recipe(), run=run, cases=[SOUND])
    assert len(measured) == 1


def test_a_stop_does_not_wait_for_the_epochs_that_are_left(tmp_path):
    epochs = []

    def build(ground):
        def at_epoch(network, epoch):
            epochs.append(epoch)
            os.kill(os.getpid(), signal.SIGTERM)

        return Planted(ground.trained(convolutional, "stopped", epochs=5, at_epoch=at_epoch))

    with pytest.raises(Interrupted), begun(tmp_path) as run:
        self_test(self_test_recipe(), run=run, cases=[replace(SOUND, build=build)])
    assert epochs == [0]


def test_the_bar_counts_cases_whatever_an_audit_counts(tmp_path, monkeypatch):
    works, original = [], stage.resumable

    @contextmanager
    def watched(*arguments, **options):
        with original(*arguments, **options) as work:
            works.append(work)
            yield work

    monkeypatch.setattr(stage, "resumable", watched)
    with begun(tmp_path) as run:
        self_test(self_test_recipe(), run=run, cases=[UNTRAINED])
    assert [(work.bar.done, work.bar.total) for work in works] == [(1, 1)]


def test_rows_of_other_cases_are_not_taken(whole):
    with pytest.raises(RushkitError, match=r"self-test\.jsonl"), Run.open(whole.run, QUIET) as run:
        self_test(self_test_recipe(), run=run, cases=CASES[1:])


def test_rows_that_no_self_test_wrote_are_refused(whole):
    lines = [row.to_table() for row in whole.cases]
    check = partial(stage._check_rows, CASES, {})
    check(lines[:2])
    for wrong, reason in (
        ([*lines, lines[0]], "more rows"),
        (lines[1:], "order of the cases"),
        ([lines[0] | {"caught": False}], "caught does not follow"),
    ):
        with pytest.raises(ValueError, match=reason):
            check(wrong)


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with stage._one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_the_seed_makes_other_networks(whole, tmp_path):
    with begun(tmp_path, seed=1) as run:
        results = self_test(self_test_recipe(1), names=["untrained"], run=run, cases=CASES)
    assert results.seed == 1
    assert results.cases[0].clean != whole.cases[-1].clean


def test_two_ranks_find_what_one_finds(whole, tmp_path):
    run_ranks(_on_a_rank, 2, str(tmp_path))
    (run,) = tmp_path.iterdir()
    # Three cases: the second round has work for one rank alone.
    assert [row.with_changes(seconds=0.0) for row in read(run).cases] == without_times(whole).cases[2:]


def _on_a_rank(folder):
    stage.IMAGES = FEW
    with begun(folder) as run:
        self_test(self_test_recipe(), run=run, cases=CASES[2:])


def test_cases_are_chosen_by_name_and_keep_their_order():
    assert choose(["linear", "zero-slope", "linear"], CASES) == [ZERO_SLOPE, SOUND]
    assert choose([], CASES) == [ZERO_SLOPE, WRONG_CAUSE, STANDING, SOUND, UNTRAINED]


def test_an_unknown_case_is_named_with_the_nearest():
    with pytest.raises(UsageError, match="'zero-slop'") as raised:
        choose(["zero-slop"], CASES)
    assert "did you mean --case zero-slope?" in raised.value.hint
    with pytest.raises(UsageError) as raised:
        choose(["qqq"], CASES)
    assert "there are: 'zero-slope', 'other-cause'" in raised.value.hint


def test_two_cases_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two cases"):
        choose([], [SOUND, SOUND])


def test_the_cases_of_rushkit_have_names_of_their_own():
    choose([])
