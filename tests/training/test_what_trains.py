"""What of a network trains, how its head starts, and what weight decay acts on."""

from __future__ import annotations

import json
import math
import os
import signal

import pytest
import torch
from tiny_runs import QUIET, checkpoint_of, finetuned, pretrained

from rushkit import objectives
from rushkit.errors import Interrupted, UsageError
from rushkit.models.network import Network, zero_head
from rushkit.objectives.cross_entropy import CrossEntropy
from rushkit.recipe.schema import Finetune
from rushkit.registries import objectives as registry
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup.start import machine_of, start_run
from rushkit.training.finetune import finetune, finetuning_job
from rushkit.training.optimizer import build_optimizer, norm_parameters


def test_of_an_encoder_that_is_all_frozen_nothing_moves_but_the_head(tiny):
    before = checkpoint_of(pretrained(tiny()))
    run = finetuned(tiny("finetune.freeze=all", "finetune.bn=eval"), before)
    after = checkpoint_of(run).tensors
    assert all(torch.equal(after[name], kept) for name, kept in before.tensors.items() if name.startswith("encoder."))
    assert json.loads((run.path / "results.json").read_text())["trainable"] == ["head.weight", "head.bias"]


def test_a_head_may_start_at_zero(tiny):
    heads = {}
    for start in ("random", "zero"):
        recipe = tiny(f"finetune.head_start={start}", "noise.name=none")
        job, _, _ = finetuning_job(recipe, None, machine_of(recipe))
        heads[start] = job.network.head
    assert heads["random"].weight.abs().min() > 0
    assert not heads["zero"].weight.any()
    assert not heads["zero"].bias.any()
    first = read_metrics(finetuned(recipe, None).path / "metrics.jsonl")[0]["loss"]
    assert first == pytest.approx(math.log(10), rel=1e-6)


def test_only_the_last_layer_of_a_head_starts_at_zero_and_it_must_have_one():
    head = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    zero_head(Network(torch.nn.Identity(), head))
    assert [bool(parameter.any()) for parameter in head.parameters()] == [True, True, False, False]
    with pytest.raises(UsageError, match="a head of Identity cannot start at zero"):
        zero_head(Network(torch.nn.Identity(), torch.nn.Identity()))


def test_where_nothing_trains_nothing_is_trained(tiny):
    class Headless(CrossEntropy):
        def head(self, num_features, classes):
            return torch.nn.Identity()

    objectives.register("headless")(Headless)
    try:
        recipe = tiny("finetune.objective=headless", "finetune.freeze=all")
        with pytest.raises(UsageError, match="nothing trains: the encoder is frozen, and the head of 'headless'"):
            finetuning_job(recipe, None, machine_of(recipe))
    finally:
        registry.unregister("headless", Headless.__module__.partition(".")[0])


def test_an_incomplete_batch_is_left_out_where_the_recipe_says_so(tiny):
    for drop_last, steps in ((False, 6), (True, 4)):
        run = finetuned(tiny(f"finetune.drop_last={str(drop_last).lower()}"), None)
        assert max(line["step"] for line in read_metrics(run.path / "metrics.jsonl")) == steps


@pytest.mark.parametrize(("nesterov", "moved"), [(False, 1 + 1.9), (True, 1.9 + 2.71)])
def test_sgd_has_the_momentum_of_the_recipe(nesterov, moved):
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    section = Finetune.model_validate(
        {"optimizer": {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.0, "nesterov": nesterov}}
    ).optimizer
    optimizer = build_optimizer(section, [weight], torch.device("cpu"))
    assert len(optimizer.param_groups) == 1
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, -0.5 * moved), rtol=0, atol=1e-12)


def test_normalisation_layers_of_the_memory_are_exempt_too():
    network, memory = torch.nn.BatchNorm1d(2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    expected = [*network.parameters(), *memory[1].parameters()]
    assert list(map(id, norm_parameters(network, memory))) == list(map(id, expected))


def test_every_shipped_optimizer_can_be_built():
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    for name in ("sgd", "adamw", "lars"):
        section = Finetune.model_validate({"optimizer": {"name": name, "lr": 0.1}}).optimizer
        assert build_optimizer(section, parameters, torch.device("cpu")).param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("decay", "exempt"),
    [
        ("all", set()),
        ("weights", {"0.bias", "1.weight", "1.bias", "2.bias", "4.weight", "4.bias", "5.weight", "5.bias"}),
        ("not-norm", {"1.weight", "1.bias", "4.weight", "4.bias", "5.weight", "5.bias"}),
    ],
)
@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_weight_decay_shrinks_what_the_recipe_says_and_nothing_else(decay, exempt, name):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1),
        torch.nn.BatchNorm2d(4),
        torch.nn.Linear(4, 4),
        torch.nn.Linear(4, 4, bias=False),
        torch.nn.GroupNorm(2, 4),
        torch.nn.LayerNorm(4),
    )
    torch.nn.init.ones_(model[0].bias)
    torch.nn.init.ones_(model[1].bias)
    torch.nn.init.ones_(model[4].bias)
    torch.nn.init.ones_(model[5].bias)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    section = Finetune.model_validate(
        {"optimizer": {"name": name, "lr": 0.5, "weight_decay": 0.5, "decay": decay, "momentum": 0.0}}
    ).optimizer
    optimizer = build_optimizer(section, list(model.parameters()), torch.device("cpu"), norm_parameters(model))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, before[key] * (1.0 if key in exempt else 0.75)), key


@pytest.mark.parametrize(
    "exemption",
    [
        ("decay=weights",),
        ("decay=not-norm",),
        ("name=lars", "exclude=true"),
        ("name=lars", "lr_inside=true", "clip=true"),
    ],
    ids="-".join,
)
def test_an_optimizer_with_an_exemption_resumes_bit_for_bit(tiny, at_step, exemption):
    options = ("weight_decay=0.1", *exemption)
    recipe = tiny("finetune.freeze=none", *(f"finetune.optimizer.{option}" for option in options))
    whole = checkpoint_of(finetuned(recipe, None)).tensors
    plain = checkpoint_of(finetuned(tiny("finetune.freeze=none", "finetune.optimizer.weight_decay=0.1"), None)).tensors
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as resumed:
        finetune(recipe, None, resumed)
    again = checkpoint_of(resumed).tensors
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert not torch.equal(whole["encoder.1.weight"], plain["encoder.1.weight"])
