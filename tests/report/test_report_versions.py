"""Rows of another version or effort of a protocol: marked wherever they are shown, and never mixed with others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_runs import EPS, attack_row, attacks

from rushkit.report.compare import significance
from rushkit.report.families import gather
from rushkit.report.measured import against_eps, attack_rows, table_1
from rushkit.report.protocols import attack_pairs, attacks_of, protocol_words, upper_bounds
from rushkit.report.search import change_words, convergence_note, definition_note, has_converged, passes_an_image
from rushkit.report.sheets.sheet import sheet_of
from rushkit.report.tables.attacks import attacks_table
from rushkit.report.terminal.headline import headline
from rushkit.results.attacks import variant_words
from rushkit.results.rounds import AttackRound, Change

CLIMB = AttackRound(
    method="falling",
    loss="margin",
    steps=20,
    draws=16,
    most_draws=64,
    start="best",
    doubling=2,
    momentum=0.75,
    step_size=0.5,
    offered=[10, 15, 20],
)


def measured(*rows):
    return attacks_of("run", attacks(*rows))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "strict"),
        ({"version": 1}, "strict version 1"),
        ({"effort": 4}, "strict effort 4"),
        ({"version": 1, "effort": 2}, "strict version 1 effort 2"),
        ({"protocol": "paper"}, "paper"),
    ],
)
def test_a_row_is_called_by_version_and_effort_where_they_are_not_the_usual(facts, words):
    row = attack_row([1], **facts)
    assert variant_words(row) == protocol_words(row) == words


def test_rows_of_other_versions_or_efforts_never_share_a_line():
    paper, old, new, more = (
        attack_row([1, 1], "paper"),
        attack_row([10, 10], version=1),
        attack_row([10, 0]),
        attack_row([0, 0], effort=2),
    )
    pairs = attack_pairs(measured(old, paper, new, more))
    assert [[variant_words(row.record) for row in pair.values()] for pair in pairs] == [
        ["strict version 1", "paper"],
        ["strict"],
        ["strict effort 2"],
    ]


def test_a_weaker_row_does_not_stand_beside_a_strict_one_of_another_version():
    weaker = attack_row([10], "weaker", deviations=[{"name": "steps", "value": 1, "own": 40, "weaker": True}])
    assert len(attack_pairs(measured(attack_row([10], version=1), weaker))) == 2
    assert len(attack_pairs(measured(attack_row([10]), weaker))) == 1


def test_of_runs_of_several_versions_each_has_a_row_of_its_own(runs):
    model = runs.model()
    for facts in ({"version": 1}, {}, {"effort": 2}):
        runs.add("attack", model, attacks(attack_row([10, 0], **facts)))
    family = gather(model)
    rows = attack_rows(family)
    assert sorted(variant_words(row.record) for row in rows) == ["strict", "strict effort 2", "strict version 1"]
    assert {row.chosen_from for row in rows} == {1}
    (row,) = table_1(family, None, None)
    # Of the newest version the greatest effort, and it says so.
    assert row.pgd["strict"].settings == "effort 2"


def test_an_earlier_version_stands_in_table_1_where_there_is_no_other_and_is_marked(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([10, 0], version=1)))
    family = gather(model)
    (row,) = table_1(family, None, None)
    assert row.pgd["strict"].settings == "version 1"


def test_a_row_of_an_earlier_version_is_quoted_only_where_it_leaves_less():
    new, lower, higher = attack_row([10, 0]), attack_row([0, 0], version=1), attack_row([10, 10], version=1)
    rows = measured(new, lower, higher)
    assert upper_bounds(rows) == rows[:2]
    assert headline(attacks(new, lower)).words.startswith("0.0 % pgd l-inf 8/255 strict version 1, m = 64")
    assert headline(attacks(new, higher)).words.startswith("50.0 % pgd l-inf 8/255 strict, m = 64")


def test_curves_against_eps_do_not_mix_efforts():
    rows = measured(attack_row([10], eps=EPS), attack_row([0], eps=2 * EPS), attack_row([0], eps=3 * EPS, effort=2))
    (series,) = against_eps(rows)
    assert [point.eps for point in series.points] == [0, EPS, 2 * EPS]


def test_models_are_compared_by_attacks_of_the_same_version_and_effort_alone(runs):
    models = [runs.model(), runs.model()]
    for model, facts in zip(models, ({"version": 1}, {}), strict=True):
        runs.add("attack", model, attacks(attack_row([10, 0], **facts)))
    families = [gather(model) for model in models]
    assert significance(families, ["A", "B"]) == []
    runs.add("attack", models[0], attacks(attack_row([0, 0])))
    (test,) = significance([gather(model) for model in models], ["A", "B"])
    assert (test.what.version, test.only_second) == (2, 1)


def test_a_row_says_its_passes_and_what_twice_as_many_would_change():
    still = Change(estimate=-0.005, low=-0.021, high=0.0)
    row = attack_row([10, 0], rounds=[CLIMB], selection=[16, 100], convergence={"majority": still})
    assert passes_an_image(row) == "7.5"
    assert change_words(row) == "−0.5 [−2.1, 0.0], not converged"
    assert (
        convergence_note(row)
        == "twice the passes: −0.5 [−2.1, 0.0] points, not converged: more effort or more images would tell"
    )
    assert not has_converged(still)
    near = Change(estimate=0.0, low=-0.019, high=0.0)
    assert has_converged(near)
    row = row.with_changes(convergence={"majority": near})
    assert convergence_note(row) == "twice the passes: 0.0 [−1.9, 0.0] points"


def test_what_twice_the_passes_would_change_is_said_of_each_ball():
    near = Change(estimate=0.0, low=-0.019, high=0.0)
    rows = [attack_row([10, 0], eps=eps, rounds=[CLIMB], convergence={"majority": near}) for eps in (EPS, 2 * EPS)]
    notes = [part for part in sheet_of(attacks(*rows)) if isinstance(part, str) and "twice the passes" in part]
    assert [note.partition(", strict")[0] for note in notes] == ["note: pgd l-inf 8/255", "note: pgd l-inf 16/255"]


def test_a_note_names_the_version_and_every_number_of_the_search():
    later = CLIMB.with_changes(doubling=3, steps=40)
    other = {"loss": "nll", "start": "random", "method": "sparse", "step_size": 1.0, "momentum": 0.0}
    climbs = [CLIMB, later, later.with_changes(**other, options={"rival": 2})]
    thresholds = {"agreement": 0.1, "clearly": 2.5, "settled": 4.0}
    row = attack_row([10, 0], rounds=climbs, selection=[16, 100], thresholds=thresholds)
    note = definition_note(row)
    for words in (
        "strict version 2, effort 1, search in float32: round 2: 20 steps of 16 to 64 draws, races after 10, 15, 20,",
        "up margin from best; round 3: 40 steps of",
        "nll from random (sparse, first step 1 eps, momentum 0, rival 2). Climbs are falling, first step 0.5 eps,",
        "compared on 16, 100 draws, and scored by 10 votes of m = 64",
        "its vote lost by 4 standard deviations",
        "a cosine below 0.1; a race ends early at 2.5 standard errors",
    ):
        assert words in note
    assert definition_note(attack_row([10])) == ""


def test_the_table_shows_effort_passes_and_convergence():
    still = Change(estimate=-0.5, low=-0.9, high=-0.1)
    rows = measured(attack_row([10, 0], effort=2, rounds=[CLIMB], convergence={"majority": still}))
    table = attacks_table([("", rows)])
    heads = [heading.flat for heading in table.headings]
    shown = dict(zip(heads, (cell.flat for cell in table.rows[0]), strict=True))
    assert (shown["effort"], shown["passes"]) == ("2", "7.5")
    assert shown["twice the passes, points"] == "−50.0 [−90.0, −10.0], not converged"
    assert shown["not the protocol's own"] == "strict effort 2"


def test_rows_of_two_runs_of_one_version_are_one_row(runs):
    model = runs.model()
    for right in ([10, 10], [10, 0]):
        runs.add("attack", model, attacks(attack_row(right, effort=2)))
    family = gather(model)
    (row,) = attack_rows(family)
    assert (row.chosen_from, row.majority.accuracy) == (2, 0.5)
    assert replace(row, chosen_from=1).record.effort == 2
