"""Figures that were made in bf16, or searched for in it, are marked wherever a table shows them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from rich.console import Console
from synthetic_runs import EPS, NOISE, attack_row, attacks, audited, certification, evaluation

from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import markdown, page
from rushkit.report.terminal.headline import figures, headline
from rushkit.report.terminal.tables import record_table, table_1_table
from rushkit.results.prediction import Prediction


@dataclass(frozen=True)
class Measured:
    """One stage's results, and the table of the terminal that shows them."""

    verb: str
    results: object
    table: object


def predicted() -> Prediction:
    return Prediction(
        **{"source": "x", "noise": NOISE, "norm": "l1", "samples": 9, "selection": 3, "alpha": 0.01, "warnings": []},
        **{"rule": "majority", "bound": "exact", "theorem": "", "explanation": "", "predictions": [], "unreadable": []},
    )


def row(**facts):
    votes = 1 if facts.get("protocol") == "paper" else 10
    made = attack_row([votes] * 3 + [0] * 6, **facts)
    return made.model_copy(update={"search_precision": facts.get("searched", "float32")})


def low(results, key="precision"):
    return results.model_copy(update={key: "bf16"})


MEASURED = {
    "evaluate": lambda: Measured("evaluate", low(evaluation([True] * 6 + [False] * 3)), record_table),
    "certify": lambda: Measured("certify", low(certification([0.05, 0.25], [True, True])), record_table),
    "audit": lambda: Measured("audit", low(audited("pass", "warn"), "search_precision"), record_table),
    "attack": lambda: Measured("attack", attacks(row(searched="bf16")), record_table),
}


def shown(table) -> str:
    console = Console(width=400)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


@pytest.mark.parametrize("stage", MEASURED)
def test_terminal_markdown_page_and_lists_say_so(runs, stage):
    measured = MEASURED[stage]()
    model = runs.model()
    runs.add(measured.verb, model, measured.results)
    document = build_document(build_report([gather(model)]))
    said = {
        "terminal": shown(measured.table(measured.results)),
        "markdown": markdown(document, "beside"),
        "page": page(document, "beside"),
        "figures": "\n".join(figures(measured.results)),
    }
    assert [medium for medium, text in said.items() if "bf16" not in text] == []


@pytest.mark.parametrize("stage", MEASURED)
def test_of_float32_nothing_is_said(runs, stage):
    measured = MEASURED[stage]()
    update = {"search_precision": "float32"} if stage == "audit" else {"precision": "float32"}
    usual = attacks(row()) if stage == "attack" else measured.results.model_copy(update=update)
    model = runs.model()
    runs.add(measured.verb, model, usual)
    document = build_document(build_report([gather(model)]))
    body = markdown(document, "beside").partition("### How to reproduce it")[0]
    for text in (shown(measured.table(usual)), body, "\n".join(figures(usual))):
        assert "bf16" not in text
        assert "gradients in" not in text


def test_a_prediction_says_so():
    assert "in bf16" in shown(record_table(low(predicted())))
    assert "bf16" not in shown(record_table(predicted()))


def test_the_line_of_a_list_says_so():
    assert headline(MEASURED["evaluate"]().results).words.endswith(", in bf16")
    assert headline(MEASURED["certify"]().results).words.endswith(", in bf16")


def test_table_1_says_it_of_accuracy_and_of_gradients(runs):
    model = runs.model()
    runs.add("evaluate", model, low(evaluation([True] * 6 + [False] * 3)))
    runs.add("attack", model, attacks(row(searched="bf16", protocol="paper"), row(eps=EPS)))
    report = build_report([gather(model)])
    (line,) = (row for row in report.models[0].table_1 if row.samples == 64)
    assert line.standard.settings == "in bf16"
    assert [line.pgd[protocol].settings for protocol in ("paper", "strict")] == ["gradients in bf16", ""]
    text = shown(table_1_table(report))
    assert "(in bf16)" in text
    assert "(gradients in bf16)" in text


def test_a_table_says_which_protocol_searched_in_bf16(runs):
    model = runs.model()
    runs.add("attack", model, attacks(row(searched="bf16", protocol="paper"), row()))
    assert "bf16 (paper)" in markdown(build_document(build_report([gather(model)])), "beside")


def test_accuracies_of_two_precisions_are_not_compared(runs):
    one, other = runs.model(), runs.model()
    for model, results in ((one, evaluation([True] * 9)), (other, low(evaluation([True] * 6 + [False] * 3)))):
        runs.add("evaluate", model, results)
    assert build_report([gather(one), gather(other)]).comparison.significance == []
    runs.add("evaluate", one, low(evaluation([True] * 9)))
    tests = build_report([gather(one), gather(other)]).comparison.significance
    assert tests
    document = markdown(build_document(build_report([gather(one), gather(other)])), "beside")
    assert "clean, m = 64, in bf16" in document
