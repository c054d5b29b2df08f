"""Images that were attacked for one m, voted on at other numbers of draws as well."""

from __future__ import annotations

import pytest
import torch
from linear_models import prototypes

import rushkit
from rushkit.attacks.scoring import count_right
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.schema import Attack
from rushkit.results.intervals import rescored_of
from rushkit.robustness.attack import attack
from rushkit.robustness.block import Block, attack_block
from rushkit.robustness.log_checks import check_attack
from rushkit.robustness.protocols import plan_attack
from rushkit.setup.model import recipe_of

SECTION = Attack(type="pgd", eps=0.05, steps=3, score_samples=[9, 4, 1, 9])


def scored_block(section=SECTION):
    g, x, y = prototypes(noise=0.6)
    keys = 7 * torch.arange(len(x))
    plan = plan_attack(section, "paper", 4, 3, 0)
    record, x_adv = attack_block(g, plan, section, Block(0, x, y, keys), 0)
    return g, x, y, keys, record, x_adv


def test_further_votes_are_those_of_the_same_images_and_change_nothing_else():
    g, x, y, keys, record, x_adv = scored_block()
    *_, alone, _ = scored_block(SECTION.model_copy(update={"score_samples": []}))
    assert [further.samples for further in record.rescored] == [1, 9]
    for further in record.rescored:
        with_m = g.with_samples(further.samples)
        assert further.right == count_right(with_m, x_adv, y, 1, 0, keys)
        assert further.clean_right == count_right(with_m, x, y, 1, 0, keys, "clean")
    one, nine = record.rescored
    assert one.right != nine.right
    assert record.with_changes(rescored=[], seconds=0.0) == alone.with_changes(seconds=0.0)
    (figures, _) = rescored_of([record], votes=1)
    assert figures.rules["majority"].accuracy == pytest.approx(sum(one.right["majority"]) / len(x))


def test_a_log_without_the_further_votes_is_refused():
    *_, y, _, record, _ = scored_block()
    subject = {"block": 64, "votes": 1, "worst by": ["majority", "mean"], "score samples": [1, 9]}
    line = record.to_table()
    check_attack(subject, [line], y.tolist(), candidates=1)
    for spoilt in ([], line["rescored"][:1], [*line["rescored"][:1], {**line["rescored"][1], "right": {}}], "none"):
        with pytest.raises(ValueError, match=r"further votes|a rule of voting"):
            check_attack(subject, [{**line, "rescored": spoilt}], y.tolist(), candidates=1)


def test_a_row_says_which_m_was_attacked_and_which_voted(tmp_path):
    checkpoint = rushkit.open_checkpoint("shipped/digits", "finetune")
    changes = {"samples": [4], "score_samples": [4, 1], "limit": 3, "steps": 1}
    changed = [f"attack.0.{key}={value}" for key, value in changes.items()]
    recipe = derive_recipe(recipe_of(checkpoint), [*changed, f"system.runs_dir={tmp_path}"])
    (row,) = attack(recipe, checkpoint, protocols=["paper"]).attacks
    (further,) = row.rescored
    assert (row.samples, further.samples, further.outcomes.images) == (4, 1, [0, 1, 2])
    (words,) = row.rescored_words()
    assert words.startswith("pgd l-inf 8/255 paper, m = 4: votes of m = 1 on the same images leave ")
