"""The sentences that state a figure: what they must say, and that none says better than it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from synthetic_runs import attack_row, attacks, certification, evaluation, recipe_of

from rushkit.claims.chain import weights_hash
from rushkit.data.memory import chosen_indices
from rushkit.report.content import build_report
from rushkit.report.families import gather
from rushkit.results.statements import (
    BY_THE_AUTHOR,
    MAY_LEAVE_FEWER,
    attack_statement,
    certificate_statement,
    chosen_words,
    clean_statement,
    weights_statement,
)
from rushkit.run.checkpoint import checkpoint_hash, save_checkpoint


@pytest.mark.parametrize(
    ("limit", "skip", "said"),
    [
        (0, 1, "all of test"),
        (200, 1, "all of test"),
        (0, 20, "every 20th of test"),
        (3, 20, "the first 3 of a fixed order of every 20th of test"),
        (30, 1, "the first 30 of a fixed order of test"),
    ],
)
def test_a_rule_is_named_where_the_indices_are_those_that_it_takes(limit, skip, said):
    taken = chosen_indices(100, limit, skip)
    indices = list(range(100)) if taken is None else taken.tolist()
    assert chosen_words(indices, "test", limit, skip) == said


@pytest.mark.parametrize(
    ("indices", "limit", "skip"),
    [
        ([0, 1, 3], 0, 1),
        ([0, 0, 1], 0, 1),
        ([0, 20, 41], 0, 20),
        ([5, 5, 7], 3, 1),
        ([0, 20, 30], 3, 20),
        ([4, 9], 3, 1),
        ([0, 1, 2, 3], 3, 1),
    ],
)
def test_other_indices_than_the_rule_takes_are_the_authors_choice(indices, limit, skip):
    assert chosen_words(indices, "test", limit, skip) == BY_THE_AUTHOR


def test_what_an_attack_leaves_is_an_upper_bound_and_rounded_up():
    # 1 of 3 is 33.33 %: "at most 33.3 %" would be false.
    said = attack_statement(attack_row([10, 0, 0]), "all of test")
    assert said.startswith("Under pgd, l-inf 8/255, strict: at most 33.4 % [")
    assert "of 3 images of cifar10/test (all of test) stay right (m = 64), against 100.0 %" in said
    assert said.endswith(MAY_LEAVE_FEWER)


def test_a_certified_share_is_a_lower_bound_and_rounded_down():
    # 2 of 3 is 66.67 %: "at least 66.7 %" would be false.
    results = certification([0.3] * 3, [True, True, False])
    said = certificate_statement(results, "every 20th of test", results.certified[1])
    assert ": at least 66.6 % [" in said
    assert "of 3 images of cifar10/test (every 20th of test) keep their right class under every l1" in said
    assert "taken together, at least 33.3 % of these images do, but for one chance of 0.001" in said
    assert said.endswith("This is a lower bound: more of them may be robust.")


def test_certificates_without_chance_need_no_word_on_them_together():
    results = certification([0.3] * 3, [True] * 3, mode="splits", alpha=0.0)
    said = certificate_statement(results, "all of test", results.certified[1])
    assert "taken together" not in said
    assert "exact, all 1000 splits" in said


def test_where_nothing_is_certified_nothing_is_called_proved_wrong():
    results = certification([0.0] * 3, [True] * 3)
    assert "of 3 images of cifar10/test (all of test) none is certified at any l1" in certificate_statement(
        results, "all of test", None
    )


def test_the_examples_of_the_page_are_the_sentences_that_are_built():
    page = (Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
    text = " ".join(line.removeprefix("> ") for line in page.splitlines())
    results = certification([0.3] * 3, [True, True, False])
    assert attack_statement(attack_row([10] * 3 + [5] + [0] * 8), "all of test") in text
    assert certificate_statement(results, "all of test", results.certified[1]) in text
    assert weights_statement("1f2e3d4c...") in text


def test_a_clean_accuracy_says_under_which_vote():
    row = evaluation([True, False]).accuracy[-1]
    said = clean_statement(row, "2 images of cifar10/test (all of test)", row.samples, "noise none")
    assert said == (
        "Without an attack, a vote of m = 64 is right on 50.0 % [9.4, 90.6] of 2 images of cifar10/test (all of test), "
        "noise none."
    )


def test_a_report_says_how_the_images_of_each_figure_were_chosen(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 4))
    limited = recipe_of("cifar10", 'attack=[{type="pgd", limit=4}]')
    runs.add("attack", model, attacks(attack_row([10, 10, 0, 0])), recipe=limited)
    runs.add("certify", model, certification([0.3] * 4, [True] * 4), recipe=recipe_of("cifar10", "certify.skip=2"))
    (entry,) = build_report([gather(model)]).models
    clean, attacked, proved = entry.summary[:3]
    assert "4 images of cifar10/test (all of test)." in clean
    assert "4 images of cifar10/test (the first 4 of a fixed order of test) stay right" in attacked
    # Those are images 0 to 3, and not every second one.
    assert f"4 images of cifar10/test ({BY_THE_AUTHOR}) keep" in proved
    assert not re.search(r"robust accuracy is|robustness is", " ".join(entry.summary))


def test_a_split_that_the_recipe_cuts_is_not_called_whole(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True] * 4), recipe=recipe_of("cifar10", "data.limit=4"))
    assert "4 images of cifar10/test (all of test after data.limit = 4)." in _summary(model)


def test_a_report_names_the_weights_that_all_of_its_figures_are_of(runs):
    model = runs.model()
    checkpoint = model.path / "checkpoints" / "step-000010.safetensors"
    checkpoint.parent.mkdir()
    tensors = {"encoder.w": torch.ones(2), "training.momentum": torch.ones(2)}
    save_checkpoint(checkpoint, tensors, {})
    runs.add("evaluate", model, evaluation([True]), hashes={"parent": checkpoint_hash(checkpoint)})
    assert f"The weights have hash {weights_hash(tensors)}; compare it with the one published." in _summary(model)
    runs.add("attack", model, attacks(attack_row([10])), hashes={"parent": "cd" * 32})
    assert "The weights have hash" not in _summary(model)


def _summary(model):
    return " ".join(build_report([gather(model)]).models[0].summary)
