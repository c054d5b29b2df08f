"""The model, the inputs and the global random state after an attack are those before it, whatever happened."""

import random

import numpy as np
import pytest
import torch
from planted_models import Box, Flipper, small_network

from rushkit import attacks
from rushkit.errors import NumericsError, RushkitError
from rushkit.smoothing import SmoothedClassifier

ATTACKS = {
    "pgd": {"steps": 3, "restarts": 2},
    "apgd": {"steps": 3},
    "autoattack": {"steps": 2, "queries": 5},
    "fab": {"steps": 2},
    "square": {"queries": 5},
    "fgsm": {},
    "torchattacks/apgd": {},
    "torchattacks/autoattack": {},
    "pixle": {"restarts": 1, "max_iterations": 2},
    "onepixel": {"steps": 1},
}
# Attacks on few pixels are none of an l-inf ball.
NORMS = {"pixle": "l1", "onepixel": "l1"}


@pytest.fixture(scope="module")
def trained():
    return small_network(channels=3)


def prepared(trained):
    model, x, y = trained
    model.train()
    model[1].eval()
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
        parameter.grad = torch.full_like(parameter, float(i)) if i % 3 == 0 else None
    return model, x[:8].clone(), y[:8].clone()


def state_of(model, x, y):
    return {
        "modes": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grad": [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "inputs": (x.clone(), y.clone(), x.requires_grad),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_left_behind(name, smoothed, trained):
    model, x, y = prepared(trained)
    before = state_of(model, x, y)
    attacked = SmoothedClassifier(model, Box(0.05), samples=2, seed=0) if smoothed else model
    attacks.create(name, norm=NORMS.get(name, "linf"), eps=0.05, **ATTACKS[name])(attacked, x, y)
    after = state_of(model, x, y)
    for key in before:
        assert same(before[key], after[key]), key


class Fails(torch.nn.Module):
    """Disturbs all it can, then raises after some passes."""

    def __init__(self, inner, passes, error):
        super().__init__()
        self.inner, self.left, self.error = inner, passes, error

    def forward(self, x):
        self.left -= 1
        torch.rand(1), np.random.rand(), random.random()
        if self.left < 0:
            raise self.error
        return self.inner(x)


@pytest.mark.parametrize("passes", [0, 2, 3])
@pytest.mark.parametrize("name", ["pgd", "apgd", "autoattack", "fab", "square", "fgsm"])
def test_nothing_is_left_behind_after_an_exception(name, passes, trained):
    model, x, y = prepared(trained)
    failing = Fails(model, passes, RuntimeError("planted"))
    before = state_of(failing, x, y)
    with pytest.raises((RuntimeError, RushkitError), match="planted"):
        attacks.create(name, norm="linf", eps=0.001)(failing, x, y)
    after = state_of(failing, x, y)
    for key in before:
        assert same(before[key], after[key]), key


def test_an_interrupt_passes_through_and_leaves_nothing(trained):
    model, x, y = prepared(trained)
    failing = Fails(model, 5, KeyboardInterrupt())
    before = state_of(failing, x, y)
    with pytest.raises(KeyboardInterrupt):
        attacks.create("torchattacks/pgd", norm="linf", eps=0.05)(failing, x, y)
    assert same(before, state_of(failing, x, y))


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("name", ATTACKS)
def test_one_seed_one_result_whatever_the_global_state(name, smoothed, trained):
    model, x, y = prepared(trained)
    results = []
    with torch.random.fork_rng():
        for global_seed in (1, 2):
            torch.manual_seed(global_seed)
            np.random.seed(global_seed)
            random.seed(global_seed)
            attacked = SmoothedClassifier(model, Box(0.05), samples=2, seed=0) if smoothed else model
            attack = attacks.create(name, norm=NORMS.get(name, "linf"), eps=0.05, seed=7, **ATTACKS[name])
            results.append(attack(attacked, x, y))
    assert torch.equal(*results)


@pytest.mark.parametrize("name", ["pgd", "apgd", "autoattack", "fgsm"])
def test_one_seed_one_result_of_a_model_that_draws_from_the_global_state(name):
    x, y = Flipper.images()
    results = []
    with torch.random.fork_rng():
        for global_seed in (1, 2):
            torch.manual_seed(global_seed)
            attack = attacks.create(name, norm="linf", eps=0.4, seed=7, **ATTACKS[name])
            results.append(attack(Flipper(), x, y))
    assert torch.equal(*results)


def test_a_random_model_is_not_judged_on_the_draws_that_the_caller_will_see(trained):
    """After an attack the stream of a smoothed classifier goes on from where it was."""
    model, x, y = prepared(trained)
    model.eval()
    one, two = (SmoothedClassifier(model, Box(0.3), samples=5, seed=0) for _ in range(2))
    attacks.create("pgd", norm="linf", eps=0.05, steps=2)(one, x, y)
    assert torch.equal(one.votes(x), two.votes(x))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("name", ["pgd", "apgd", "fab", "square", "fgsm"])
def test_attacks_work_where_the_caller_has_gradients_off(name, mode, trained):
    model, x, y = prepared(trained)
    attack = attacks.create(name, norm="linf", eps=0.05, **ATTACKS[name])
    expected = attack(model, x, y)
    with mode():
        inside = attack(model, x.clone(), y.clone())
    assert torch.equal(expected, inside)


@pytest.mark.parametrize("name", ["pgd", "apgd", "fgsm"])
def test_attacks_work_under_autocast(name, trained):
    model, x, y = prepared(trained)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = attacks.create(name, norm="linf", eps=0.3, **ATTACKS[name]).run(model, x, y)
    assert result.x_adv.dtype == result.loss.dtype == torch.float32
    assert result.success.any()


def test_nan_that_appears_under_way_stops_the_attack(trained):
    model, x, y = prepared(trained)

    class Late(torch.nn.Module):
        def forward(self, images):
            logits = model(images)
            moved = (images != images.round(decimals=6)).any()
            return logits * float("nan") if moved and not torch.equal(images[0], x[0]) else logits

    for name in ("pgd", "apgd", "square", "fgsm", "cw"):
        attack = attacks.create(name, norm="l2" if name == "cw" else "linf", eps=0.05)
        with pytest.raises(NumericsError, match="NaN"):
            attack(Late(), x, y)
