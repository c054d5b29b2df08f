"""The books of a block under attack: what is credited, counted, kept between sessions, and seen by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from linear_models import layer, prototypes
from torch import nn

from rushkit import registries
from rushkit.attacks.autoattack import Progress
from rushkit.attacks.best import Best
from rushkit.attacks.cascade import schedule
from rushkit.attacks.result import gradient_notes
from rushkit.attacks.scoring import cast_votes
from rushkit.errors import UsageError
from rushkit.recipe.schema import Attack
from rushkit.results.notes import Note, image_note, merged
from rushkit.robustness import block as scored
from rushkit.robustness.block import Block, attack_block
from rushkit.robustness.pace import Pace
from rushkit.robustness.protocols import Plan, plan_attack
from rushkit.run.partial import Partial
from rushkit.smoothing import SmoothedClassifier


@dataclass(frozen=True)
class Scripted:
    """A candidate whose attack is a function of model, images and labels."""

    label: str
    run: Callable[..., Any]

    def create(self, section):
        return SimpleNamespace(run=self.run)


@dataclass(frozen=True)
class ScriptedSuite(Scripted):
    """A candidate that can go on from a progress."""

    def create(self, section):
        return SimpleNamespace(run_from=self.run)


def outcome(x, image_forwards=0, image_backwards=0, notes=(), queries=None, **more):
    return SimpleNamespace(
        x_adv=x, image_forwards=image_forwards, image_backwards=image_backwards, notes=notes, queries=queries, **more
    )


def attacked(run, *runs, start=0, partial=None, pace=None, protocol="strict", scripted=Scripted, **plan):
    """The record of a block of three-class images under these attacks."""
    g, x, y = prototypes(noise=0.6)
    candidates = tuple(scripted(f"attack {number}", each) for number, each in enumerate((run, *runs)))
    keys = plan.pop("keys", torch.arange(len(x)))
    chosen = Plan(protocol, candidates, votes=1, gradient_samples=plan.pop("gradient_samples", 4), **plan)
    block = Block(start, x, y, keys)
    record, _ = attack_block(g, chosen, Attack(), block, 0, partial, pace)
    return record.to_table()


def test_a_part_of_a_suite_has_no_credit_for_what_was_broken_before():
    def run(model, x, y):
        return outcome(x, per_attack={"part": torch.ones(len(x), dtype=torch.bool)})

    record = attacked(run)
    assert record["contributions"]["clean"] > 0
    # Whatever is not clearly lost was given to the suite, what is barely lost too.
    assert record["contributions"]["part"] == 60 - record["contributions"]["clean"]


def test_notes_name_images_by_their_indices_in_the_split():
    def run(model, x, y):
        positions = torch.arange(len(x))
        return outcome(x, notes=gradient_notes(positions == 2, positions == 5))

    record = attacked(run, protocol="paper", keys=300 - 3 * torch.arange(60))
    assert [(note["code"], note["images"]) for note in record["notes"]] == [
        ("gradient-not-finite", [294]),
        ("gradient-zero", [285]),
    ]
    assert record["notes"][0]["text"] == "the gradient was NaN or infinite at 1 of the images: 294"


def test_notes_of_all_blocks_become_one_that_names_their_images():
    other = Note(code="projected", text="projected")
    blocks = [image_note("gradient-zero", [4, 9]), other, image_note("gradient-zero", [2]), other]
    assert merged(blocks) == [image_note("gradient-zero", [2, 4, 9]), other]
    assert image_note("gradient-zero", range(30)).text.endswith(" 18, 19 and 10 more")


@pytest.mark.parametrize("panel, passes", [(True, 7), (False, 1)])
def test_a_pass_through_a_panel_counts_as_one_of_each_draw(panel, passes):
    record = attacked(lambda model, x, y: outcome(x, 30, 20), protocol="paper", panel=panel, gradient_samples=7)
    assert (record["image_forwards"], record["image_backwards"]) == (30 * passes, 20 * passes)


def test_every_block_is_attacked_through_the_same_panel():
    seen = []

    def run(model, x, y):
        with torch.no_grad():
            seen.append(model(x))
        return outcome(x)

    for start in (0, 0, 60):
        attacked(run, start=start, protocol="paper", panel=True)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


class Stopped(Exception):
    pass


def test_a_suite_starts_afresh_behind_another_and_time_adds_up_over_a_stop(tmp_path):
    given, partial = [], Partial(tmp_path / "part.safetensors", {"model": "a"})

    def suite(progress, model, x, y, after_part):
        given.append(progress)
        broken = torch.zeros(len(x), dtype=torch.bool)
        after_part(Progress(("clean",), Best.nothing(x), {"clean": broken}, broken, broken))
        return outcome(x, per_attack={"clean": broken})

    def stop(pace):
        stored = partial.load(0).meta
        if stored["books"]["done"] == 1:
            raise Stopped

    with pytest.raises(Stopped):
        attacked(suite, suite, partial=partial, pace=Pace(stop), scripted=ScriptedSuite)
    before = partial.load(0).meta
    assert before["suite"] is None
    assert before["books"]["seconds"] > 0
    record = attacked(suite, suite, partial=partial, scripted=ScriptedSuite)
    assert given == [None, None]
    assert record["seconds"] > before["books"]["seconds"]


def test_what_a_cascade_found_is_kept_over_a_stop_while_it_is_scored(tmp_path, monkeypatch):
    g, x, y = prototypes(noise=0.6)
    rounds = schedule._round(2, 2, "nll random"), schedule._round(4, 2, "margin best")
    monkeypatch.setattr(schedule, "_NOISY", rounds)
    section = Attack(type="pgd", eps=0.3)
    plan, block = plan_attack(section, "strict", 4, 3, 0), Block(0, x[:20], y[:20], torch.arange(20))

    def record(partial=None):
        return attack_block(g, plan, section, block, 0, partial)[0].with_changes(seconds=0.0)

    whole, partial = record(), Partial(tmp_path / "part.safetensors", {"model": "a"})
    assert max(whole.last_fall["majority"]) > 0

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(scored, "cast_votes_by_rule", stop)
        with pytest.raises(Stopped):
            record(partial)
    assert partial.load(0).meta["cascade"] is None
    assert record(partial) == whole


def test_what_was_kept_of_another_block_or_about_something_else_is_passed_over(tmp_path):
    path = tmp_path / "part.safetensors"
    Partial(path, {"model": "a"}).save(5, {"kept": torch.ones(1)}, {})
    assert Partial(path, {"model": "a"}).load(5).tensors["kept"] == 1
    assert Partial(path, {"model": "a"}).load(0) is None
    assert Partial(path, {"model": "b"}).load(5) is None


def test_dlr_with_too_few_classes_is_refused():
    g = SmoothedClassifier(nn.Sequential(nn.Flatten(), layer(4, 2)), registries.noises.create("uniform", scale=0.1))
    section = Attack(type="pgd", loss="dlr", eps=0.1)
    block = Block(0, torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.int64), torch.arange(1))
    with pytest.raises(UsageError, match="dlr needs 3 classes"):
        attack_block(g, plan_attack(section, "paper", 1, 2, 0), section, block, 0)


@pytest.mark.parametrize(
    "x, y, message",
    [
        (torch.full((1, 1, 2, 2), 1.5), torch.zeros(1, dtype=torch.int64), r"pixels must lie in \[0, 1\]"),
        (torch.full((1, 1, 2, 2), 0.5), torch.full((1,), 7), "labels must be 0 to 2"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_named(x, y, message):
    g = SmoothedClassifier(nn.Sequential(nn.Flatten(), layer(4, 3)), registries.noises.create("uniform", scale=0.1))
    section = Attack(type="pgd", eps=0.1)
    with pytest.raises(UsageError, match=message):
        attack_block(g, plan_attack(section, "paper", 1, 3, 0), section, Block(0, x, y, torch.arange(len(x))), 0)


def test_a_stop_within_the_final_votes_keeps_the_search_and_the_votes_so_far(tmp_path, monkeypatch):
    g, x, y = prototypes(noise=0.6)
    section = Attack(type="pgd", eps=0.05)
    plan, block = plan_attack(section, "strict", 4, 3, 0), Block(0, x, y, torch.arange(len(x)))
    whole, _ = attack_block(g, plan, section, block, 0)
    assert max(whole.first_broken["majority"]) > 0
    partial, scored = Partial(tmp_path / "part.safetensors", {"model": "a"}), []

    def stopping(*args):
        scored.append(len(args[1]))
        if len(scored) == 2:
            raise Stopped
        return cast_votes(*args)

    with monkeypatch.context() as patch:
        patch.setattr("rushkit.robustness.block.cast_votes", stopping)
        with pytest.raises(Stopped):
            attack_block(g, plan, section, block, 0, partial)
    resumed, _ = attack_block(g, plan, section, block, 0, partial)
    assert resumed.with_changes(seconds=0.0) == whole.with_changes(seconds=0.0)
