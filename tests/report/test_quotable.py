"""Which of several attacks is quoted."""

from __future__ import annotations

from synthetic_runs import attack_row, attacks

from rushkit.report.protocols import attacks_of
from rushkit.report.quotable import ball_to_quote, most_images, quoted


def rows(*records):
    return attacks_of("", attacks(*records))


def test_without_rows_nothing_is_quoted():
    assert quoted([]) is None


def test_few_images_never_displace_many():
    few, many = rows(attack_row([0] * 6), attack_row([10] * 32 + [0] * 32))
    assert quoted([few, many]) is many
    assert quoted([many, few]) is many


def test_of_equal_images_the_largest_m_counts_then_the_newest():
    one, many, other = rows(attack_row([0, 0], samples=1), attack_row([10, 10]), attack_row([10, 0], images=[2, 3]))
    assert most_images([many, one]) == [many]
    assert most_images([other, many]) == [many]
    assert most_images([many, other]) == [other]


def test_rows_of_other_weights_are_no_group():
    first, second = (attacks_of(run, attacks(attack_row([10, 0])))[0] for run in ("a", "b"))
    assert most_images([first, second], {"a": "x", "b": "x"}) == [first, second]
    assert most_images([first, second], {"a": "x", "b": "y"}) == [second]


def test_on_the_same_images_the_row_that_leaves_least_is_quoted_of_equals_the_newest():
    first, second, third = rows(attack_row([10, 0]), attack_row([0, 10]), attack_row([10, 10]))
    assert quoted([first, second, third]) is second


def test_of_several_balls_linf_8_255_is_quoted_else_the_largest_of_the_first_norm():
    small, asked, large, other = rows(
        attack_row([10, 0], eps=2 / 255),
        attack_row([10, 0], eps=8 / 255),
        attack_row([0, 0], eps=16 / 255),
        attack_row([0, 0], eps=0.5, norm="l2"),
    )
    assert ball_to_quote([small, asked, large, other]) == [asked]
    assert ball_to_quote([other, small, large]) == [large]
    assert ball_to_quote([other]) == [other]


def test_test_images_come_before_others():
    train, test = rows(attack_row([0, 0, 0, 0], split="cifar10/train"), attack_row([10, 0]))
    assert quoted([train, test]) is test
    assert quoted([train]) is train
