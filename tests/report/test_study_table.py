"""The table of a study: what stands in a cell, and what is never mixed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from study_cells import report_of, table_of
from synthetic_runs import WITHOUT_NOISE, attack_row, attacks, certification, evaluation, finetuning

from rushkit.report.study.collect import collect
from rushkit.report.study.figures import CellFigure, StudyReport
from rushkit.report.study.tables import differences_table, figures_table, seeds_table, trainings_table
from rushkit.results import Results
from rushkit.results.training import Finetuning, PseudoLabels
from rushkit.statistics import paired_interval, t_interval, wilson_interval
from rushkit.study.job import Job


def only_cell(report: StudyReport) -> CellFigure:
    ((cell,),) = [line.cells for line in report.lines]
    assert cell is not None
    return cell


def clean(right: int, images: int = 20) -> Results:
    return evaluation([index < right for index in range(images)], samples=[64])


def strict(*right: int, **facts: object) -> Results:
    return attacks(attack_row(right, **facts))


def flat(report: StudyReport) -> list[list[str]]:
    return [[cell.flat for cell in row] for row in figures_table(report).rows]


def test_one_seed_has_wilsons_interval_over_the_images():
    cell = only_cell(report_of({("A", 0, "evaluate"): clean(15)}))
    low, high = wilson_interval(15, 20)
    assert (cell.mean, cell.spread) == (0.75, None)
    assert [(one.over, one.low, one.high) for one in cell.intervals] == [("images", low, high)]


def test_several_seeds_have_intervals_over_images_seeds_and_both():
    cell = only_cell(report_of({("A", seed, "evaluate"): clean(14 + seed) for seed in range(3)}))
    assert cell.mean == pytest.approx(0.75)
    assert cell.spread == pytest.approx(0.05)
    images, seeds, both = cell.intervals
    assert [one.over for one in cell.intervals] == ["images", "seeds", "seeds and images"]
    assert (images.low, images.high) == tuple(map(float, wilson_interval(15, 20)))
    assert (seeds.low, seeds.high) == t_interval([0.7, 0.75, 0.8])
    assert both.low == pytest.approx(0.75 - math.hypot(0.75 - images.low, 0.75 - seeds.low))


def test_a_share_has_no_interval_beyond_0_and_1():
    cell = only_cell(report_of({("A", seed, "evaluate"): clean(10 + 9 * seed) for seed in range(2)}))
    assert [(one.low, one.high) for one in cell.intervals[1:]] == [(0, 1), (0, 1)]


@pytest.mark.parametrize("state", ["failed", "blocked", "running", "missing"])
def test_a_cell_without_figures_says_how_its_jobs_stand(state):
    report = report_of({("A", 0, "evaluate"): clean(15), ("B", 0, "evaluate"): state})
    assert [row[2] for row in flat(report)] == ["75.0 [53.1, 88.9]", state]
    assert report.states == {"done": 1, state: 1}


def test_a_mean_of_some_seeds_names_those_that_are_missing():
    report = report_of({("A", 0, "evaluate"): clean(15), ("A", 1, "evaluate"): "failed"})
    assert flat(report)[0][-1] == "75.0 [53.1, 88.9] (seed 1: failed)"


def test_an_attack_that_is_not_done_says_so_in_the_columns_of_its_kind_and_protocol_alone():
    cells = {
        ("A", 0, "attack"): attacks(attack_row([1, 0], "paper"), attack_row([10, 0], "strict")),
        ("B", 0, "attack"): attacks(attack_row([10, 0], "strict", attack="autoattack")),
        ("C", 0, "attack"): "failed",
    }
    table = table_of(cells)
    (*_, job) = table.plan.jobs
    asked = Job(stage="attack", recipe={"attack": [{"type": "pgd"}]}, options={"protocols": ["strict"]})
    jobs = {**table.plan.jobs, job: replace(table.plan.jobs[job], job=asked)}
    report = collect(replace(table, plan=replace(table.plan, jobs=jobs)))
    shown = dict(zip((quantity.name for quantity in report.quantities), flat(report)[2][2:], strict=True))
    assert {name for name, words in shown.items() if words == "failed"} == {"pgd l-inf 8/255 strict"}


def test_a_stage_that_nobody_has_done_has_a_column_of_its_own():
    report = report_of({("A", 0, "evaluate"): clean(15), ("A", 0, "strict"): "waiting"})
    assert [quantity.name for quantity in report.quantities] == ["clean", "strict"]
    assert flat(report)[0][-1] == "waiting"


def test_seeds_on_other_images_have_no_mean():
    cells = {("A", 0, "strict"): strict(10, 0), ("A", 1, "strict"): strict(10, 0, 10)}
    cell = only_cell(report_of(cells))
    assert (cell.mean, cell.problem) == (None, "the seeds were measured on other images")
    assert len(cell.done) == 2


def test_seeds_in_other_precision_have_no_mean():
    low = clean(15).with_changes(precision="bf16")
    cell = only_cell(report_of({("A", 0, "evaluate"): clean(15), ("A", 1, "evaluate"): low}))
    assert cell.mean is None
    assert cell.problem == "the seeds were measured differently: as usual / in bf16"


@pytest.mark.parametrize(
    "other",
    [
        {"version": 1},
        {"effort": 2},
        {"eps": 4 / 255},
        {"norm": "l2"},
        {"attack": "autoattack"},
        {"protocol": "paper"},
        {"split": "cifar10/train"},
    ],
)
def test_other_measurements_stand_in_other_columns(other):
    report = report_of({("A", 0, "strict"): strict(10, 0, 10), ("B", 0, "strict"): strict(1, 0, 1, **other)})
    assert len(report.quantities) == 2
    assert [sum(cell is not None for cell in line.cells) for line in report.lines] == [1, 1]


def test_certificates_of_another_alpha_stand_in_another_column():
    made = [certification([0.3] * 4, [True] * 4, alpha=alpha, asked=(0.1,)) for alpha in (0.001, 0.01)]
    report = report_of({("A", 0, "certify"): made[0], ("B", 0, "certify"): made[1]}, l1=[0.1])
    assert len(report.quantities) == 2


def test_paper_stands_beside_strict_and_certificates_last():
    cells = {
        ("A", 0, "certify"): certification([0.3, 0.15, 0.3, 0.3], [True, True, True, False]),
        ("A", 0, "strict"): strict(10, 0, 0),
        ("A", 0, "evaluate"): clean(15),
        ("A", 0, "paper"): strict(1, 1, 0, protocol="paper"),
    }
    report = report_of(cells, l1=[0.2])
    assert [quantity.name for quantity in report.quantities] == [
        "clean",
        "pgd l-inf 8/255 paper",
        "pgd l-inf 8/255 strict",
        "certified l1 0.2",
    ]
    assert report.lines[0].cells[-1].mean == 0.5


def test_every_m_has_a_line_and_figures_of_no_m_stand_in_the_last():
    cells = {
        ("A", 0, "evaluate"): evaluation([True] * 4, samples=[1, 64]),
        ("A", 0, "certify"): certification([0.3] * 4, [True] * 4),
    }
    report = report_of(cells, l1=[0.2])
    assert [(line.samples, [cell is not None for cell in line.cells]) for line in report.lines] == [
        (1, [True, False]),
        (64, [True, True]),
    ]


def test_a_model_without_noise_has_one_line_whatever_m_it_was_asked_with():
    measured = evaluation([True] * 4, samples=[1, 64], noise=WITHOUT_NOISE)
    attacked = attacks(attack_row([10] * 4, samples=1), noise=WITHOUT_NOISE)
    report = report_of({("A", 0, "evaluate"): measured, ("A", 0, "strict"): attacked})
    (line,) = report.lines
    assert line.samples is None
    assert None not in line.cells
    assert len(line.cells) == 2


def test_published_figures_stand_beside_the_line_of_their_m_with_what_they_are():
    cells = {("RUSH", 0, "evaluate"): evaluation([True] * 4, samples=[1, 64])}
    keys = ["rush-cifar10-vote", "rush-cifar10-single"]
    report = collect(table_of(cells, {"RUSH": keys, "Published alone": ["rocl-table-1"]}))
    assert [[row.key for row in line.published] for line in report.lines] == [
        ["rush-cifar10-single"],
        ["rush-cifar10-vote"],
        ["rocl-table-1"],
    ]
    headings = [heading.text for heading in figures_table(report).headings]
    assert headings[2] == "published: clean"
    assert [row[2] for row in flat(report)] == ["86.4", "87.9", "83.7"]


def test_data_from_outside_are_flagged_before_all_else():
    report = collect(table_of({("A", 0, "evaluate"): clean(3)}, {"A": ["advcl-table-1"]}))
    assert "EXTERNAL DATA: ImageNet" in report.lines[0].published[0].words


def test_pseudo_labels_from_outside_are_noted():
    labels = PseudoLabels(run="x", table="y", clusters=[10], outside="weights of ImageNet")
    trained = finetuning().with_changes(labels=labels)
    assert isinstance(trained, Finetuning)
    report = report_of({("A", 0, "finetune"): trained, ("A", 0, "evaluate"): clean(3)})
    assert "A: its pseudo-labels owe to data from outside: weights of ImageNet" in report.notes


def test_published_figures_of_other_data_are_noted():
    report = collect(table_of({("A", 0, "evaluate"): evaluation([True], data="digits/test")}, {"A": ["deacl-slf"]}))
    assert any(note.startswith("Published figures are of cifar10, measured ones of digits") for note in report.notes)


def test_rows_differ_from_the_first_image_by_image():
    cells = {
        **{("A", seed, "strict"): strict(10, 10, 5, 0) for seed in (0, 1)},
        ("B", 0, "strict"): strict(10, 0, 0, 0),
        ("B", 1, "strict"): strict(10, 10, 10, 10),
    }
    (difference,) = report_of(cells).differences
    assert (difference.row, difference.seeds, difference.images) == ("B", (0, 1), 4)
    # Of the seeds for each image: 0, 0.5, 0 and -0.5.
    assert difference.value == 0
    low, high = paired_interval([0, 0.5, 0, -0.5])
    assert [(one.over, one.low, one.high) for one in difference.intervals[:1]] == [("images", low, high)]
    assert (difference.only_first, difference.only_other) == ((1, 0), (0, 2))
    assert difference.p_values == (1.0, 0.5)
    assert difference.corrected == (1.0, 1.0)


def test_rows_on_other_images_have_no_difference():
    cells = {("A", 0, "strict"): strict(10, 10), ("B", 0, "strict"): strict(10, 10, images=[0, 5])}
    (difference,) = report_of(cells).differences
    assert (difference.value, difference.problem) == (None, "measured on other images")


def test_an_attack_that_the_first_row_did_not_meet_is_compared_with_strict_in_the_same_ball():
    cells = {
        ("A", 0, "attack"): strict(10, 0, 0, 0),
        ("B", 0, "attack"): attacks(attack_row([1, 1, 1, 0], "paper")),
        ("C", 0, "attack"): attacks(attack_row([1, 1, 1, 0], "paper", eps=4 / 255)),
    }
    (difference,) = report_of(cells).differences
    assert (difference.row, difference.quantity, difference.value) == ("B", "pgd l-inf 8/255 paper", -0.5)


def test_strict_is_not_compared_with_what_another_protocol_leaves():
    cells = {("A", 0, "paper"): attacks(attack_row([1, 1], "paper")), ("B", 0, "strict"): strict(10, 0)}
    assert report_of(cells).differences == []


def test_an_image_is_certified_at_its_very_radius():
    certified = certification([0.2, 0.1], [True, True], asked=(0.2,))
    assert only_cell(report_of({("A", 0, "certify"): certified}, l1=[0.2])).mean == 0.5


def test_a_remark_of_a_whole_column_is_said_once():
    low = {("A", 0, "evaluate"): clean(9), ("B", 0, "evaluate"): clean(8)}
    report = report_of({key: results.with_changes(precision="bf16") for key, results in low.items()})
    assert report.shared_remarks == (frozenset({"in bf16"}),)
    assert not any("bf16" in cell for row in flat(report) for cell in row)


def test_each_seed_is_linked_to_its_run():
    report = report_of({("A", seed, "evaluate"): clean(9) for seed in (3, 7)})
    table = seeds_table(report, lambda run: f"up/{run}")
    assert [[cell.flat for cell in row[:3]] for row in table.rows] == [["A", "64", "3"], ["A", "64", "7"]]
    assert [row[3].href for row in table.rows] == ["up/runs/job-" + "0" * 16] * 2


def test_trainings_have_their_epochs_and_loss():
    report = report_of({("A", 0, "finetune"): finetuning(0.25), ("A", 1, "finetune"): "failed"})
    table = trainings_table(report, lambda run: run)
    assert table is not None
    shown = [[cell.flat for cell in row][3:5] for row in table.rows]
    assert shown == [[str(finetuning().epochs), "0.25"], ["failed", ""]]


def test_nothing_done_is_a_table_of_states_alone():
    report = report_of({("A", 0, "evaluate"): "ready", ("A", 0, "strict"): "waiting"})
    assert flat(report) == [["A", "ready", "waiting"]]
    assert differences_table(report) is None
