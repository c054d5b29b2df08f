from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from rushkit.errors import CheckpointError
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint
from rushkit.run.optimizer_state import optimizer_tensors, restore_optimizer
from rushkit.training.lars import Lars

MAKERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, weight_decay=1e-4),
    "sgd-plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "adamw-amsgrad-tensor-lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-3), amsgrad=True, capturable=False),
    "lars": lambda p: Lars([{"params": p[:1]}, {"params": p[1:], "adapt": False}], lr=0.5, lr_inside=True, clip=True),
    "groups": lambda p: torch.optim.SGD([{"params": p[:1]}, {"params": p[1:], "lr": 0.03}], lr=0.7, momentum=0.9),
}


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        made = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(5, 4, generator=made)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("maker", MAKERS)
def test_a_restored_optimizer_goes_on_bit_for_bit(tmp_path, maker):
    whole = network()
    optimizer = MAKERS[maker](list(whole.parameters()))
    train(whole, optimizer, 0, 3)
    tensors, saved = optimizer_tensors(optimizer)
    save_checkpoint(tmp_path / "a.safetensors", {**tensors, **whole.state_dict()}, {"optimizer": saved})
    train(whole, optimizer, 3, 8)

    resumed = network()
    again = MAKERS[maker](list(resumed.parameters()))
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    resumed.load_state_dict({name: loaded.tensors[name] for name in resumed.state_dict()})
    restore_optimizer(again, loaded.tensors, loaded.meta["optimizer"])
    before = copy.deepcopy(loaded.tensors)
    train(resumed, again, 3, 8)

    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert str(optimizer.state_dict()) == str(again.state_dict())
    assert all(torch.equal(before[name], tensor) for name, tensor in loaded.tensors.items())


def test_the_json_holds_everything_but_tensors_and_survives_a_round_trip():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, 0, 1)
    tensors, saved = optimizer_tensors(optimizer)
    assert json.loads(json.dumps(saved)) == {**saved, "groups": [{**saved["groups"][0], "betas": [0.9, 0.999]}]}
    assert sorted(tensors)[:3] == [
        "optimizer.state.0.exp_avg",
        "optimizer.state.0.exp_avg_sq",
        "optimizer.state.0.step",
    ]


def test_a_frozen_parameter_has_no_state_and_that_is_restored_too():
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer, 0, 2)
    tensors, saved = optimizer_tensors(optimizer)
    other = torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    restore_optimizer(other, tensors, saved)
    assert str(other.state_dict()) == str(optimizer.state_dict())


def foreign_states():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer, 0, 1)
    tensors, saved = optimizer_tensors(optimizer)
    name = "optimizer.state.0.momentum_buffer"
    yield "another kind", tensors, {**saved, "kind": "AdamW"}
    yield "a tensor is missing", {key: tensors[key] for key in tensors if key != name}, saved
    yield "another shape", {**tensors, name: torch.zeros(7, 7)}, saved
    yield "a group too many", tensors, {**saved, "groups": saved["groups"] * 2}
    yield "fewer parameters", tensors, {**saved, "groups": [{**saved["groups"][0], "params": [0]}]}
    yield "unknown parameter", tensors, {**saved, "state": {"9": saved["state"]["0"]}}
    yield "no groups", tensors, {"kind": "SGD", "state": {}}
    yield "nonsense", tensors, {"kind": "SGD", "state": [], "groups": 3}


@pytest.mark.parametrize("case", list(foreign_states()), ids=lambda case: case[0])
def test_a_state_that_does_not_fit_is_refused(case):
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(CheckpointError, match="state of"):
        restore_optimizer(optimizer, case[1], case[2])
