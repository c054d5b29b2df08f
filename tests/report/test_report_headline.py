"""A run's figures in a line and in a few."""

from __future__ import annotations

import pytest
from synthetic_runs import (
    attack_row,
    attacks,
    audited,
    certification,
    evaluation,
    finetuning,
    imported,
    pretraining,
    probed,
    transferred,
)

from rushkit.report.terminal.headline import figures, headline, needs_protocol_note
from rushkit.results.imported import CleanCheck

CLEAN = CleanCheck(
    data="cifar10/test", images=4, chance=0.1, correct=2, accuracy=0.5, low=0.1, high=0.9, confidence=0.95
)
IMPORTED = imported("classifier", CLEAN)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (evaluation([True, False]), "50.0 % at m = 64, n = 2"),
        # Strict under the largest m, whatever paper and one draw say.
        (
            attacks(attack_row([0, 0], "paper"), attack_row([10, 10]), attack_row([10, 0], samples=1)),
            "100.0 % pgd l-inf 8/255 strict, m = 64, n = 2",
        ),
        (
            attacks(attack_row([10, 10, 10, 0]), attack_row([0, 0])),
            "75.0 % pgd l-inf 8/255 strict, m = 64, n = 4",
        ),
        (attacks(attack_row([1, 0], "paper")), "50.0 % pgd l-inf 8/255 paper, m = 64, n = 2"),
        (certification([0.1, 0.2], [True, True]), "100.0 % certified at l1 0.1, n = 2, alpha 0.001"),
        (audited("pass", "warn", "pass"), "0 fail, 1 warn, 2 pass, n = 9 of 12"),
        (probed("random", "pre-trained"), "ratio 0.250 found by ascent, n = 4"),
        (IMPORTED, "50.0 % clean, n = 4"),
        (imported("classifier"), "classifier"),
        (pretraining(knn_accuracy=0.5), "kNN 50.0 %"),
        (finetuning(0.25), "loss 0.250"),
    ],
)
def test_the_headline_of_a_run(results, expected):
    assert headline(results).words == expected


def test_every_figure_has_its_interval_and_its_images():
    assert figures(evaluation([True, False], samples=(64,)))[0] == (
        "cifar10/test, m = 64, majority: 50.0 [9.4, 90.6] %, n = 2"
    )
    first, second = figures(attacks(transferred(attack_row([10, 0]), [10, 10], "other")))
    assert first == "pgd l-inf 8/255 strict, m = 64: 50.0 [9.4, 90.6] %, clean 100.0 %, n = 2"
    assert second == "  the same images asked of other: 100.0 [34.2, 100.0] %"
    certified = figures(certification([0.1], [True]))
    method = "alpha 0.001 for each image, clopper-pearson, 1000 draws; theorem: Neyman-Pearson, tight"
    assert certified[0] == f"certified on cifar10/test, {method}:"
    assert certified[1] == "l1 0: 100.0 [20.6, 100.0] %, together at least 100.0 %, n = 1"
    assert figures(probed("random"))[1].startswith("random weights, x' found by ascent: 0.250 [")
    assert figures(IMPORTED)[1] == "cifar10/test, clean, without noise: 50.0 [10.0, 90.0] %, n = 4"
    assert figures(finetuning(0.25)) == ["epochs: 2", "loaded: 0", "loss: 0.25"]


def test_an_audit_names_what_is_wrong_and_its_power():
    said = figures(audited("pass", "fail", drop=0.1))
    assert said[0] == "1 fail, 0 warn, 2 pass on 12 images of cifar10/test, m = 64"
    assert [line.split()[1] for line in said[1:]] == ["RK102", "RK119"]


def test_a_headline_of_the_protocol_paper_needs_its_note():
    assert headline(attacks(attack_row([1], "paper"))).needs_note
    assert not headline(attacks(attack_row([1], "paper"), attack_row([1]))).needs_note
    assert not headline(evaluation([True])).needs_note


def test_a_figure_of_the_protocol_paper_is_known_as_one():
    assert needs_protocol_note(attacks(attack_row([1], "paper"), attack_row([1])))
    assert not needs_protocol_note(attacks(attack_row([1])))
    assert not needs_protocol_note(evaluation([True]))
