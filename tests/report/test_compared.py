"""``rushkit.compare``: runs side by side, as a table in a notebook and as rows."""

from __future__ import annotations

import pytest
from synthetic_runs import attack_row, attacks, evaluation

import rushkit
from rushkit.errors import UsageError
from rushkit.results.words import PROTOCOL_SENTENCES


@pytest.fixture
def models(runs):
    """Two models, evaluated on the same four images; the first was attacked under paper."""
    made = []
    for right in ([True, True, True, True], [True, True, False, False]):
        model = runs.model()
        runs.add("evaluate", model, evaluation(right))
        made.append(model)
    runs.add("attack", made[0], attacks(attack_row([1, 0, 0, 0], "paper")))
    return [model.path for model in made]


def test_every_figure_of_each_model_is_a_row(models):
    rows = [row for row in rushkit.compare(*models).to_rows() if row["figure"] == "accuracy"]
    assert {(row["run"], row["value"], row["images"]) for row in rows} == {
        (str(models[0]), 1.0, 4),
        (str(models[1]), 0.5, 4),
    }


def test_mcnemars_test_is_a_row_of_two_models(models):
    compared = rushkit.compare(*models)
    tests = [row for row in compared.to_rows() if row["figure"] == "mcnemar_p_value"]
    assert {(row["only_first"], row["only_second"], row["value"]) for row in tests} == {(2, 0, 0.5)}
    assert {(row["model"], row["other"]) for row in tests} == {compared.ids}


def test_a_notebook_shows_figures_runs_and_tests(models):
    html = rushkit.compare(*models)._repr_html_()
    assert html.count("<table>") == 3
    assert "100.0 [51.0, 100.0]" in html


def test_a_figure_under_paper_has_its_note(models):
    html = " ".join(rushkit.compare(*models)._repr_html_().split())
    assert PROTOCOL_SENTENCES[1].replace("'", "&#39;") in html


def test_the_plain_repr_names_the_runs(models):
    compared = rushkit.compare(*models)
    assert repr(compared).startswith(f"Comparison({', '.join(compared.ids)}: ")


def test_a_name_that_is_markup_is_text(runs):
    name = "<script>x</script>"
    paths = []
    for right in ([True], [False]):
        model = runs.model(name=name)
        runs.add("evaluate", model, evaluation(right, data=name))
        paths.append(model.path)
    html = rushkit.compare(*paths)._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script" not in html


def test_one_run_has_none_beside_it(models):
    with pytest.raises(UsageError, match="one run cannot be compared"):
        rushkit.compare(models[0])


def test_a_damaged_run_has_no_figures_and_says_so(models):
    for file in models[0].parent.glob("*evaluate*/results.json"):
        file.write_text("{}")
    compared = rushkit.compare(*models[0].parent.glob("*evaluate*"))
    assert compared.facts["figure"] == ["damaged results"] * 2
    assert compared.to_rows() == []
    assert "damaged results" in compared._repr_html_()
