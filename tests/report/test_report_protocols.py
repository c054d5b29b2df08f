"""Which rows of attacks belong together, and which of them may be quoted."""

from __future__ import annotations

import pytest
from synthetic_runs import EPS, NOISE, attacks
from synthetic_runs import attack_row as row_of_results

from rushkit.report.figures import MeasuredAttack
from rushkit.report.protocols import above_paper, attack_pairs, protocol_words, standing, upper_bounds
from rushkit.report.terminal.headline import headline
from rushkit.results.words import plain_noise

SQUARE = {"name": "type", "value": "square", "own": ["pgd", "apgd", "autoattack"], "weaker": True}
STEPS = {"name": "steps", "value": 1, "own": 40, "weaker": True}


def attack_row(right, *args, **facts):
    return MeasuredAttack("run", "cifar10", plain_noise(NOISE), row_of_results(right, *args, **facts))


def weaker(right, deviation=STEPS, **facts):
    return attack_row(right, "weaker", deviations=[deviation], **facts)


def test_a_row_says_what_is_not_its_protocols_own():
    assert protocol_words(attack_row([10]).record) == "strict"
    assert protocol_words(weaker([10]).record) == "weaker: steps 1 (strict: 40)"
    assert protocol_words(attack_row([1], "paper", deviations=[STEPS]).record) == "paper: steps 1 (paper: 40)"
    published = attack_row([1], "published", deviations=[{"name": "steps", "value": 20, "own": None, "weaker": False}])
    assert protocol_words(published.record) == "published: steps 20"
    assert protocol_words(weaker([10], SQUARE).record) == "weaker: type square (strict: pgd, apgd, autoattack)"


def test_a_weaker_row_that_leaves_less_than_strict_is_a_bound_too():
    strict, lower, higher = attack_row([10, 0]), weaker([0, 0], SQUARE, attack="square"), weaker([10, 10])
    assert upper_bounds([strict, lower, higher]) == [strict, lower]
    results = attacks(*(row.record for row in (strict, lower)))
    assert headline(results).words.startswith("0.0 % square l-inf 8/255 weaker, m = 64")


@pytest.mark.parametrize("facts", [{"eps": EPS / 2}, {"samples": 1}, {"norm": "l2"}, {"split": "cifar10/train"}])
def test_a_weaker_row_of_another_ball_m_or_split_bounds_nothing_of_strict(facts):
    strict = attack_row([10, 0])
    assert upper_bounds([strict, weaker([0, 0], **facts)]) == [strict]


def test_without_a_strict_row_nothing_is_a_bound():
    assert upper_bounds([weaker([0, 0]), attack_row([0, 0], "paper")]) == []


def test_rows_of_one_ball_with_other_options_are_pairs_of_their_own():
    first, second, paper = weaker([10]), weaker([10], SQUARE), attack_row([1], "paper")
    assert attack_pairs([paper, first, second]) == [{"paper": paper, "weaker": first}, {"weaker": second}]


def test_figures_of_a_pair_are_those_of_strict_where_it_was_run():
    strict, paper, weak = attack_row([10]), attack_row([1], "paper"), weaker([10])
    assert standing({"paper": paper, "strict": strict}) is strict
    assert standing({"paper": paper, "weaker": weak}) is paper
    assert standing({"weaker": weak}) is weak


def test_a_weaker_figure_above_papers_is_no_riddle():
    assert above_paper({"paper": attack_row([0], "paper"), "weaker": weaker([10])}) == []


def test_a_published_attack_stands_beside_the_protocols_and_bounds_nothing_by_fewer_votes():
    strict, paper, published = attack_row([10, 0]), attack_row([1, 1], "paper"), attack_row([0, 0], "published")
    assert attack_pairs([paper, published, strict]) == [{"paper": paper, "published": published, "strict": strict}]
    assert upper_bounds([strict, published]) == [strict]
    assert standing({"paper": paper, "published": published}) is paper
    # Without noise one vote says as much as ten.
    strict = attack_row([1, 0], votes=1)
    assert upper_bounds([strict, published]) == [strict, published]
