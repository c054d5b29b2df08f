"""The first screen of a page: a ladder for each model, and what stands in the place of what is missing."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from rich.console import Console
from synthetic_runs import (
    CLASSES,
    attack_row,
    attacks,
    audited,
    certification,
    evaluation,
    finetuning,
    recipe_of,
)

from rushkit.recipe.schema import Noise
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import markdown, page
from rushkit.report.pictures.ladder import ladder_of
from rushkit.report.pictures.ladder_svg import WIDTH, draw_ladder, ladder_height
from rushkit.report.terminal.tables import headlines_table
from rushkit.results.words import PROTOCOL_SENTENCES

EVIL = "<script>alert('1')</script>"


def report_of(*models):
    return build_report([gather(model) for model in models])


def html_of(*models):
    return page(build_document(report_of(*models)), "report.json")


def markdown_of(*models):
    return markdown(build_document(report_of(*models)), "report.html")


def section(text, name):
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]


def words(html):
    return " ".join(re.sub("<.*?>", " ", html).split())


def test_before_the_first_section_stand_only_title_and_date(measured):
    text = html_of(measured)
    before = text.partition("<body")[2].partition(">")[2].partition('<section id="found"')[0]
    assert words(before) == "cifar10 Newest run: 2030-01-01"
    assert re.findall(r"<(\w+)", before) == ["header", "h1", "p", "time", "main"]


def test_the_first_section_is_built_from_the_headline(measured):
    report = report_of(measured)
    found = section(html_of(measured), "found")
    headline = report.models[0].headline
    assert headline.sentence in found
    assert draw_ladder(ladder_of("cifar10", headline)) in found
    assert ladder_of("cifar10", headline).label in found.replace("&#39;", "'")


def test_a_page_made_again_from_the_same_runs_is_the_same(measured):
    assert html_of(measured) == html_of(measured)


def test_a_run_without_a_date_leaves_it_out(runs):
    model = runs.model()
    for path in runs.root.glob("*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": EVIL}))
    text = html_of(runs.info(model.path))
    assert "Newest run" not in text
    assert "<script" not in text


def test_a_paper_figure_on_the_first_screen_has_its_note(measured):
    assert "66.7" in section(html_of(measured), "found")
    assert "it reproduces, it is not the model&#39;s robustness." in section(html_of(measured), "found")


def test_a_caption_speaks_of_attacks_where_there_are_any(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True, False]))
    assert "paired image by image" not in section(html_of(model), "found")
    runs.add("attack", model, attacks(attack_row([10, 0])))
    assert "paired image by image" in section(html_of(model), "found")


@pytest.mark.parametrize("count", [1, 9, 12])
def test_every_model_has_a_ladder_and_the_table_a_row(runs, count):
    models = []
    for number in range(count):
        models.append(runs.model(name=f"model-{number}"))
        runs.add("evaluate", models[-1], evaluation([True, False]), name=f"model-{number}")
    found = section(html_of(*models), "found")
    assert found.count('<svg class="ladder"') == found.count("<h3>") == count
    (table,) = re.findall(r"<tbody>.*?</tbody>", found, re.DOTALL)
    assert table.count("<tr>") == count


def test_all_that_a_ladder_draws_lies_inside_of_it(runs):
    model = runs.model()
    rows = attack_row([1] * 3 + [0], "paper"), attack_row([10, 0, 0, 0])
    runs.add("attack", model, attacks(*rows))
    runs.add("certify", model, certification([0.15] * 4, [True] * 4))
    ladder = ladder_of("mine", report_of(model).models[0].headline)
    drawn = draw_ladder(ladder)
    assert all(0 <= float(x) <= WIDTH for x in re.findall(r' x="([\d.]+)"', drawn))
    assert all(0 <= float(y) <= ladder_height(ladder) for y in re.findall(r' y="([\d.]+)"', drawn))
    bars = dict(re.findall(r'class="bar (\w+)" .*? width="([\d.]+)"', drawn))
    widths = {name: float(width) / float(bars["clean"]) for name, width in bars.items()}
    assert widths == pytest.approx({"clean": 1.0, "paper": 0.75, "strict": 0.25, "certified": 1.0})
    (gap,) = re.findall(r'<rect class="gap" .*? width="([\d.]+)"', drawn)
    assert float(gap) / float(bars["clean"]) == pytest.approx(0.5)


def test_a_long_reason_stands_in_lines_where_the_bar_would_be(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([1, 1], "paper", samples=1), attack_row([10, 0])))
    drawn = draw_ladder(ladder_of("mine", report_of(model).models[0].headline))
    lines = re.findall(r'<text class="fine" x="78" y="\d+">(.*?)</text>', drawn)
    assert (
        " ".join(line for line in lines if not line.isdigit())
        == "not measured under the vote and in the ball of strict"
    )
    assert all(len(line) <= 38 for line in lines)


def test_names_are_escaped_in_every_form(runs):
    model = runs.model(name=EVIL)
    noise, classes = Noise(name=EVIL, option=EVIL), dict.fromkeys(CLASSES, 1.0)
    results = evaluation([True, False, True], noise=noise, data=f"{EVIL}/test", per_class=classes)
    runs.add("evaluate", model, results, name=EVIL)
    runs.add("attack", model, attacks(attack_row([10, 0], attack=EVIL, split=f"{EVIL}/test")))
    found = section(html_of(model), "found")
    assert "<script" not in found
    assert found.count("&lt;script&gt;") > 4
    assert not re.search(r"(?<!\\)<script", markdown_of(model))


def test_models_that_were_not_measured_alike_are_said_to_be_apart(runs):
    one, other = runs.model(), runs.model()
    runs.add("attack", one, attacks(attack_row([10, 0])))
    runs.add("attack", other, attacks(attack_row([10, 0], samples=1, split="digits/test")))
    said = "These models were not measured alike: they differ in data (cifar10/test, digits/test), m (1, 64)."
    assert said in section(html_of(one, other), "found")
    assert "not measured alike: they" not in html_of(one, one)


@pytest.mark.parametrize("status", ["interrupted", "failed", "running"])
def test_a_run_that_is_not_finished_is_named_once_where_its_figures_would_stand(runs, status):
    model = runs.model()
    run = runs.add("attack", model, status=status)
    text = html_of(model)
    said = f"{run.path.name} (attack) is {'killed' if status == 'running' else status}; what it measured"
    assert text.count(said) == 1
    assert said in section(text, "attacks")
    assert markdown_of(model).count("what it measured is not complete") == 1


def test_damaged_results_are_named_once_where_they_would_stand(runs):
    model = runs.model()
    (runs.add("audit", model).path / "results.json").write_text('{"stage": "audit", "checks": 3}')
    text = html_of(model)
    assert text.count("its figures are left out") == 1
    assert "is damaged" in section(text, "audit")


@pytest.mark.parametrize("change", [{"schema": 99}, {"verb": 3}])
def test_a_run_of_another_version_or_damaged_is_named_once_where_it_would_stand(runs, change):
    model = runs.model()
    run = runs.add("certify", model, certification([0.2], [True]))
    path = run.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    text = html_of(runs.info(model.path))
    assert text.count("if it is a run of this model, its figures are missing here") == 1
    assert run.path.name in section(text, "certified")


def test_of_many_runs_that_cannot_be_read_a_few_are_named(runs):
    model = runs.model()
    for _ in range(7):
        (runs.add("attack", model).path / "run.json").write_text("{")
    text = html_of(model)
    assert text.count("its figures are missing here") == 5
    assert "so it is with 2 more of its name" in text


def test_a_broken_run_of_another_recipe_is_not_said_to_be_of_this_model(runs):
    model = runs.model()
    (runs.add("attack", name="digits").path / "run.json").write_text("{")
    assert "its figures are missing here" not in html_of(model)


def test_headings_are_in_order(runs, measured):
    for text in (html_of(measured), html_of(measured, runs.model())):
        levels = [int(level) for level in re.findall(r"<h(\d)", text)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_markdown_begins_with_the_same_figures_and_sentence(measured):
    text = markdown_of(measured)
    start = text.partition("## In sentences")[0]
    assert "Newest run: 2030-01-01" in start
    (row,) = [line for line in start.splitlines() if line.startswith("| cifar10 ")]
    assert r"≤ 29.2 % \[8.8, 61.0\]" in row
    assert r"66.7 % \[39.0, 86.2\]" in row
    assert "stay right under pgd strict, l-inf 8/255 (m = 64), against 100.0 % of the same images clean" in start
    assert "it is not the model's robustness" in start


def test_the_terminal_shows_the_same_with_the_note(measured, capsys):
    Console(width=200).print(headlines_table(report_of(measured)))
    said = " ".join(capsys.readouterr().out.split())
    assert "≤ 29.2 % [8.8, 61.0]" in said
    assert "cifar10: At most 29.2 % [8.8, 61.0] of 12 images" in said
    assert PROTOCOL_SENTENCES[0] in said


def test_without_a_paper_figure_the_terminal_needs_no_note(runs, capsys):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True]))
    Console(width=200).print(headlines_table(report_of(model)))
    assert "RUSH paper's protocol" not in capsys.readouterr().out


def test_one_of_anything_is_said_in_the_singular(runs):
    changes = "pretrain.epochs=1", "finetune.epochs=1", "data.limit=1"
    recipe = recipe_of("cifar10", *changes)
    model = runs.add("finetune", runs.add("pretrain", recipe=recipe), finetuning(), recipe=recipe)
    runs.add("evaluate", model, evaluation([True], samples=(1,)))
    runs.add("attack", model, attacks(attack_row([1], "paper", samples=1), attack_row([10], samples=1)))
    runs.add("certify", model, certification([0.2], [True], samples=1))
    runs.add("audit", model, audited("pass"))
    forms = words(html_of(model)), markdown_of(model)
    wrong = r"(?<![\d.,=/])\b1 (?:\w+ )?(?:epochs|images|draws|steps|seeds|runs|votes|checks|models|attacks)\b"
    assert [found for text in forms for found in re.findall(wrong, text)] == []
    assert all("1 epoch of batches" in text and "of 1 image of" in text for text in forms)
