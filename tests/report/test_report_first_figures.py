"""Which figures of a model a reader sees first, and what the sentence under them says."""

from __future__ import annotations

import pytest
from synthetic_runs import (
    EPS,
    WITHOUT_NOISE,
    attack_row,
    attacks,
    audited,
    certification,
    evaluation,
    probed,
    recipe_of,
)

from rushkit.report.content import build_report
from rushkit.report.families import gather
from rushkit.report.pictures.ladder import ladder_of
from rushkit.statistics import paired_interval


@pytest.fixture
def seen(runs):
    """``seen(("evaluate", results), ...)``: the headline of the one model of these measurements."""
    model = runs.model()

    def headline(*measured, **facts):
        for verb, results in measured:
            runs.add(verb, model, results, **facts)
        (entry,) = build_report([gather(model)]).models
        return entry.headline

    return headline


def clean_votes(row, right):
    """The row of an attack whose images had so many right votes before it."""
    outcomes = row.outcomes.with_changes(clean_right={rule: list(right) for rule in row.outcomes.clean_right})
    share = sum(right) / row.votes / row.images
    rules = {rule: figures.with_changes(clean_accuracy=share) for rule, figures in row.rules.items()}
    return row.with_changes(outcomes=outcomes, rules=rules)


def test_clean_and_strict_are_of_the_same_images_and_m(seen):
    row = clean_votes(attack_row([10, 0, 0, 0], samples=16), [10, 10, 10, 0])
    found = seen(("evaluate", evaluation([True] * 12, samples=(64,))), ("attack", attacks(row)))
    assert (found.clean.accuracy, found.clean.images, found.clean.samples) == (0.75, 4, 16)
    assert (found.strict.accuracy, found.strict.images, found.strict.samples) == (0.25, 4, 16)
    assert "of 4 images of cifar10/test" in found.sentence
    assert "(m = 16), against 75.0 % of the same images clean." in found.sentence


def test_a_strict_row_of_few_images_does_not_displace_one_of_many(seen):
    many, few = attack_row([10] * 32 + [0] * 32), attack_row([0] * 6, attack="autoattack")
    found = seen(("attack", attacks(many)), ("attack", attacks(few)))
    assert (found.strict.images, found.strict.accuracy) == (64, 0.5)


def test_of_as_many_images_the_largest_m_counts(seen):
    found = seen(("attack", attacks(attack_row([0, 0], samples=1), attack_row([10, 0], samples=64))))
    assert (found.strict.samples, found.strict.accuracy) == (64, 0.5)


def test_of_as_many_images_of_other_indices_the_newest_count(seen):
    first, second = attack_row([0, 0], images=[0, 1]), attack_row([10, 0], images=[2, 3])
    assert seen(("attack", attacks(first)), ("attack", attacks(second))).strict.accuracy == 0.5


def test_the_ball_is_that_of_the_field_where_it_was_attacked(seen):
    rows = attack_row([10, 0]), attack_row([0, 0], eps=2 * EPS), attack_row([0, 0], norm="l2", eps=0.5)
    found = seen(("attack", attacks(*rows)))
    assert (found.strict.ball, found.strict.radius, found.strict.norm) == ("l-inf 8/255", EPS, "linf")


def test_else_it_is_the_largest(seen):
    found = seen(("attack", attacks(attack_row([10, 0], eps=EPS / 2), attack_row([10, 10], eps=EPS / 4))))
    assert found.strict.radius == EPS / 2


def test_images_of_test_come_before_others(seen):
    rows = attack_row([10, 0]), attack_row([0] * 8, split="cifar10/train")
    assert seen(("attack", attacks(*rows))).strict.data == "cifar10/test"


def test_a_row_that_may_not_be_quoted_is_no_strict_one(seen):
    weaker = [{"name": "steps", "value": 1, "own": 40, "weaker": True}]
    found = seen(("attack", attacks(attack_row([10, 0], "weaker", deviations=weaker))))
    assert found.strict is None
    assert "nothing here says how robust the model is" in found.sentence


def test_strict_is_what_is_left_after_the_worst_of_everything(seen):
    found = seen(
        ("attack", attacks(attack_row([10, 10, 0, 0]))),
        ("attack", attacks(attack_row([10, 0, 10, 10], attack="autoattack"))),
    )
    assert found.strict.accuracy == 0.25
    assert found.strict.how.startswith("2 strict attacks together")
    assert len(found.strict.runs) == 2
    assert "leans down by chance" in found.strict.caveat
    assert found.strict.caveat in found.sentence


def test_what_is_left_together_of_other_images_is_no_part_of_it(seen):
    few = attacks(attack_row([0, 0])), attacks(attack_row([0, 0], attack="autoattack"))
    found = seen(("attack", few[0]), ("attack", few[1]), ("attack", attacks(attack_row([10] * 4))))
    assert (found.strict.accuracy, found.strict.how) == (1.0, "pgd strict")


def test_nor_is_what_is_left_of_as_many_others_in_the_same_runs(seen):
    rows = [
        attacks(attack_row([0, 0], attack=name, images=[0, 1]), attack_row([10, 0], attack=name, images=[2, 3]))
        for name in ("pgd", "autoattack")
    ]
    found = seen(("attack", rows[0]), ("attack", rows[1]))
    assert found.strict.accuracy == 0.5


def test_what_is_left_together_counts_only_where_it_is_less(seen):
    # By most of its votes each image is still right, though one vote in ten is lost.
    rows = attack_row([9, 9]), attack_row([9, 9], attack="autoattack")
    assert seen(("attack", attacks(*rows))).strict.accuracy == 0.9


def test_the_gap_is_paired_image_by_image(seen):
    # The rows have the images in different orders.
    paper, strict = attack_row([1, 1, 0, 0], "paper", images=[3, 2, 1, 0]), attack_row([0, 0, 5, 10])
    found = seen(("attack", attacks(paper, strict)))
    assert (found.gap.difference, found.gap.paired) == (pytest.approx(0.125), True)
    assert (found.gap.low, found.gap.high) == pytest.approx(paired_interval([0, 0, 0.5, 0]))
    assert "The protocol paper leaves 50.0 % of them (+12.5 points [" in found.sentence
    assert "which is not the robustness" in found.sentence


def test_beside_the_worst_of_everything_the_gap_counts_what_any_attack_broke(seen):
    rows = attack_row([10, 10, 0, 0]), attack_row([10, 0, 10, 10], attack="autoattack")
    found = seen(("attack", attacks(attack_row([1, 1, 1, 0], "paper"), *rows)))
    assert (found.gap.low, found.gap.high) == pytest.approx(paired_interval([0, 1, 1, 0]))


def test_paper_of_other_images_is_not_said_to_be_of_them(seen):
    paper = attack_row([1, 1, 1, 0], "paper", images=[4, 5, 6, 7])
    found = seen(("attack", attacks(paper)), ("attack", attacks(attack_row([10, 0, 0, 0]))))
    assert not found.gap.paired
    assert not found.paper.same_images
    assert found.gap.low < found.gap.difference == 0.5 < found.gap.high
    assert "paper leaves 75.0 % of 4 images of cifar10/test (chosen by the author) (" in found.sentence


def test_paper_on_the_same_images_comes_before_a_newer_one_on_more(seen):
    same, more = attack_row([1, 1], "paper"), attack_row([0] * 9, "paper")
    found = seen(("attack", attacks(same, attack_row([10, 0]))), ("attack", attacks(more)))
    assert (found.paper.accuracy, found.paper.images) == (1.0, 2)


def test_paper_of_another_m_or_ball_does_not_stand_beside_strict(seen):
    rows = attack_row([1], "paper", samples=1), attack_row([1], "paper", eps=2 * EPS), attack_row([10], samples=64)
    found = seen(("attack", attacks(*rows)))
    assert (found.paper, found.gap) == (None, None)
    assert found.missing["paper"] == "not measured under the vote and in the ball of strict"


def test_paper_is_not_quoted_without_strict(seen):
    found = seen(("attack", attacks(clean_votes(attack_row([1, 1, 0, 0], "paper"), [1, 1, 1, 0]))))
    assert (found.paper, found.strict, found.gap) == (None, None, None)
    assert found.clean.accuracy == 0.75
    assert "50.0" not in found.sentence
    assert "nothing here says how robust the model is" in found.sentence
    assert found.missing["paper"].startswith("only beside strict")


def test_a_certificate_at_the_attacks_radius_counts(seen):
    there = certification([0.05] * 4, [True] * 4, norm="linf", asked=(0.0, EPS, 0.04))
    elsewhere = certification([0.2] * 9, [True] * 9, norm="l1")
    row = attack_row([10] * 4, labels=[0] * 4)
    found = seen(("attack", attacks(row)), ("certify", there), ("certify", elsewhere))
    assert (found.certified.ball, found.certified.images, found.certified.accuracy) == ("l-inf 8/255", 4, 1.0)
    assert found.certified.same_images


def test_else_one_at_the_middle_radius_which_it_names(seen):
    one = certification([0.25, 0.15, 0.05], [True] * 3, asked=(0.0, 0.05, 0.1, 0.2))
    found = seen(("attack", attacks(attack_row([10] * 4))), ("certify", one))
    assert (found.certified.ball, found.certified.accuracy) == ("l1 0.1", pytest.approx(2 / 3))
    assert not found.certified.same_images
    assert "at least 66.6 % [" in found.sentence
    assert "every perturbation up to l1 0.1." in found.sentence


def test_where_nothing_is_certified_the_rung_is_at_zero(seen):
    found = seen(("certify", certification([0.0, 0.0], [True, True])))
    assert (found.certified.accuracy, found.certified.ball) == (0.0, "l1 0.1")


def test_figures_of_other_weights_do_not_stand_together(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([10, 0])), hashes={"parent": "aa"})
    runs.add("attack", model, attacks(attack_row([1, 1], "paper")), hashes={"parent": "bb"})
    runs.add("certify", model, certification([0.2], [True]), hashes={"parent": "bb"})
    (entry,) = build_report([gather(model)]).models
    assert (entry.headline.paper, entry.headline.certified) == (None, None)


def test_figures_under_another_noise_come_last_and_name_it(seen):
    found = seen(("attack", attacks(attack_row([10, 0]))))
    assert found.strict.noise == ""
    found = seen(("attack", attacks(attack_row([0, 0, 0]), noise=WITHOUT_NOISE)))
    assert found.strict.accuracy == 0.5


def test_where_there_is_no_other_noise_it_is_said(seen):
    found = seen(("attack", attacks(attack_row([0, 10]), noise=WITHOUT_NOISE)))
    assert found.strict.noise == "noise none"
    assert "(m = 64, noise none)" in found.sentence


def test_an_audit_that_fails_is_in_the_sentence(seen):
    found = seen(("attack", attacks(attack_row([10, 0]))), ("audit", audited("pass", "fail")))
    assert found.sentence.endswith("The audit gives reasons to doubt the figures under attack: RK102 check-1.")


def test_of_a_clean_figure_alone_the_rest_is_missing(seen):
    found = seen(("evaluate", evaluation([True, True, False, False])))
    assert found.sentence.startswith("Without an attack, a vote of m = 64 is right on 50.0 % [")
    assert sorted(found.missing) == ["certified", "paper", "strict"]
    assert found.missing["strict"].startswith("not measured: rushkit attack --from ")


def test_without_noise_no_certificate_is_missed(runs):
    encoder = runs.add("pretrain")
    model = runs.add("finetune", encoder, recipe=recipe_of("cifar10", "noise.name=none"))
    (entry,) = build_report([gather(model)]).models
    assert entry.headline.missing["certified"] == "without noise there is no certificate"
    assert entry.headline.sentence == "Nothing was measured of this model yet."


def test_an_encoder_has_no_rungs(runs):
    encoder = runs.add("pretrain")
    runs.add("probe", encoder, probed("pre-trained"))
    (entry,) = build_report([gather(encoder)]).models
    assert [rung for _, rung in entry.headline.rungs] == [None] * 4
    assert "an encoder, not a classifier yet" in entry.headline.sentence


def test_report_json_has_it_for_every_model(runs, measured):
    report = build_report([gather(measured), gather(runs.model())]).plain()
    for model in report["models"]:
        assert {"clean", "paper", "strict", "certified", "gap", "sentence"} <= set(model["headline"])
    assert report["models"][0]["headline"]["strict"]["accuracy"] == pytest.approx(3.5 / 12)
    assert report["models"][1]["headline"]["strict"] is None


def test_a_ladder_rounds_each_bound_to_its_side_and_says_what_it_shows(seen):
    rows = attacks(attack_row([1] * 2 + [0], "paper"), attack_row([10, 0, 0]))
    ladder = ladder_of("mine", seen(("attack", rows), ("certify", certification([0.15] * 2 + [0], [True] * 3))))
    assert [rung.words for rung in ladder.rungs] == ["100.0 %", "66.7 %", "≤ 33.4 %", "≥ 66.6 %"]
    assert [rung.under for rung in ladder.rungs] == ["m = 64", "l-inf 8/255", "l-inf 8/255", "l1 0.1"]
    assert (ladder.gap.words, ladder.gap.paper - ladder.gap.strict) == ("+33.3 points", pytest.approx(1 / 3))
    assert ladder.label.startswith("mine: clean (m = 64) 100.0 % [")
    assert "paper (l-inf 8/255) 66.7 % [" in ladder.label
    assert "n = 3, which is not the robustness; strict" in ladder.label
    assert "from strict to paper +33.3 points [" in ladder.label


def test_the_ladder_of_a_clean_figure_alone_has_all_rungs(seen):
    ladder = ladder_of("mine", seen(("evaluate", evaluation([True, False]))))
    assert [rung.share for rung in ladder.rungs] == [0.5, None, None, None]
    assert [rung.words for rung in ladder.rungs][1:] == ["not measured"] * 3
    assert ladder.gap is None
