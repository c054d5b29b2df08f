"""Validation under attack: on held-out training images, and it marks the best epoch where that is asked for."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from thread_ranks import run_ranks
from tiny_runs import QUIET, calling_after_step, checkpoint_of, die, finetuned
from torch import nn

from rushkit import noises
from rushkit.data.memory import Split
from rushkit.errors import CheckpointError, UsageError
from rushkit.recipe.schema import Finetune
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup.start import machine_of, start_run
from rushkit.smoothing import SmoothedClassifier
from rushkit.training import validation
from rushkit.training.finetune import finetune, finetuning_job
from rushkit.training.validation import HeldOut, robust_accuracy

CPU = torch.device("cpu")
ATTACKED = ("data.validation=20", "finetune.freeze=none", "finetune.validation.steps=2", "finetune.epochs=3")


class Linear(nn.Module):
    """Two classes by the sign of w·x, far from any border of the box."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.linspace(-1, 1, 12)

    def forward(self, x):
        margin = (x - 0.5).flatten(1) @ self.weight
        return torch.stack([-margin, margin], dim=1) * 5


def grey_images(count=40):
    images = torch.randint(108, 148, (count, 3, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    margin = (images / 255 - 0.5).flatten(1) @ Linear().weight
    return Split(images, (margin > 0).long(), "grey"), margin.abs()


def settings(**keys):
    return Finetune.model_validate({"validation": keys}).validation


@pytest.mark.parametrize(("norm", "eps", "dual"), [("linf", "2/255", 1), ("l2", 0.03, 2)])
def test_of_a_linear_model_just_the_images_near_the_border_fall(norm, eps, dual):
    images, margin = grey_images()
    attack = settings(steps=30, norm=norm, eps=eps)
    g = SmoothedClassifier(Linear(), noises.create("none"), 1, seed=0)
    reach = attack.eps * Linear().weight.norm(p=dual)
    expected = (margin > reach).double().mean().item()
    assert 0.2 < expected < 0.8
    assert robust_accuracy(g, images, attack, 0, CPU) == expected


def test_a_step_has_the_length_of_the_recipe():
    images, margin = grey_images()
    # From anywhere in the ball, a single step of its diameter ends at the rim.
    attack = settings(steps=1, eps="2/255", step_size="4/255")
    g = SmoothedClassifier(Linear(), noises.create("none"), 1, seed=0)
    expected = (margin > attack.eps * Linear().weight.norm(p=1)).double().mean().item()
    assert robust_accuracy(g, images, attack, 0, CPU) == expected
    assert robust_accuracy(g, images, settings(steps=1, eps="2/255", step_size="0.1/255"), 0, CPU) > expected


def test_the_attack_and_its_vote_have_the_draws_and_the_seed_of_the_recipe(monkeypatch):
    images, _ = grey_images(8)
    seen = []

    class Recorded:
        def __init__(self, *ball, **options):
            seen.append((ball, options))

        def run(self, g, x, y):
            return SimpleNamespace(x_adv=x)

    def tally(self, x, keys, seed, purpose, samples, original=SmoothedClassifier.keyed_tally):
        seen.append((keys.tolist(), seed, samples))
        return original(self, x, keys, seed, purpose, samples)

    monkeypatch.setattr(validation, "PGD", Recorded)
    monkeypatch.setattr(SmoothedClassifier, "keyed_tally", tally)
    attack = settings(steps=7, samples=3, norm="l2", eps=0.5)
    g = SmoothedClassifier(Linear(), noises.create("gaussian", std=0.05), 3, seed=0)
    robust_accuracy(g, images, attack, 5, CPU)
    ball = ("l2", 0.5, 7, 2 * 0.5 / 7)
    assert seen == [(ball, {"samples": 3, "best": "last", "seed": 5}), (list(range(8)), 5, 3)]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_attack_searches_in_the_precision_of_the_training_and_in_eval_mode(tiny, monkeypatch, precision):
    recipe = tiny(*ATTACKED, f"system.precision={precision}", "finetune.validation.samples=3")
    job, _, _ = finetuning_job(recipe, None, machine_of(recipe))
    made = []

    def classifier(network, noise, samples, chunk, *, original=SmoothedClassifier, **options):
        made.append((network.training, samples, options["search"] is None))
        return original(network, noise, samples, chunk, **options)

    monkeypatch.setattr(validation, "SmoothedClassifier", classifier)
    job.network.train()
    assert [name for name, _ in job.evaluate(3)] == ["validation_accuracy", "validation_robust_accuracy"]
    assert made == [(False, 3, precision == "float32")]


def test_any_number_of_ranks_gives_the_same_accuracy(monkeypatch):
    images, _ = grey_images()
    attack = settings(steps=2, samples=3)

    def measure():
        g = SmoothedClassifier(Linear(), noises.create("gaussian", std=0.05), 3, seed=0)
        return robust_accuracy(g, images, attack, 0, CPU)

    whole = measure()
    monkeypatch.setattr(validation, "_BLOCK", 8)
    assert measure() == whole
    assert run_ranks(measure, 3) == [whole] * 3


def epochs_of(run):
    return [line for line in read_metrics(run.path / "metrics.jsonl") if line["kind"] == "epoch"]


def test_it_is_measured_every_so_many_epochs_and_after_the_last_and_changes_no_weight(tiny):
    run = finetuned(tiny(*ATTACKED, "finetune.validation.every=2"), None)
    robust = [line.get("validation_robust_accuracy") for line in epochs_of(run)]
    assert [value is not None for value in robust] == [False, True, True]
    results = json.loads((run.path / "results.json").read_text())
    assert results["validation_robust_accuracy"] == robust[-1]
    assert results["validation_protocol"] == {
        "images": "20 images of digits/validation",
        "attack": "PGD-2 in l-inf 8/255, steps of 2/255, from a random start, m = 1",
        "use": "the best checkpoint is chosen by clean accuracy",
    }
    plain = finetuned(tiny(*ATTACKED, "finetune.validation.steps=0"), None)
    assert "validation_protocol" not in json.loads((plain.path / "results.json").read_text())
    one, other = checkpoint_of(run).tensors, checkpoint_of(plain).tensors
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(("choose", "epoch"), [("clean", 3), ("robust", 2)])
def test_it_chooses_the_best_epoch_where_it_is_asked_to(tiny, monkeypatch, choose, epoch):
    figures = [(0.1, 0.3), (0.2, 0.4), (0.3, 0.1)]
    names = "validation_accuracy", "validation_robust_accuracy"
    monkeypatch.setattr(HeldOut, "__call__", lambda self, done: zip(names, figures[done - 1], strict=True))
    run = finetuned(tiny(*ATTACKED, f"finetune.validation.choose={choose}"), None)
    assert load_checkpoint(run.checkpoints.pointed("best")).meta["epoch"] == epoch


def resumed(tiny, first, then):
    """Stop a fine-tuning after its second epoch, and resume it with another recipe."""
    recipe = tiny(*ATTACKED, *first)
    with pytest.raises(RuntimeError), start_run("finetune", recipe, QUIET) as run, calling_after_step(5, die):
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as again:
        finetune(tiny(*ATTACKED, *then), None, again)
    return run


@pytest.mark.parametrize("change", ["steps=0", "eps=4/255", "samples=2", "limit=5", "every=2"])
def test_a_resumed_run_may_measure_something_else(tiny, change):
    changed = resumed(tiny, (), [f"finetune.validation.{change}"])
    same = finetuned(tiny(*ATTACKED), None)
    one, other = checkpoint_of(changed).tensors, checkpoint_of(same).tensors
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_epochs_between_attacks_may_change_even_if_attacks_choose(tiny):
    robust = "finetune.validation.choose=robust"
    run = resumed(tiny, [robust], [robust, "finetune.validation.every=3"])
    assert checkpoint_of(run).meta["epoch"] == 3


@pytest.mark.parametrize(
    ("first", "then", "key"),
    [
        ([], ["finetune.validation.choose=robust"], "choose = clean, this is robust"),
        (["finetune.validation.choose=robust"], [], "choose = robust, this is clean"),
        (
            ["finetune.validation.choose=robust"],
            ["finetune.validation.choose=robust", "finetune.validation.limit=5"],
            "limit = 0, this is 5",
        ),
    ],
)
def test_a_resumed_run_chooses_the_best_epoch_as_before(tiny, first, then, key):
    with pytest.raises(CheckpointError, match=rf"made with finetune\.validation\.{key}"):
        resumed(tiny, first, then)


def test_the_images_are_held_out_training_images(tiny):
    recipe = tiny(*ATTACKED, "finetune.validation.limit=5")
    job, _, _ = finetuning_job(recipe, None, machine_of(recipe))
    held_out = job.evaluate
    rows = {image.numpy().tobytes() for image in held_out.images.images}
    assert len(held_out.images) == 20
    assert len(held_out.attacked_images()) == 5
    assert not rows & {image.numpy().tobytes() for image in job.split.images}


def test_without_held_out_images_it_is_refused(tiny):
    recipe = tiny("finetune.validation.steps=2")
    with pytest.raises(UsageError, match="no training images are held out") as raised:
        finetuning_job(recipe, None, machine_of(recipe))
    assert "data.validation" in raised.value.hint
