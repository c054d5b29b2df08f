"""Models compared image by image."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest
from synthetic_runs import attack_row, attacks, evaluation, recipe_of

from rushkit.report.compare import recipe_differences
from rushkit.report.compare import significance as compare_models
from rushkit.report.families import gather
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
