"""The class that most votes take an image for, before and after an attack, where both are known."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from linear_models import prototypes
from torch import nn

import rushkit
from rushkit import registries
from rushkit.attacks.scoring import cast_votes, most_voted
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.schema import Attack
from rushkit.results import dump, parse
from rushkit.results.taken import REJECTED
from rushkit.robustness.attack import attack
from rushkit.robustness.block import Block, attack_block
from rushkit.robustness.log_checks import check_attack
from rushkit.robustness.protocols import plan_attack
from rushkit.setup.model import classes_of, recipe_of
from rushkit.smoothing import SmoothedClassifier

# A pixel is the logit of its class. Within 0.15 the first image can be taken for class 1, and for no other; the second
# for no other class than its own; the third is taken for class 2 as it is.
PIXELS = torch.tensor([[0.9, 0.7, 0.1], [0.1, 0.9, 0.3], [0.2, 0.1, 0.9]])
LABELS = torch.tensor([0, 1, 0])


def attacked(g, x, y, eps=0.15, target=None, samples=1):
    section = Attack(
        type="pgd",
        eps=eps,
        steps=10,
        score_samples=[5] if samples > 1 else [],
        target="" if target is None else str(target),
    )
    plan = plan_attack(section, "strict", samples, 3, 0).towards(target)
    return attack_block(g, plan, section, Block(0, x, y, torch.arange(len(x))), 0)


def by_pixels(classes=None):
    g = SmoothedClassifier(nn.Flatten(), registries.noises.create("none"), 1)
    g.classes = classes
    return g


def test_an_attacked_image_is_taken_for_the_class_next_to_it():
    record, _ = attacked(by_pixels(), PIXELS[:, :, None, None], LABELS)
    for rule in ("majority", "mean"):
        assert record.clean_taken_for[rule].classes == [0, 1, 2]
        assert record.taken_for[rule].classes == [1, 1, 2]
        assert record.taken_for[rule].votes == record.clean_taken_for[rule].votes
        assert record.right[rule] == [0, record.taken_for[rule].votes[1], 0]


def test_towards_a_target_an_image_is_taken_for_it_by_the_votes_that_are_not_right():
    x = torch.tensor([[0.9, 0.1, 0.7], [0.9, 0.1, 0.2]])[:, :, None, None]
    record, _ = attacked(by_pixels(), x, torch.zeros(2, dtype=torch.int64), target=2)
    (votes,) = set(record.clean_right["majority"])
    assert record.taken_for["majority"].classes == [2, 0]
    assert record.taken_for["majority"].votes == [votes, votes]
    assert record.right["majority"] == [0, votes]


def test_an_answer_that_is_none_of_the_classes_is_no_class():
    record, _ = attacked(by_pixels(("ant", "bee")), PIXELS[:, :, None, None], LABELS, eps=0.01)
    assert record.clean_taken_for["majority"].classes == [0, 1, REJECTED]


def test_the_class_and_its_votes_are_those_of_the_draws_that_score_the_image():
    g, x, y = prototypes(noise=0.6)
    record, x_adv = attacked(g, x, y, eps=0.05, samples=4)
    keys = torch.arange(len(x))
    for votes_on, outcomes in ((g, record), (g.with_samples(5), record.rescored[0])):
        for images, purpose, taken in (
            (x_adv, "score", outcomes.taken_for["majority"]),
            (x, "clean", outcomes.clean_taken_for["majority"]),
        ):
            cast = cast_votes(votes_on, images, 10, 0, keys, purpose)["majority"].tolist()
            expected = [max(Counter(votes).items(), key=lambda item: (item[1], -item[0])) for votes in cast]
            assert list(zip(taken.classes, taken.votes, strict=True)) == expected
    own = record.taken_for["majority"]
    for label, right, index, most in zip(y.tolist(), record.right["majority"], own.classes, own.votes, strict=True):
        assert most == right if index == label else right <= most <= 10 - right
    assert set(own.votes) - {10}


@pytest.mark.parametrize(
    ("votes", "winner", "count"),
    [
        ([2, 1, 1, 2], 1, 2),
        ([3, 3, 0], 3, 2),
        ([REJECTED, 5, REJECTED, 5], 5, 2),
        ([REJECTED, REJECTED, 4], REJECTED, 2),
        ([REJECTED], REJECTED, 1),
    ],
)
def test_the_lowest_class_wins_a_tie_and_a_rejection_comes_last(votes, winner, count):
    assert most_voted(torch.tensor([votes])) == ([winner], [count])


def test_a_log_whose_classes_do_not_fit_its_votes_is_refused_and_one_without_classes_is_not():
    g, x, y = prototypes(noise=0.6)
    record, _ = attacked(g, x, y, eps=0.05, samples=4)
    subject = {"block": 64, "votes": 10, "worst by": ["majority", "mean"], "score samples": [5]}
    line = record.to_table()
    check_attack(subject, [line], y.tolist(), 40, 99)
    before = {key: value for key, value in line.items() if not key.endswith("taken_for")}
    check_attack(subject, [before], y.tolist(), 40, 99)
    for column in (line["taken_for"]["mean"], line["rescored"][0]["clean_taken_for"]["majority"]):
        column["votes"][0] += 10
        with pytest.raises(ValueError, match="an image"):
            check_attack(subject, [line], y.tolist(), 40, 99)
        column["votes"][0] -= 10
    with pytest.raises(ValueError, match="not kept under every rule"):
        check_attack(subject, [{**line, "clean_taken_for": {}}], y.tolist(), 40, 99)


def test_the_results_of_an_attack_name_the_classes_and_what_every_vote_takes_the_images_for(tmp_path):
    checkpoint = rushkit.open_checkpoint("shipped/digits", "finetune")
    changes = {"samples": [4], "score_samples": [4, 1], "limit": 3, "steps": 1}
    changed = [f"attack.0.{key}={value}" for key, value in changes.items()]
    recipe = derive_recipe(recipe_of(checkpoint), [*changed, f"system.runs_dir={tmp_path}"])
    results = attack(recipe, checkpoint, protocols=["paper"], transfer=checkpoint)
    assert results.classes == list(classes_of(checkpoint))
    row = results.attacks[0]
    assert len(list(row.every_taken_for())) == 2 * 2 * 3
    # The model is asked about its own images, by the same draws.
    assert row.transfer.outcomes.taken_for["majority"] == row.outcomes.taken_for["majority"]
    assert parse(dump(results)).attacks[0].outcomes == row.outcomes
    shown = results.to_rows(per_image=True)[0]
    clean = row.outcomes.clean_taken_for["majority"]
    assert (shown["clean_taken_for"], shown["clean_taken_for_votes"]) == (clean.classes[0], clean.votes[0])
