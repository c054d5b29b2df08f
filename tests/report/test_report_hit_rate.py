"""The sentence on an audit says how often its checks find a fault, where that was measured of such an audit."""

from __future__ import annotations

import pytest
from synthetic_runs import audited

from rushkit.auditing.selftest.totals import totals_of
from rushkit.report import hit_rate
from rushkit.report.hit_rate import hit_rate_words
from rushkit.report.terminal.headline import figures
from rushkit.report.terminal.tables import record_table
from rushkit.results.hit_rate import HitRate, HitRow, SeedOutcome
from rushkit.results.selftest import SelfTestBudgets

CODES = ["RK101", "RK102", "RK103"]
BUDGETS = SelfTestBudgets(images=12, steps=20, eot=10, queries=200, planted=8)
SENTENCE = (
    "passes 2 checks, which found 1 of 2 planted faults, and 1 of 1 that were devised after the thresholds were fixed"
)


def outcome(*failed, causes=(), skipped=("RK103",), clean=0.9):
    return SeedOutcome(
        clean=clean,
        claimed=0.9,
        left=0.1,
        failed=list(failed),
        warned=[],
        skipped=list(skipped),
        caught=not set(causes).isdisjoint(failed),
        counts=clean > 0.8,
    )


def row(name, kind, *outcomes, held_out=False):
    causes = [] if kind == "sound" else ["RK101"]
    return HitRow(name=name, kind=kind, held_out=held_out, norm="linf", eps=0.1, causes=causes, seeds=list(outcomes))


def caught(*failed):
    return outcome(*failed, causes=["RK101"])


ROWS = [
    row("on both seeds", "broken", caught("RK101"), caught("RK101", "RK102")),
    row("on one seed", "weak", caught("RK101"), caught("RK102")),
    row("held out", "broken", caught("RK101"), caught("RK101"), held_out=True),
    row("quiet", "sound", outcome(), outcome()),
    row("alarm on one seed", "sound", outcome(), outcome("RK102")),
    row("collapsed on one seed", "sound", outcome(), outcome("RK102", clean=0.1)),
]


def measured(rows=ROWS, **changes):
    totals = totals_of([each.flagged for each in rows])
    table = {"rushkit": "0", "seeds": [1, 2], "budgets": BUDGETS, "checks": CODES, "cases": rows, "totals": totals}
    return HitRate(**table | changes)


@pytest.fixture
def shipped(monkeypatch):
    """``shipped(figures)``: rushkit ships these figures."""

    def ship(figures):
        monkeypatch.setattr(hit_rate, "shipped_hit_rate", lambda: figures)

    ship(measured())
    return ship


def test_a_fault_counts_as_found_if_it_is_found_on_every_seed():
    figures = measured()
    assert (figures.faults(held_out=False), figures.faults(held_out=True)) == ((1, 2), (1, 1))


def test_a_sound_model_is_an_alarm_if_it_is_one_on_a_seed_on_which_it_counts():
    assert measured().false_alarms == (1, 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seeds": [1, 2, 3]}, "one outcome for each seed"),
        ({"totals": totals_of([each.flagged for each in ROWS[1:]])}, "totals are not those"),
        ({"checks": ["RK102", "RK103"]}, "on both seeds has a check that is not among the checks: RK101"),
    ],
)
def test_figures_that_contradict_their_rows_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        measured(**changes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"caught": False}, "caught does not follow"), ({"counts": True, "clean": None}, "counts does not follow")],
)
def test_an_outcome_follows_from_its_checks(change, reason):
    with pytest.raises(ValueError, match=reason):
        row("contradicted", "broken", caught("RK101").with_changes(**change))


def test_an_audit_that_passes_says_what_its_checks_find(shipped):
    audit = audited("pass", "pass", "skipped")
    assert hit_rate_words(audit) == SENTENCE
    assert figures(audit)[1] == f"this audit {SENTENCE}"
    assert f"this audit {SENTENCE}\n" in str(record_table(audit).renderables[1])


def test_an_audit_that_fails_says_how_often_such_checks_fail_for_no_reason(shipped):
    assert hit_rate_words(audited("pass", "fail", "skipped")) == "in the self-test a check fails on 1 of 3 sound models"


def less(audit, **settings):
    return audit.with_changes(settings=audit.settings.with_changes(**settings))


@pytest.mark.parametrize(
    "audit",
    [
        audited("pass", "pass"),
        audited("pass", "pass", "skipped", "pass"),
        audited("skipped", "pass", "skipped"),
        less(audited("pass", "pass", "skipped"), steps=19),
        less(audited("pass", "pass", "skipped"), eot=9),
        less(audited("pass", "pass", "skipped"), queries=199),
        less(audited("pass", "pass", "skipped"), planted=7),
        audited("pass", "pass", "skipped").with_changes(images=11),
    ],
    ids=["fewer checks", "more checks", "skips more", "steps", "draws", "queries", "planted", "images"],
)
def test_figures_of_another_audit_are_not_quoted(shipped, audit):
    assert hit_rate_words(audit) == ""


def test_without_figures_nothing_is_said(shipped):
    shipped(None)
    assert hit_rate_words(audited("pass", "pass", "skipped")) == ""


def test_an_audit_that_spends_more_may_quote_them(shipped):
    assert hit_rate_words(less(audited("pass", "pass", "skipped"), steps=40, queries=1000)) == SENTENCE


def test_the_check_of_a_claim_is_left_out_for_the_self_test_claims_nothing(shipped):
    codes = [f"RK{101 + index}" for index in range(27)]
    shipped(measured(checks=codes))
    statuses = ["pass", "pass", "skipped", *["pass"] * 23]
    words = {claim: hit_rate_words(audited(*statuses, claim)) for claim in ("skipped", "pass", "fail")}
    assert words["pass"] == words["fail"] == SENTENCE.replace("2 checks", "25 checks", 1)
