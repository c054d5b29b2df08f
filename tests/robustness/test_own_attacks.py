"""An attack of one's own takes part in strict: for what is left, within the ball, and never to the others' harm."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from rushkit.attacks.cascade import schedule
from rushkit.errors import Interrupted, UsageError
from rushkit.named_code import ALSO, name_code, naming
from rushkit.noises.none import NoNoise
from rushkit.recipe.schema import Attack
from rushkit.results.notes import merged
from rushkit.robustness.block import Block, attack_block
from rushkit.robustness.jobs import Job, plan_jobs, with_own_attacks
from rushkit.robustness.own_attacks import OwnAttack, own_attack
from rushkit.robustness.pace import Pace
from rushkit.robustness.protocols import plan_attack
from rushkit.run.partial import Partial
from rushkit.smoothing import SmoothedClassifier

SECTION = Attack(type="pgd", norm="linf", eps=0.1)


class Blind(nn.Module):
    """A linear classifier of two classes by the mean pixel, above .5 or not, without a slope."""

    def __init__(self):
        super().__init__()
        self.sign = nn.Parameter(torch.ones(()))

    def forward(self, x):
        mean = self.sign * x.detach().mean(dim=(1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5, mean - 9], dim=1) + 0 * x.sum()


# Grey images: how far each is from the border tells whether a ball of .1 crosses it.
GREYS = (0.2, 0.44, 0.47, 0.53, 0.58, 0.9)
IMAGES = torch.tensor(GREYS).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
# The last label is wrong before any attack.
LABELS = torch.tensor([0, 0, 0, 1, 1, 0])
KEYS = 10 * torch.arange(6)


def across(model, x, y, eps, norm, seed):
    """Move every pixel towards the border."""
    return x + eps * (1 - 2 * y.float()).view(-1, 1, 1, 1)


@pytest.fixture(autouse=True)
def short_cascade(monkeypatch):
    monkeypatch.setattr(schedule, "_EXACT", (schedule._round(2, 1, "nll best"),), raising=False)


def attacked(*calls, partial=None, pace=None, section=SECTION):
    """The record of these images, and their versions."""
    g = SmoothedClassifier(Blind(), NoNoise())
    also = tuple(OwnAttack(call, f"mine.py:{call.__name__}") for call in calls)
    plan = replace(plan_attack(section, "strict", 1, 3, 0, deterministic=True), also=also)
    record, x_adv = attack_block(g, plan, section, Block(0, IMAGES, LABELS, KEYS), 0, partial, pace)
    return record.with_changes(seconds=0.0), x_adv, plan


def test_it_is_credited_with_what_it_is_the_first_to_break():
    alone, *_ = attacked()
    record, x_adv, plan = attacked(across)
    assert alone.right["majority"] == [1, 1, 1, 1, 1, 0], "no slope leads anywhere"
    assert record.right["majority"] == [1, 0, 0, 0, 0, 0]
    assert record.contributions["mine.py:across"] == 4
    own = len(plan.rounds) + 1
    assert record.first_broken["majority"] == [-1, own, own, own, own, 0]
    assert record.chosen[1:5] == [plan.first_own] * 4
    assert float((x_adv.double() - IMAGES.double()).abs().max()) <= SECTION.eps


def test_an_image_that_is_lost_is_attacked_no_more():
    seen = []

    def watching(model, x, y, eps, norm, seed):
        seen.append([round(grey, 2) for grey in x.mean(dim=(1, 2, 3)).tolist()])
        return x

    record, *_ = attacked(across, watching)
    assert seen == [[0.2]]
    assert record.contributions["mine.py:watching"] == 0


def test_it_is_called_with_the_ball_and_the_same_seed_each_time():
    given = []

    def asking(model, x, y, eps, norm, seed):
        given.append((eps, norm, seed, float(torch.rand(1)), y.tolist()))
        return x

    attacked(asking)
    attacked(asking)
    assert given[0] == given[1]
    assert given[0][:2] == (0.1, "linf")
    assert given[0][4] == LABELS[:5].tolist()


def test_what_leaves_ball_or_box_is_projected_and_told_by_how_much():
    def leaping(model, x, y, eps, norm, seed):
        return x + 3 * eps * (1 - 2 * y.float()).view(-1, 1, 1, 1)

    def dark(model, x, y, eps, norm, seed):
        return x - 0.4

    record, x_adv, _ = attacked(leaping, dark)
    assert record.right["majority"] == [1, 0, 0, 0, 0, 0]
    assert float((x_adv.double() - IMAGES.double()).abs().max()) <= SECTION.eps
    outside = [note for note in record.notes if note.code == "own-attack-outside"]
    assert [note.about.split(",")[0] for note in outside] == [
        "mine.py:leaping went beyond eps",
        "mine.py:dark went beyond eps",
        "mine.py:dark went beyond 0 or 1",
    ]
    assert outside[0].images == [0, 10, 20, 30, 40]
    assert outside[0].figures["pixel units"] == pytest.approx(0.2, abs=1e-6)
    assert outside[2].figures["pixel units"] == pytest.approx(0.2, abs=1e-6)
    used = [OwnAttack(call, f"mine.py:{call.__name__}", "ab").used(record.notes) for call in (leaping, dark)]
    assert [(one.code, one.sha256, one.projected, one.unused) for one in used] == [
        ("mine.py:leaping", "ab", 5, 0),
        ("mine.py:dark", "ab", 1, 0),
    ]
    assert outside[0].text.endswith("at 5 of the images: 0, 10, 20, 30, 40; by at most 0.2 pixel units")


def test_what_is_not_finite_counts_for_nothing_and_spares_the_rest():
    def broken(model, x, y, eps, norm, seed):
        x_adv = across(model, x, y, eps, norm, seed)
        x_adv[1] = torch.nan
        return x_adv

    record, *_ = attacked(broken)
    assert record.right["majority"] == [1, 1, 0, 0, 0, 0]
    (note,) = [note for note in record.notes if note.code == "own-attack-not-finite"]
    assert note.images == [10]


def raising(model, x, y, eps, norm, seed):
    raise ValueError("no luck")


def leaving(model, x, y, eps, norm, seed):
    sys.exit(3)


def reweighting(model, x, y, eps, norm, seed):
    with torch.no_grad():
        next(model.parameters()).neg_()
    return x


def reweighting_and_raising(model, x, y, eps, norm, seed):
    reweighting(model, x, y, eps, norm, seed)
    raise KeyError("gone")


def relabelling(model, x, y, eps, norm, seed):
    y.fill_(2)
    return x


ENDED = {
    raising: "ValueError: no luck",
    leaving: "SystemExit: 3",
    relabelling: "it changed the labels",
    reweighting: "it changed the model's weights",
    reweighting_and_raising: "KeyError: 'gone'",
    (lambda model, x, y, *_: (x, y)): "it returned tuple, not a tensor",
    (lambda model, x, y, *_: x[:2]): r"it returned shape (2, 1, 4, 4) for images (5, 1, 4, 4)",
    (lambda model, x, y, *_: (255 * x).to(torch.uint8)): "it returned uint8",
    (lambda model, x, y, *_: None): "it returned NoneType",
}


@pytest.mark.parametrize("call", ENDED, ids=ENDED.values())
def test_an_error_or_a_wrong_answer_ends_it_alone(call):
    record, *_ = attacked(call, across)
    (note,) = [note for note in record.notes if note.code == "own-attack-ended"]
    assert ENDED[call] in note.text
    assert note.images == [0, 10, 20, 30, 40]
    assert OwnAttack(call, f"mine.py:{call.__name__}").used(record.notes).unused == 5
    assert record.contributions[f"mine.py:{call.__name__}"] == 0
    assert record.contributions["mine.py:across"] == 4, "the others go on"


def test_half_and_double_precision_are_taken():
    def halved(model, x, y, eps, norm, seed):
        return across(model, x, y, eps, norm, seed).half()

    assert attacked(halved)[0].right["majority"] == [1, 0, 0, 0, 0, 0]


def test_what_it_changes_of_the_model_is_put_back():
    def careless(model, x, y, eps, norm, seed):
        model.train()
        torch.manual_seed(0)
        return x.sub_(1)

    before = torch.get_rng_state()
    record, *_ = attacked(careless, across)
    assert record.right["majority"] == [1, 0, 0, 0, 0, 0]
    assert torch.equal(before, torch.get_rng_state())


def test_gradients_are_on_where_it_is_called():
    def climbing(model, x, y, eps, norm, seed):
        x.requires_grad_()
        model(x).sum().backward()
        return x + 0 * x.grad

    assert not [note for note in attacked(climbing)[0].notes if note.code == "own-attack-ended"]


def test_a_stop_inside_is_a_stop_and_what_was_found_before_is_kept(tmp_path):
    whole, *_ = attacked(across, raising)
    partial, stops = Partial(tmp_path / "part.safetensors", {"model": "a"}), []

    def stopped(model, x, y, eps, norm, seed):
        stops.append(True)
        raise RuntimeError("the signal came as another error")

    def show(pace):
        if stops:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        attacked(across, stopped, partial=partial, pace=Pace(show))
    assert partial.load(0).meta["books"]["done"] == 2
    assert attacked(across, raising, partial=partial)[0] == whole


def test_notes_of_several_blocks_are_one_with_the_largest_figure():
    def leaping(model, x, y, eps, norm, seed):
        return x + 3 * eps

    notes = [note for note in attacked(leaping)[0].notes if note.code == "own-attack-outside"]
    later = notes[0].with_changes(images=[7], figures={"pixel units": 0.9})
    (joined,) = merged([notes[0], later])
    assert joined.images == sorted([*notes[0].images, 7])
    assert joined.figures == {"pixel units": 0.9}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("attack = 3", "is int, and no function"),
        ("class attack: pass", "is type, and no function"),
        ("def attack(model, x): ...", "cannot be called as an attack: too many positional arguments"),
        ("def other(): ...", "there is no attack in mine.py"),
    ],
)
def test_what_is_no_attack_is_refused(source, says, tmp_path):
    (tmp_path / "mine.py").write_text(source)
    with naming(), pytest.raises(UsageError, match=says):
        own_attack(str(name_code(f"{tmp_path / 'mine.py'}:attack", ALSO)))


def test_two_of_one_name_are_refused(tmp_path):
    code = "def attack(model, x, y, eps, norm, seed): return x"
    files = [tmp_path / folder / "mine.py" for folder in ("a", "b")]
    with naming():
        for file in files:
            file.parent.mkdir()
            file.write_text(code)
            name_code(f"{file}:attack", ALSO)
        section = SECTION.model_copy(update={"also": [f"{file}:attack" for file in files]})
        with pytest.raises(UsageError, match=r"two attacks are called mine\.py:attack"):
            with_own_attacks([Job("job", section, 1, plan_attack(section, "strict", 1, 3, 0))])


@pytest.mark.parametrize(
    ("change", "protocol", "says"),
    [("attack.0.also=['a.py:b']", "paper", "take part in strict"), ("attack.0.target='1'", "strict", "of no target")],
)
def test_where_it_has_no_place_it_is_refused(change, protocol, says, tiny):
    recipe = tiny("attack.0.also=['a.py:b']", change)
    with pytest.raises(UsageError, match=says):
        plan_jobs(recipe, [str(n) for n in range(10)], [protocol])
