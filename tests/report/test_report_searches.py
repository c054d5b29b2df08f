"""Attacks towards a class, smallest distances and counts of queries: in the terminal, page, Markdown and JSON."""

from __future__ import annotations

import json

import pytest
from rich.console import Console
from synthetic_runs import Runs, attack_row, attacks, finetuning

from rushkit.report.families import gather
from rushkit.report.measured import attack_rows, distance_rows, targeted_rows
from rushkit.report.terminal.tables import record_table
from rushkit.report.write import write_report
from rushkit.results.attacks import AttackRow, TargetClass
from rushkit.results.distances import Distances, SmallestRow
from rushkit.results.notes import Note
from rushkit.results.quantiles import quartiles

NOTE = Note(code="other", text="the radii were far apart", figures={})


def distances(found: list[float | None], **facts) -> SmallestRow:
    count = len(found)
    outcomes = Distances(
        images=[*range(count)], indices=[*range(count)], labels=[0] * count, distance=found, held=[0.0] * count
    )
    told = {
        **{"split": "cifar10/test", "attack": "pgd", "norm": "l2", "eps": 2.0, "protocol": "strict", "version": 1},
        **{"effort": 1, "samples": 1, "resolution": 0.01, "notes": [NOTE], "seconds": 1.0},
        **{"image_forwards": 1, "image_backwards": 1},
    }
    return SmallestRow(images=count, quantiles=quartiles(found), outcomes=outcomes, **told | facts)


def towards(right: list[int], name: str = "cat", **facts) -> AttackRow:
    return attack_row(right, **facts).with_changes(target=TargetClass(index=3, name=name))


def counted(right: list[int], queries: list[int]) -> AttackRow:
    row = attack_row(right, attack="square", samples=1)
    return row.with_changes(outcomes=row.outcomes.with_changes(queries=queries))


@pytest.fixture
def results():
    rows = attacks(counted([10, 0, 0, 0], [-1, 0, 7, 40]))
    return rows.with_changes(targeted=[towards([0, 10, 10, 10])], smallest=[distances([0.0, 0.25, 1.0, None])])


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def text_of(renderable) -> str:
    from io import StringIO

    out = StringIO()
    Console(file=out, width=200).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize("names", [("cifar10",), ("cifar10", "other")])
def test_all_media_have_the_same_tables(runs, results, tmp_path, names):
    models = [runs.add("finetune", results=finetuning(), name=name) for name in names]
    for model in models:
        runs.add("attack", model, results)
    write_report([gather(model) for model in models], tmp_path / "page", images=False)
    html, markdown, data = (next((tmp_path / "page").glob(f"*.{kind}")).read_text() for kind in ("html", "md", "json"))
    terminal = text_of(record_table(results))
    # One image of four is taken for the class; a quarter, median and three quarters of the distances; what is left
    # after 0, 10, 30 and 40 queries.
    for text in (html, markdown, terminal):
        assert "taken for it" in text
        assert "cat" in text
        assert "never broken" in text
        assert "0.25 [0, > 2]" in text.replace("&gt;", ">").replace("\\", "")
        assert NOTE.text in text
    for row in ("| 75.0 | 50.0 | 50.0 | 25.0 |", "| 4 | 25.0 | [4.6, 69.9] | 0.0 |"):
        assert row in markdown.replace("\\", "")
    assert html.count("Accuracy against queries") == 1
    told = json.loads(data)["models"][0]
    assert [quantile["distance"] for quantile in told["distances"][0]["quantiles"]] == [0.0, 0.25, 1.0]
    assert (told["distances"][0]["wrong_before"], told["distances"][0]["never_broken"]) == (1, 1)
    assert "outcomes" not in told["distances"][0]
    assert told["targeted"][0]["target"]["name"] == "cat"


def test_a_run_without_other_attacks_has_its_section(runs, tmp_path):
    model = runs.add("finetune", results=finetuning())
    runs.add("attack", model, attacks().with_changes(smallest=[distances([0.5])]))
    write_report([gather(model)], tmp_path / "page", images=False)
    assert "Smallest distances" in (tmp_path / "page" / "report.html").read_text()
    assert "### Smallest distances" in (tmp_path / "page" / "report.md").read_text()


def test_attacks_towards_a_class_are_no_robust_accuracy(runs, results):
    model = runs.add("finetune", results=finetuning())
    runs.add("attack", model, results)
    assert [row.record.attack for row in attack_rows(gather(model))] == ["square"]
    assert [row.record.target.name for row in targeted_rows(gather(model))] == ["cat"]


def test_of_several_runs_towards_a_class_the_one_that_leads_most_stands_and_classes_are_apart(runs):
    model = runs.add("finetune", results=finetuning())
    for row in (towards([10, 10]), towards([0, 10]), towards([10, 10]), towards([10, 10], "dog")):
        runs.add("attack", model, attacks().with_changes(targeted=[row]))
    shown = {row.record.target.name: row.majority.accuracy for row in targeted_rows(gather(model))}
    assert shown == {"cat": 0.5, "dog": 1.0}


def test_of_several_searches_for_distances_the_newest_on_the_most_images_stands(runs):
    model = runs.add("finetune", results=finetuning())
    for found in ([0.1, 0.1], [0.2, 0.2], [0.3]):
        runs.add("attack", model, attacks().with_changes(smallest=[distances(found)]))
    runs.add("attack", model, attacks().with_changes(smallest=[distances([0.4], norm="linf")]))
    assert [row.record.outcomes.distance for row in distance_rows(gather(model))] == [[0.2, 0.2], [0.4]]
