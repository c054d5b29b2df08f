"""What the demo says of its figures in two sentences."""

from __future__ import annotations

from synthetic_runs import attack_row, attacks, evaluation

from rushkit.report.terminal.found import found_words

CLEAN = evaluation([True, True, True, False], samples=(1, 64))


def test_the_upper_bound_is_of_strict_under_the_largest_m_and_paper_is_not_quoted():
    rows = attack_row([0, 0], "paper"), attack_row([10, 0]), attack_row([0, 0], samples=1)
    found, not_found = found_words(CLEAN, attacks(*rows))
    assert found == (
        "Found: a vote of 64 noisy looks is right on 75.0 [30.0, 95.5] % of 4 images of cifar10/test, and under pgd, "
        "l-inf 8/255, strict, a vote of 64 on at most 50.0 % [9.4, 90.6] of 2."
    )
    assert not_found.startswith("Not found: that the model is robust; a stronger attack may leave less,")
    assert "2 images of cifar10/test say nothing about other data" in not_found


def test_what_few_images_leave_does_not_displace_what_many_do():
    found, _ = found_words(CLEAN, attacks(attack_row([0, 0]), attack_row([10, 10, 10, 0])))
    assert found.endswith("a vote of 64 on at most 75.0 % [30.0, 95.5] of 4.")


def test_without_a_strict_attack_there_is_no_upper_bound():
    found, not_found = found_words(CLEAN, attacks(attack_row([1, 0], "paper"), attack_row([0, 0], "weaker")))
    assert found.endswith("no attack was as strong as the strict protocol.")
    assert not_found.startswith("Not found: how robust the model is")
