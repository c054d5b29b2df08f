"""Strict in l1 against the attacks of other libraries, on networks of other libraries.

adv-lib (BSD-3) is not among the requirements: it asks for a plotting server. ``pip install --no-deps adv-lib==0.2.8``
is enough for this test, which is skipped without it. foolbox is always there.
"""

import functools
import sys
import types
import warnings

import pytest
import torch
from foreign_networks import images, lenet5, trained, wong_kolter
from test_attack_counts import counted

from rushkit import attacks

EPS = 5.0
# Images at which a peer may find what strict does not.
MISSED = 0.02


@pytest.fixture(scope="module", params=[(wong_kolter, 100), (lenet5, 60)], ids=["Wong and Kolter", "LeNet5"])
def attacked(request):
    """-> model, images that it classifies correctly, their labels, strict's result."""
    architecture, count = request.param
    model = trained(architecture)
    x, y = (rows[:count] for rows in images("test"))
    with torch.no_grad():
        right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    assert len(x) > 0.75 * count
    return model, x, y, attacks.create("cascade", norm="l1", eps=EPS).run(model, x, y)


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


def check(attacked, left, passes):
    """Strict leaves no more than the peer, in no more passes, and misses few of the images that the peer breaks."""
    _, x, _, strict = attacked
    strict_left = ~strict.success
    assert 0 < left.sum() < len(x)
    assert strict_left.sum() <= left.sum()
    assert (strict_left & ~left).sum() <= MISSED * len(x)
    assert strict.image_forwards + strict.image_backwards <= passes


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_strict_leaves_no_more_than_adv_libs_apgd_l1_in_at_most_its_passes(attacked, loss):
    model, x, y, _ = attacked
    seen = counted(model)
    left = apgd_l1(model, x, y, loss, seed=0)
    check(attacked, left, seen["forward"] + seen["backward"])


def test_strict_leaves_no_more_than_foolboxs_fast_minimum_norm_attack(attacked):
    model, x, y, _ = attacked
    seen = counted(model)
    with warnings.catch_warnings():
        # It imports a name that SciPy has moved.
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox")
    _, _, broken = foolbox.attacks.L1FMNAttack(steps=100)(
        foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=EPS
    )
    check(attacked, ~broken, seen["forward"] + seen["backward"])
