"""What attacked images are taken for: counted by label and class, in JSON, on the page, in Markdown and as a chart."""

from __future__ import annotations

import re

import pytest
from synthetic_runs import CLASSES, EPS, attack_row, attacks, evaluation, taken

from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.figure_files import write_figures
from rushkit.report.page.render import markdown, page
from rushkit.report.pictures.taken import taken_for
from rushkit.results.taken import REJECTED, TakenFor

# By the labels cat, dog and bird in turn. The wrong votes on a cat give dog, on a dog bird, on a bird cat.
RIGHT = [10, 0, 3, 4, 6, 5]
SENTENCE = (
    "Under pgd l-inf 8/255 strict (m = 64), 2 of 6 images of cifar10/test are taken for their own class by most of "
    "their votes, 6 as they are; 3 are taken for another, 0 as they are; for 1 no class has more than half of the "
    "votes, for 0 as they are. The most frequent confusion is cat taken for dog: 1 under attack, 0 as they are."
)


@pytest.fixture
def report(runs):
    """``report(row)``: the report on one model with these rows of attacks."""

    def make(*rows, classes=CLASSES):
        model = runs.model()
        runs.add("evaluate", model, evaluation([True] * 6))
        runs.add("attack", model, attacks(*rows, classes=classes))
        return build_report([gather(model)])

    return make


def shown(report):
    return page(build_document(report), "report.json")


def test_images_are_counted_by_label_and_class_clean_beside_attacked(report):
    (model,) = report(taken(attack_row(RIGHT))).models
    found = model.taken_for.plain()
    assert [tuple(count.values()) for count in found["counts"]] == [
        *(("cat", "cat", 2, 1), ("cat", "dog", 0, 1)),
        *(("dog", "dog", 2, 1), ("dog", "bird", 0, 1)),
        *(("bird", "cat", 0, 1), ("bird", "bird", 2, 0), ("bird", None, 0, 1)),
    ]
    assert found["statement"] == SENTENCE
    assert (found["classes"], found["votes"], found["images"]) == (list(CLASSES), 10, 6)


def test_those_of_their_own_class_are_those_that_most_votes_have_right(report):
    right = [number % 11 for number in range(60)]
    (model,) = report(taken(attack_row(right))).models
    assert model.taken_for.sums("own") == (sum(2 * count > 10 for count in right), 60)
    assert sum(count.attacked for count in model.taken_for.counts) == 60
    assert sum(count.clean for count in model.taken_for.counts) == 60


def test_it_is_of_the_attack_that_the_classes_are_shown_under(report):
    few = taken(attack_row([0, 0], eps=EPS, samples=1))
    (model,) = report(taken(attack_row(RIGHT)), few).models
    assert model.taken_for.images == 6
    assert model.taken_for.attack == model.per_class[0].attack


def test_a_rejection_is_no_class(report):
    row = taken(attack_row([0, 10, 10]))
    by_rule = {rule: TakenFor(classes=[REJECTED, 1, 2], votes=[10] * 3) for rule in row.outcomes.right}
    (model,) = report(row.with_changes(outcomes=row.outcomes.with_changes(taken_for=by_rule))).models
    assert ("cat", None) in {(count.label, count.taken_for) for count in model.taken_for.counts}


def test_the_page_has_both_tables_with_heads_of_rows_and_columns_and_the_sentence(report):
    text = shown(report(taken(attack_row(RIGHT))))
    section = text.partition("What attacked images are taken for")[2]
    assert SENTENCE in section
    clean, attacked = re.findall(r'<table class="matrix sticky">.*?</table>', section, re.DOTALL)
    assert "without an attack" in clean
    assert "under pgd l-inf 8/255 strict" in attacked
    for table in (clean, attacked):
        assert re.findall(r'<th scope="row" class="text"><b>(\w+)</b></th>', table) == list(CLASSES)
        columns = re.findall(r'<th scope="col">([^<]*)</th>', table.replace(' class="text"', ""))
        assert columns[-4:] == [*CLASSES, "no class"]
    numbers = [re.findall(r"<td[^>]*>(\d*)</td>", row) for row in re.findall(r"<tr>.*?</tr>", attacked, re.DOTALL)]
    assert numbers[-3:] == [["1", "1", "", ""], ["", "1", "1", ""], ["1", "", "", "1"]]


def test_of_many_classes_the_confused_pairs_are_listed(report):
    names = [f"class {number}" for number in range(40)]
    row = taken(attack_row([10] * 38 + [0] * 2, labels=list(range(40))), 40)
    text = shown(report(row, classes=names))
    assert "the most frequent confusions" in text
    section = text.partition("What attacked images are taken for")[2]
    assert re.findall(r'<th scope="row"[^>]*>([^<]*)</th>', section) == ["class 38", "class 39"]


def test_markdown_has_the_sentence_and_the_confused_pairs(report):
    text = markdown(build_document(report(taken(attack_row(RIGHT)))), "report.json")
    section = text.partition("### What attacked images are taken for")[2].partition("###")[0]
    assert SENTENCE in section
    assert "| bird | no class | 1 | 0 |" in re.sub(r" +", " ", section)


def test_a_record_that_did_not_keep_it_says_so_on_the_page_alone(report):
    old = report(attack_row(RIGHT), classes=())
    assert old.models[0].taken_for.plain()["counts"] == []
    assert "nothing is known of what images are taken for" in shown(old)
    assert "taken for" not in markdown(build_document(old), "report.json")
    assert not build_document(old).charts.taken_for


def test_without_a_strict_attack_there_is_none(report):
    (model,) = report(taken(attack_row([1, 0, 0], "paper"))).models
    assert model.taken_for is None


def test_the_chart_says_which_class_draws_most_images_of_others(report, tmp_path):
    found = report(taken(attack_row([0, 0, 10, 0, 10, 0])))
    (chart,) = taken_for(found.models)
    assert chart.rows == CLASSES
    clean, attacked = chart.series
    assert [y for _, y in clean.points] == [0, 0, 0]
    assert [y for _, y in attacked.points] == [1, 2, 1]
    found_words = "under pgd l-inf 8/255 strict dog most often, 2 images, 0 as they are"
    assert chart.label == f"What images of other classes are taken for: {found_words}"
    files = write_figures(build_document(found), [], tmp_path)
    assert {path.name for path in files} >= {"taken-for.svg", "taken-for.pdf"}


def test_two_classes_of_one_name_are_told_apart_by_number(report):
    (model,) = report(taken(attack_row(RIGHT)), classes=("cat", "cat", "bird")).models
    assert model.taken_for.classes == ("0", "1", "2")
