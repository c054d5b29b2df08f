"""Models compared image by image."""

from __future__ import annotations

import json
import re

import pytest
from scipy.stats import binomtest
from synthetic_runs import attack_row, attacks, certification, evaluation, recipe_of

from rushkit.cli.app import main
from rushkit.recipe.schema import Noise
from rushkit.report.compare import certificate_notes, recipe_differences
from rushkit.report.compare import significance as compare_models
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import markdown, page
from rushkit.results.attacks import Candidate


def significance(families, names):
    return [test.plain() for test in compare_models(families, names)]


ONE = [True] * 10 + [False] * 10
OTHER = [True] * 2 + [False] * 8 + [True] + [False] * 9


def test_mcnemar_counts_the_images_that_one_alone_has_right(runs):
    first, second = runs.model(), runs.model()
    runs.add("evaluate", first, evaluation(ONE, samples=(64,)))
    runs.add("evaluate", second, evaluation(OTHER, samples=(64,)))
    rows = significance([gather(first), gather(second)], ["a", "b"])
    assert [row["what"]["rule"] for row in rows] == ["majority", "mean"]
    row = rows[0]
    assert (row["first"], row["second"], row["images"], row["both"]) == ("a", "b", 20, 2)
    assert (row["only_first"], row["only_second"]) == (8, 1)
    assert row["p_value"] == pytest.approx(binomtest(8, 9).pvalue, abs=1e-12)


def test_under_attack_an_image_is_right_where_most_votes_are(runs):
    first, second = runs.model(), runs.model()
    runs.add("attack", first, attacks(attack_row([10, 6, 5, 0])))
    runs.add("attack", second, attacks(attack_row([0, 10, 10, 10])))
    (row,) = significance([gather(first), gather(second)], ["a", "b"])
    assert (row["both"], row["only_first"], row["only_second"]) == (1, 1, 2)


def test_a_model_that_was_attacked_more_weakly_is_not_the_better_one(runs):
    first, second = runs.model(), runs.model()
    weak = attack_row([10] * 20, candidates=[Candidate(label="pgd nll", options={"steps": 1, "seed": 3})])
    runs.add("attack", first, attacks(attack_row([0] * 20)))
    runs.add("attack", second, attacks(weak))
    assert significance([gather(first), gather(second)], ["a", "b"]) == []
    # Another seed is the same attack; and now there is one that both had.
    weak = weak.with_changes(candidates=[Candidate(label="pgd nll", options={"steps": 1, "seed": 4})])
    runs.add("attack", first, attacks(weak))
    (row,) = significance([gather(first), gather(second)], ["a", "b"])
    assert (row["both"], row["only_first"], row["only_second"]) == (20, 0, 0)


def test_of_several_strict_attacks_the_strongest_on_the_common_images_is_compared(runs):
    first, second = runs.model(), runs.model()
    # The strongest on images 0 and 1 is neither the newest nor the one on the most images.
    runs.add("attack", first, attacks(attack_row([10, 0, 10, 10])))
    runs.add("attack", first, attacks(attack_row([0, 0])))
    runs.add("attack", first, attacks(attack_row([10, 10])))
    runs.add("attack", second, attacks(attack_row([10, 10])))
    (row,) = significance([gather(first), gather(second)], ["a", "b"])
    assert (row["images"], row["only_first"], row["only_second"]) == (2, 0, 2)


def test_of_several_attacks_of_the_protocol_paper_the_newest_is_compared(runs):
    first, second = runs.model(), runs.model()
    for right in ([0, 0], [1, 1]):
        runs.add("attack", first, attacks(attack_row(right, "paper")))
    runs.add("attack", second, attacks(attack_row([1, 1], "paper")))
    (row,) = significance([gather(first), gather(second)], ["a", "b"])
    assert (row["only_first"], row["only_second"], row["both"]) == (0, 0, 2)


def test_a_stronger_attack_on_other_labels_does_not_count(runs):
    first, second = runs.model(), runs.model()
    runs.add("attack", first, attacks(attack_row([0, 0], labels=[2, 2])))
    for model in (first, second):
        runs.add("attack", model, attacks(attack_row([10, 10])))
    (row,) = significance([gather(first), gather(second)], ["a", "b"])
    assert row["both"] == 2


def test_images_that_both_attacked_are_compared(runs):
    first, second = runs.model(), runs.model()
    runs.add("attack", first, attacks(attack_row([10, 10, 10])))
    runs.add("attack", second, attacks(attack_row([0, 0, 0, 10, 10], images=[1, 2, 3, 4, 5])))
    (row,) = significance([gather(first), gather(second)], ["a", "b"])
    assert (row["images"], row["only_first"]) == (2, 2)


@pytest.mark.parametrize(
    ("change", "facts"),
    [("data.limit=50", {}), ("data.validation=5000", {}), (None, {"data": "cifar10/train"}), ("labels", {})],
)
def test_other_images_are_not_compared(runs, change, facts):
    first = runs.model()
    runs.add("evaluate", first, evaluation(ONE))
    recipe = recipe_of("cifar10", *([change] if change and change != "labels" else []))
    second = runs.model(recipe=recipe)
    results = evaluation(OTHER, **facts)
    if change == "labels":
        results.outcomes.labels[3] = 2
    runs.add("evaluate", second, results, recipe=recipe)
    assert significance([gather(first), gather(second)], ["a", "b"]) == []


def test_a_measurement_under_another_noise_does_not_stand_for_the_model(runs):
    first, second = runs.model(), runs.model()
    runs.add("evaluate", first, evaluation(ONE))
    runs.add("evaluate", second, evaluation(ONE))
    louder = recipe_of("cifar10", "noise.scale=0.9")
    runs.add("evaluate", second, evaluation(OTHER), recipe=louder)
    rows = significance([gather(first), gather(second)], ["a", "b"])
    assert all(row["only_first"] == row["only_second"] == 0 for row in rows)


def test_one_draw_is_compared_once(runs):
    first, second = runs.model(), runs.model()
    for model in (first, second):
        runs.add("evaluate", model, evaluation(ONE, samples=(1,)))
    assert len(significance([gather(first), gather(second)], ["a", "b"])) == 1


def test_recipes_differ_in_what_changes_figures_only():
    found = recipe_differences([recipe_of("cifar10"), recipe_of("cifar10", "noise.scale=0.1", "system.device=cpu")])
    assert found == {"noise.scale": [0.3, 0.1]}
    # Blocks of an attack follow from it, and their draws from the blocks.
    assert recipe_differences([recipe_of("cifar10"), recipe_of("cifar10", "system.chunk=9")]) == {
        "system.chunk": [0, 9]
    }
    assert recipe_differences([recipe_of("cifar10"), None])["data.name"] == ["cifar10", None]


def certified(**facts):
    return certification([0.05, 0.15, 0.25, 0.25], [True, True, True, False], **facts)


def test_certificates_that_were_made_alike_need_no_word():
    assert certificate_notes(["a", "b"], [[certified()], [certified()]]) == []
    assert certificate_notes(["a", "b"], [[certified()], []]) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"bound": "betting"}, "another bound (clopper-pearson, betting)"),
        ({"mode": "sequential"}, "another method (fixed, sequential)"),
        ({"rule": "mean"}, "another rule (majority, mean)"),
        ({"two_class": True}, "another two_class (false, true)"),
        ({"alpha": 0.01}, "another alpha (0.001, 0.01)"),
        ({"samples": 500}, "another number of draws (1000, 500)"),
        ({"data": "digits/test"}, "another data (cifar10/test, digits/test)"),
        ({"theorem": "l1 radius / sqrt(d)"}, "another theorem (Neyman-Pearson, tight, l1 radius / sqrt(d))"),
    ],
)
def test_certificates_that_were_made_differently_say_in_what_and_that_it_may_not_be_the_models(facts, words):
    (note,) = certificate_notes(["a", "b"], [[certified()], [certified(**facts)]])
    assert note.startswith(f"a and b, l1: certified with {words}; ")
    assert "is not one of the models alone" in note


def test_another_noise_has_another_theorem_which_is_a_difference_of_the_models():
    other = certified(noise=Noise(name="laplace", scale=0.1), theorem="another")
    assert certificate_notes(["a", "b"], [[certified()], [other]]) == []


def test_radii_in_other_norms_are_not_comparable():
    (note,) = certificate_notes(["a", "b"], [[certified()], [certified(norm="linf"), certified(norm="l2")]])
    assert note == "a is certified in l1, b in l-inf and l2: their radii are not comparable"


def test_of_several_certifications_in_a_norm_the_newest_on_the_most_images_counts():
    few = certification([0.1], [True], alpha=0.5)
    assert certificate_notes(["a", "b"], [[certified(), few], [certified(alpha=0.5), certified()]]) == []


def test_compare_names_the_method_of_each_run_and_that_they_differ(runs, capsys):
    model = runs.model()
    one, other = runs.add("certify", model, certified()), runs.add("certify", model, certified(alpha=0.01))
    assert main(["runs", "compare", str(one.path), str(other.path), str(model.path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("certified by", "together", "another alpha (0.001, 0.01)"):
        assert words in said
    assert main(["runs", "compare", str(one.path), str(other.path), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert [words.partition(" for")[0] for words in compared["certified by"]] == ["alpha 0.001", "alpha 0.01"]
    assert compared["together"] == ["at least 25.0 %", "at least 25.0 %"]
    (note,) = compared["certificates"]
    ends = (run.path.name[-6:] for run in (one, other))
    assert note.startswith(f"{' and '.join(ends)}, l1: certified with another alpha (0.001, 0.01)")


def test_runs_that_certify_nothing_are_compared_without_a_word_on_it(runs, capsys):
    one, other = runs.model(), runs.model()
    assert main(["runs", "compare", str(one.path), str(other.path), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert "certified by" not in compared
    assert compared["certificates"] == []


def test_a_report_of_two_models_says_that_their_certificates_were_made_differently(runs):
    one, other = runs.model(), runs.model()
    runs.add("certify", one, certified())
    runs.add("certify", other, certified(bound="betting"))
    document = build_document(build_report([gather(one), gather(other)]))
    words = "another bound (clopper-pearson, betting)"
    assert words in markdown(document, "report.html")
    assert words in page(document, "report.md")


def test_many_tests_are_folded_below_what_they_come_to(runs):
    models = [runs.model(name=f"model-{number}") for number in range(5)]
    for number, model in enumerate(models):
        right = [True] * 20 if number else [False] * 20
        runs.add("evaluate", model, evaluation(right, samples=(1, 64)), name=f"model-{number}")
    few, many = (page(build_document(build_report(list(map(gather, some)))), "x.json") for some in (models[:3], models))
    words = "tests of 10 pairs of models; p, Holm is below 0.05 in 12 of them"
    assert re.search(rf"<details><summary>\d+ {words}</summary><div class=\"scroll\"", many)
    assert "pairs of models" not in few
