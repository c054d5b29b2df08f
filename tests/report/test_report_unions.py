"""Several balls together in every form of a report."""

from __future__ import annotations

import json

import pytest
from synthetic_runs import Runs, attack_row, attacks, finetuning

from rushkit.report.families import gather
from rushkit.report.measured import union_rows
from rushkit.report.terminal.headline import figures
from rushkit.report.terminal.tables import record_table
from rushkit.report.threats import union_gaps
from rushkit.report.write import write_report
from rushkit.results.attacks import FailedAttack
from rushkit.results.intervals import unions_of

FAILED = FailedAttack(attack="fab", norm="l1", eps=12.0, protocol="strict", samples=64, message="it broke", hint=None)


def together(*rows, failed=()):
    results = attacks(*rows)
    return results.with_changes(failed=list(failed), unions=unions_of(results.attacks, failed))


def pair(first=(10, 10, 0, 0), second=(10, 0, 10, 0), **facts):
    return attack_row(first, **facts), attack_row(second, norm="l2", eps=0.5, **facts)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def text_of(renderable) -> str:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=200).print(renderable)
    return out.getvalue()


def test_the_terminal_has_a_row_for_each_protocol(runs):
    said = text_of(record_table(together(*pair(), *pair(protocol="paper", first=(1, 1, 0, 0), second=(1, 1, 1, 0)))))
    (strict,) = (line for line in said.splitlines() if "l-inf 8/255 or l2 0.5" in line and "strict" in line)
    assert "25.0 [4.5, 70.0]" in strict
    assert any("l-inf 8/255 or l2 0.5" in line and "paper" in line for line in said.splitlines())


def test_page_markdown_and_json_have_it(runs, tmp_path):
    model = runs.add("finetune", results=finetuning())
    runs.add("attack", model, together(*pair()))
    write_report([gather(model)], tmp_path / "page", images=False)
    html, markdown, data = ((tmp_path / "page" / f"report.{kind}").read_text() for kind in ("html", "md", "json"))
    assert "Several balls together" in html
    assert "<b>25.0</b>" in html.partition("Several balls together")[2]
    assert "| l-inf 8/255 or l2 0.5 |" in markdown
    (union,) = json.loads(data)["models"][0]["unions"]
    assert union["record"]["rules"]["majority"]["accuracy"] == 0.25
    assert union["attacks"] == ["pgd l-inf 8/255", "pgd l2 0.5"]
    assert any("l-inf 8/255 or l2 0.5, strict, m = 64: 25.0" in line for line in figures(together(*pair())))


def test_of_several_strict_runs_on_the_same_images_the_lowest_stands(runs):
    model = runs.add("finetune", results=finetuning())
    for first in ((10, 10, 0, 0), (0, 10, 0, 0), (10, 10, 10, 10)):
        runs.add("attack", model, together(*pair(first=first)))
    (row,) = union_rows(gather(model))
    assert row.majority.accuracy == 0.0


def test_a_failed_attack_leaves_no_union_and_it_is_said(runs):
    results = together(*pair(), failed=[FAILED])
    assert results.unions == []
    (gap,) = union_gaps(results)
    assert gap == "no accuracy under several balls together for strict, m = 64: fab l1 12 failed"
    assert gap in text_of(record_table(results))


def test_why_there_is_none_is_said():
    first, second = pair()
    weak = attack_row([0], norm="l2", eps=0.5, protocol="weaker")
    assert union_gaps(together(first, weak)) == [
        "no accuracy under several balls together for strict, m = 64: only pgd l-inf 8/255 ran under it",
        "no accuracy under several balls together for weaker, m = 64: only pgd l2 0.5 ran under it",
    ]
    others = attack_row([10, 10, 10], norm="l2", eps=0.5)
    assert "differ in images" in union_gaps(together(first, others))[0]
    assert union_gaps(together(first, second)) == []
    assert union_gaps(together(first)) == []
