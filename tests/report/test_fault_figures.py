"""Figures are written as asked where they were asked for, and else never rounded to something better or to nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from synthetic_runs import NOISE, certification

from rushkit.recipe.radius import eps_words
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import markdown, page
from rushkit.report.terminal.headline import figures
from rushkit.report.terminal.tables import record_table
from rushkit.results.prediction import PredictedImage, Prediction
from rushkit.results.words import interval
from rushkit.rounding import figure

ASKED = 0.1234567


def shown(table) -> str:
    console = Console(file=io.StringIO(), width=240)
    console.print(table)
    return console.file.getvalue()


@pytest.fixture
def asked():
    """A certification that was asked for one radius of many digits."""
    return certification([0.2, 0.05], [True, True], mode="sequential", asked=[ASKED])


def test_the_terminal_writes_a_radius_as_asked(asked):
    assert f" {ASKED} " in shown(record_table(asked))


def test_a_list_of_runs_writes_a_radius_as_asked(asked):
    assert any(f"l1 {ASKED}:" in line for line in figures(asked))


def test_reports_write_a_radius_as_asked(asked, runs):
    model = runs.model()
    runs.add("certify", model, asked)
    document = build_document(build_report([gather(model)]))
    assert f"{ASKED} |" in markdown(document, "report.html")
    assert f">{ASKED}<" in page(document, "report.md")


@pytest.mark.parametrize(("eps", "words"), [(0.123456, "0.123456"), (8.5 / 255, "8.5/255"), (1e-05, "0.00001")])
def test_eps_is_written_as_asked(eps, words):
    assert eps_words(eps) == words


def test_a_share_just_below_all_is_not_written_as_all_nor_one_above_nothing_as_nothing():
    assert interval(0.9997, 0.9983, 0.99995) == "99.97 [99.8, 100.0]"
    assert interval(0.0003, 0.0, 0.0017) == "0.03 [0.0, 0.2]"
    assert figure("val_accuracy", 0.9997) == "99.97 %"


def test_intervals_are_rounded_outwards():
    assert interval(0.8791, 0.86379, 0.89311) == "87.9 [86.3, 89.4]"


def test_the_bounds_of_a_prediction_are_not_floored_by_a_floats_last_bit():
    image = PredictedImage(
        predicted="cat",
        index=0,
        abstained=False,
        top="cat",
        p_lower=0.29,
        p_upper=0.57,
        radius=0.0,
        image="a.png",
        notes=[],
    )
    results = Prediction(
        source="x",
        noise=NOISE,
        norm="l1",
        samples=100,
        selection=100,
        alpha=0.001,
        rule="majority",
        bound="clopper-pearson",
        theorem="Neyman-Pearson, tight",
        warnings=[],
        explanation="",
        predictions=[image],
        unreadable=[],
    )
    assert "29.0 to 57.0 %" in shown(record_table(results))
