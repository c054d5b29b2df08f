"""The tree of a plan: a stage under the one that it starts from, with how its jobs stand, why, and what they cost."""

from __future__ import annotations

from pathlib import Path

from rushkit.study import tree as drawing
from rushkit.study.claims import Holder
from rushkit.study.cost import Cost
from rushkit.study.failure import Failure
from rushkit.study.job import Job
from rushkit.study.plan import Cell, Plan, Planned
from rushkit.study.state import Standing
from rushkit.study.tree import Outlook, tree


def job(stage: str, seed: int, *needs: Planned) -> Planned:
    made = Job(stage=stage, recipe={"system": {"seed": seed}}, parents={"model": needs[0].id} if needs else {})
    return Planned(made.id, made, tuple(need.id for need in needs))


PRETRAIN = job("pretrain", 0)
FINETUNE = job("finetune", 0, PRETRAIN)
EVALUATE = job("evaluate", 0, FINETUNE)
READY = Standing("ready")


def lines_of(*cells: tuple[str, int, str, Planned, Standing], costs: dict[str, Cost] | None = None) -> list[str]:
    jobs = {planned.id: planned for *_, planned, _ in cells}
    placed = tuple(Cell(row, seed, stage, planned.id) for row, seed, stage, planned, _ in cells)
    rows = {row: () for row, *_ in cells}
    return tree(Outlook(Plan("mine", jobs, placed, rows=rows), {cell[3].id: cell[4] for cell in cells}, costs or {}))


def line_of(standing: Standing, cost: Cost | None = None) -> str:
    """How one job is written."""
    costs = {} if cost is None else {PRETRAIN.id: cost}
    return lines_of(("A", 0, "pretrain", PRETRAIN, standing), costs=costs)[1].strip()


def test_a_stage_stands_under_the_one_that_it_starts_from():
    lines = lines_of(
        ("A", 0, "pretrain", PRETRAIN, READY),
        ("A", 0, "finetune", FINETUNE, Standing("waiting", because=(PRETRAIN.id,))),
        ("A", 0, "clean", EVALUATE, Standing("waiting", because=(FINETUNE.id,))),
    )
    assert lines == [
        "A",
        "  pretrain, seed 0: ready: no results yet",
        "    finetune, seed 0: waiting: for pretrain",
        "      clean, seed 0: waiting: for finetune",
    ]


def test_a_stage_that_starts_from_another_row_names_it():
    lines = lines_of(
        ("A", 0, "pretrain", PRETRAIN, Standing("done")),
        ("B", 0, "finetune", FINETUNE, READY),
    )
    assert lines[2:] == ["B", "  finetune from A/pretrain, seed 0: ready: no results yet"]


def test_seeds_that_stand_alike_share_a_line():
    cells = [("A", seed, "pretrain", job("pretrain", seed), READY) for seed in range(3)]
    done = ("A", 3, "pretrain", job("pretrain", 3), Standing("done"))
    costs = {planned.id: Cost(1000, 2.0) for *_, planned, _ in cells}
    assert lines_of(*cells, done, costs=costs)[1:] == [
        "  pretrain, seeds 0, 1, 2: ready: no results yet; 3k passes, about 6.0 s",
        "  pretrain, seed 3: done",
    ]


def test_kept_results_name_their_file():
    kept = Standing("done", Path("studies/mine/0123456789abcdef.json"), kept=True)
    assert line_of(kept) == "pretrain, seed 0: done, kept in studies/mine/0123456789abcdef.json"


def test_results_of_another_version_name_it():
    assert line_of(Standing("done", version="0.0.1")) == "pretrain, seed 0: done by rushkit 0.0.1"


def test_kept_results_whose_weights_are_needed_say_so():
    words = "ready: no results yet; its results are kept, and its weights are needed"
    assert line_of(Standing("ready", kept=True, again=True)) == f"pretrain, seed 0: {words}"


def test_a_failure_of_many_lines_is_told_in_a_short_one():
    failed = Standing("failed", failure=Failure(type="DataError", message="no file\n  here\nat all " + "x" * 999))
    line = line_of(failed)
    assert line.startswith("pretrain, seed 0: failed: no file here at all xxx")
    assert len(line) < 200


def test_a_job_that_is_worked_on_says_by_whom():
    assert line_of(Standing("running", holder=Holder(1, "node7", 4711))).endswith("running: pid 4711 on node7")


def test_what_a_failure_blocks_says_so():
    lines = lines_of(
        ("A", 0, "pretrain", PRETRAIN, Standing("failed", failure=Failure(type="X", message="no"))),
        ("A", 0, "finetune", FINETUNE, Standing("blocked", because=(PRETRAIN.id,))),
    )
    assert lines[2] == "    finetune, seed 0: blocked: by pretrain"


def test_a_row_of_published_figures_alone_names_them():
    plan = Plan("mine", {}, (), rows={"paper": ("rush-cifar10-vote",)})
    assert tree(Outlook(plan, {}, {})) == ["paper: published figures alone (rush-cifar10-vote)"]


def test_a_long_tree_ends_with_the_number_of_lines_that_are_left(monkeypatch):
    monkeypatch.setattr(drawing, "_MOST_LINES", 4)
    lines = lines_of(*((f"row {seed}", seed, "pretrain", job("pretrain", seed), READY) for seed in range(5)))
    assert lines[4:] == ["and 6 more lines; --json has every job"]


def test_passes_are_written_in_three_digits():
    words = [line_of(READY, Cost(passes)).rpartition("; ")[2] for passes in (999, 1234, 5 * 10**6, 2 * 10**12)]
    assert words == ["999 passes", "1.23k passes", "5M passes", "2T passes"]


def test_the_sum_says_what_is_not_in_it():
    plan = Plan("mine", {}, ())
    costs = {"a": Cost(1000, 1.5), "b": Cost(500, 0.5), "c": Cost()}
    assert Outlook(plan, {}, costs).together() == (
        "to do: 3 jobs, 1.5k passes, about 2.0 s on this device, one after another, "
        "and 1 job whose passes nobody knows in advance, or whose images are not here"
    )
    assert Outlook(plan, {}, {}).together() == ""
