"""Every attack of torchattacks by its lower-case name."""

import ast
import inspect
import subprocess
import sys

import pytest
import torch
from planted_models import Box, reach, small_network

from rushkit import attacks, registries
from rushkit.attacks.torchattacks_kinds import KINDS
from rushkit.recipe.radius import longest_distance
from rushkit.smoothing import SmoothedClassifier

QUICK = {
    "square": {"n_queries": 30},
    "fab": {"steps": 3},
    "cw": {"steps": 10},
    "eaden": {"max_iterations": 10, "binary_search_steps": 2},
    "eadl1": {"max_iterations": 10, "binary_search_steps": 2},
    "pixle": {"restarts": 2},
    "onepixel": {"steps": 2},
    "sparsefool": {"steps": 2},
    "spsa": {"nb_sample": 8},
}


@pytest.fixture(scope="module")
def trained():
    return small_network(channels=3)


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_attack_returns_images_in_ball_and_box(name, smoothed, trained):
    model, x, y = trained
    x, y = x[:4], y[:4]
    attacked = SmoothedClassifier(model, Box(0.05), samples=2, seed=0) if smoothed else model
    for norm in KINDS[name].norms:
        eps = 0.05 if norm == "linf" else 0.5
        attack = attacks.create(f"torchattacks/{name}", norm=norm, eps=eps, **QUICK.get(name, {}))
        x_adv = attack(attacked, x, y)
        assert x_adv.dtype == torch.float32
        assert reach(x, x_adv, norm) <= eps + 1e-6
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1


def test_every_public_attack_of_torchattacks_is_there():
    import torchattacks

    offered = {name for name in torchattacks.__all__ if name not in torchattacks.__wrapper__}
    assert {kind.class_name for kind in KINDS.values()} == offered
    assert all(name in registries.attacks for name in KINDS)


def test_listing_and_importing_rushkits_attacks_imports_neither_torch_nor_torchattacks():
    code = (
        "import sys; from rushkit import attacks, registries; attacks.names(); assert 'fgsm' in registries.attacks;"
        "assert 'torch' not in sys.modules;"
        "import rushkit.attacks.autoattack; assert 'torchattacks' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_options_are_those_of_the_attack_with_its_own_defaults():
    parameters = inspect.signature(attacks.get("bim")).parameters
    assert list(parameters)[:2] == ["norm", "eps"]
    assert parameters["alpha"].default == 2 / 255
    assert "model" not in parameters
    attacks.create("cw", norm="l2", eps=1.0, c=0.5)


@pytest.mark.parametrize("name", ["FGSM", "BIM", "MIFGSM", "JSMA", "CW", "DeepFool", "EADL1"])
def test_attacks_without_chance_return_what_torchattacks_returns(name):
    import torchattacks

    model, x, y = small_network(classes=10)
    model.eval()
    x, y = x[:3], y[:3]
    kind, quick = KINDS[name.lower()], QUICK.get(name.lower(), {})
    # As far as images can be apart: nothing is projected.
    eps = 0.05 if kind.eps else longest_distance(kind.norms[0], x[0].numel())
    theirs = getattr(torchattacks, name)(model, **quick, **({"eps": eps} if kind.eps else {}))(x, y)
    ours = attacks.create(f"torchattacks/{name.lower()}", norm=kind.norms[0], eps=eps, **quick)(model, x, y)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("classes", [2, 3, 4, 12])
@pytest.mark.parametrize("name", ["fab", "square", "autoattack", "apgd"])
def test_any_number_of_classes(name, classes):
    model, x, y = small_network(classes=classes, images=40)
    options = {"autoattack": {"steps": 3, "queries": 5}, "fab": {"steps": 3}, "square": {"queries": 5}}
    result = attacks.create(name, norm="linf", eps=0.02, **options.get(name, {"steps": 3})).run(model, x[:6], y[:6])
    assert result.success.shape == (6,)


def test_no_module_but_the_adapter_names_torchattacks():
    from pathlib import Path

    import rushkit

    root = Path(rushkit.__file__).parent
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if getattr(node, "module", None) == "torchattacks" or alias.name == "torchattacks"
        }
        assert not imported, path


def test_images_that_one_noisy_draw_passes_over_get_another_turn():
    """SCIENCE.md section 5: an unlucky draw must not return an image clean that a vote finds right."""
    from planted_models import Flipper

    x, y = Flipper.images(count=24)
    x_adv = attacks.create("torchattacks/apgd", norm="linf", eps=0.9, samples=1)(Flipper(), x, y)
    # One pass of one draw leaves 30% untouched, three leave 2.7%: more than 8 of 24 in 4e-8 of seeds.
    untouched = (x_adv == x).flatten(1).all(1)
    assert untouched.sum() <= 8
