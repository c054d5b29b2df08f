"""Strict in l1 against the attacks of other libraries, on networks of other libraries.

adv-lib (BSD-3) is not among the requirements: it asks for a plotting server. ``pip install --no-deps adv-lib==0.2.8``
is enough for this test, which is skipped without it. foolbox is always there.
"""

import functools
import sys
import types
import warnings
from typing import NamedTuple

import pytest
import torch
from foreign_networks import images, lenet5, trained, wong_kolter
from test_attack_counts import counted

from rushkit import attacks
from rushkit.attacks.result import AttackResult

EPS = 5.0
# Of each network three trainings: how many images a peer alone breaks depends on the processor that one was trained on.
SEEDS = (0, 1, 2)
# Images at which a peer may find what strict does not, and passes that strict may need beside the peer's. In 32
# trainings of each network a peer alone broke 0.6 % of the images, at most 6 % of one network's, and strict needed
# 0.7 times the passes of APGD, at most 1.1 times. Three together exceed these bounds with a probability below 0.0005.
MISSED = 0.05
PASSES = 1.1


class Attacked(NamedTuple):
    """A network, images that it classifies correctly, their labels, and what strict makes of them."""

    model: torch.nn.Module
    x: torch.Tensor
    y: torch.Tensor
    strict: AttackResult


@pytest.fixture(scope="module", params=[(wong_kolter, 100), (lenet5, 60)], ids=["Wong and Kolter", "LeNet5"])
def attacked(request):
    architecture, count = request.param
    return [_attacked(architecture, count, seed) for seed in SEEDS]


def _attacked(architecture, count, seed):
    model = trained(architecture, seed=seed)
    x, y = (rows[:count] for rows in images("test"))
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    assert len(x) > 0.75 * count
    return Attacked(model, x, y, attacks.create("cascade", norm="l1", eps=EPS).run(model, x, y))


@functools.cache
def adv_lib_apgd():
    """adv-lib's APGD without the plotting client that the package imports."""
    with pytest.MonkeyPatch.context() as patch:
        if "visdom" not in sys.modules:
            patch.setitem(sys.modules, "visdom", types.ModuleType("visdom"))
        return pytest.importorskip("adv_lib.attacks.auto_pgd").apgd


def apgd_l1(model, x, y, loss, seed):
    """One start of adv-lib's APGD-L1. -> (N,) bool, whether the label still wins."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x_adv = adv_lib_apgd()(model, x, y, EPS, 1, n_iter=100, loss_function=loss, use_large_reps=True)
    assert ((x_adv - x).flatten(1).abs().sum(1) <= EPS + 1e-3).all()
    with torch.no_grad():
        return model(x_adv).argmax(1) == y


def check(attacked, peer):
    """Strict leaves no more than the peer on each network, in about its passes, and misses few of what the peer breaks.

    ``peer(model, x, y)`` -> (N,) bool, whether the label still wins.
    """
    missed = passes = peer_passes = 0
    for model, x, y, strict in attacked:
        seen = counted(model)
        left = peer(model, x, y)
        peer_passes += seen["forward"] + seen["backward"]
        passes += strict.image_forwards + strict.image_backwards
        strict_left = ~strict.success
        assert 0 < left.sum() < len(x)
        assert strict_left.sum() <= left.sum()
        missed += int((strict_left & ~left).sum())
    assert missed <= MISSED * sum(len(each.x) for each in attacked)
    assert passes <= PASSES * peer_passes


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_strict_leaves_no_more_than_adv_libs_apgd_l1_in_about_its_passes(attacked, loss):
    check(attacked, functools.partial(apgd_l1, loss=loss, seed=0))


def test_strict_leaves_no_more_than_foolboxs_fast_minimum_norm_attack(attacked):
    with warnings.catch_warnings():
        # It imports a name that SciPy has moved.
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox")
    attack = foolbox.attacks.L1FMNAttack(steps=100)

    def left(model, x, y):
        return ~attack(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=EPS)[2]

    check(attacked, left)
