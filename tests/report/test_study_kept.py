"""The results that shipped studies keep: they are those of today's plans, and say what was said before."""

from __future__ import annotations

from pathlib import Path

import pytest

from rushkit.recipe.find import shipped_folder
from rushkit.report.study.figures import StudyReport
from rushkit.report.study.make import study_report
from rushkit.results.words import interval, points

# The table as the script wrote it that measured these runs before there were studies.
BEFORE = Path(__file__).with_name("table_1_digits.md")
# What the rows were called, and how their classifiers were made.
NAMES = {
    ("RUSH", "head and BatchNorm biases, noise"): "RUSH",
    ("RoCL", "SLF"): "RoCL, SLF",
    ("Free-8", "from scratch"): "Free-8",
    ("AdvCL", "SLF"): "AdvCL, SLF",
    ("AdvCL", "AFF"): "AdvCL, AFF",
    ("SmoothAdv", "from scratch, noise"): "SmoothAdv",
    ("ACL", "AFF"): "ACL, AFF",
    ("Data AUG, no extra images", "from scratch"): "Data AUG, no extra images",
    ("BYORL", "SLF"): "BYORL, SLF",
    ("DeACL (not in Table 1)", "SLF"): "DeACL, SLF (not in Table 1)",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> StudyReport:
    return study_report("table1-digits", tmp_path_factory.mktemp("no-runs"))


def rows_before(width: int) -> list[list[str]]:
    lines = (line.strip().strip("|").split("|") for line in BEFORE.read_text(encoding="utf-8").splitlines())
    rows = [[cell.strip() for cell in line] for line in lines if len(line) == width]
    # The first two are the head.
    return rows[2:]


@pytest.mark.parametrize(
    ("study", "states"),
    [
        ("table1-digits", {"done": 98}),
        ("methods-digits", {"done": 48}),
        # SimCLR and DeACL are not measured.
        ("table1-cpu", {"done": 7, "not run": 8}),
    ],
)
def test_what_was_measured_is_kept_and_nothing_that_no_job_asks_for(study, states, tmp_path):
    assert study_report(study, tmp_path).states == states
    assert len(list((shipped_folder("studies") / study).iterdir())) == states["done"]


def test_the_rows_on_cifar_10_have_the_figures_that_they_had(tmp_path):
    report = study_report("table1-cpu", tmp_path)
    now = {
        (line.row, quantity.protocol): interval(figure.value, figure.low, figure.high)
        for line in report.lines
        for quantity, cell in zip(report.quantities, line.cells, strict=True)
        for figure in (cell.done if cell and line.samples != 1 else ())
    }
    assert now == {
        ("RUSH", ""): "59.6 [58.6, 60.6]",
        ("RUSH", "paper"): "8.0 [4.9, 12.6]",
        ("RUSH", "strict"): "6.4 [3.4, 10.9]",
        ("PGD-AT", ""): "53.8 [52.7, 54.8]",
        ("PGD-AT", "paper"): "30.5 [24.5, 37.2]",
        ("PGD-AT", "strict"): "27.0 [21.3, 33.6]",
    }


def test_each_seed_has_the_figures_that_it_had(report):
    before = {
        (NAMES[row[0], row[1]], int(row[2])): [row[7], row[8], row[9], *filter(None, row[10].split("; "))]
        for row in rows_before(11)
    }
    now: dict[tuple[str, int], list[str]] = {}
    for line in report.lines:
        for quantity, cell in zip(report.quantities, line.cells, strict=True):
            for figure in cell.seeds if cell else ():
                words = interval(figure.value, figure.low, figure.high)
                name = f"{quantity.ball} {quantity.radius:.3g}: " if quantity.group == "certified" else ""
                now.setdefault((line.row, figure.seed), []).append(name + words)
    assert now == before
    assert len(before) == 20


def test_differences_and_counts_are_what_they_were(report):
    before = {NAMES[row[0], row[1]]: row[2:] for row in rows_before(6)}
    strict = [one for one in report.differences if one.quantity == "pgd l-inf 8/255 strict"]
    now = {
        one.row: [
            str(one.images),
            f"{points(one.value)} [{points(one.intervals[0].low)}, {points(one.intervals[0].high)}]",
            "; ".join(f"{ours}, {theirs}" for ours, theirs in zip(one.only_first, one.only_other, strict=True)),
            "; ".join(f"{p:.2g}" for p in one.p_values),
        ]
        for one in strict
    }
    assert now == before
    assert len(before) == 9
