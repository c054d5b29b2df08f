"""``rushkit.classifier``: a module of a notebook's goes through the stages, and stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rushkit
from rushkit.errors import RushkitError, UsageError
from rushkit.setup.given import given_model

DATA = {"name": "digits", "limit": 20}


@pytest.fixture
def net(tmp_path, monkeypatch) -> nn.Module:
    """A network in train mode, one of whose layers is frozen by its mode."""
    monkeypatch.setenv("RUSHKIT_RUNS", str(tmp_path / "runs"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10))
    net[1].eval()
    net[4].weight.requires_grad_(False)
    return net


def state(net: nn.Module) -> list:
    return [
        [part.training for part in net.modules()],
        [parameter.requires_grad for parameter in net.parameters()],
        [tensor.clone() for tensor in net.state_dict().values()],
        [parameter.grad for parameter in net.parameters()],
    ]


def test_the_stages_take_it_and_leave_it_as_it_was(net):
    before = state(net)
    model = rushkit.classifier(net, DATA, image_size=8, noise={"name": "gaussian", "std": 0.1})
    recipe = model.recipe_with("evaluate.samples=[2]", "certify.samples=50", "certify.limit=1", "attack.0.limit=2")
    evaluation = rushkit.evaluate(recipe, model)
    rushkit.certify(recipe, model)
    rushkit.attack(recipe, model, protocols=("paper",))
    after = state(net)
    assert (after[0], after[1], after[3]) == (before[0], before[1], before[3])
    assert all(torch.equal(one, other) for one, other in zip(before[2], after[2], strict=True))
    assert evaluation.source == "in memory"
    assert not model.random


def test_its_accuracy_is_that_of_the_module_in_eval_mode(net):
    model = rushkit.classifier(net, "digits", image_size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    (row, _) = rushkit.evaluate(model.recipe_with("evaluate.samples=[1]"), model).accuracy
    split = rushkit.datasets.create("digits", root="", image_size=8).split("test")
    net.eval()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    with torch.no_grad():
        right = net((split.images / 255 - mean) / std).argmax(1) == split.labels
    assert row.accuracy == pytest.approx(right.double().mean().item())


def test_layers_without_weights_are_refused():
    with pytest.raises(UsageError, match="the module's LazyLinear has no weights before the first batch"):
        rushkit.classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "digits", image_size=8)


def test_a_callable_of_numpy_images_will_do_where_it_says_what_it_answers(net):
    model = rushkit.classifier(lambda images: images.mean(axis=(1, 2, 3)).round().astype(int), DATA, answers="labels")
    assert model.network.answer_kind == "labels"
    with pytest.raises(UsageError, match="Module"):
        rushkit.classifier(lambda images: images, DATA)


def test_no_command_can_name_it(net):
    model = rushkit.classifier(net, DATA, image_size=8)
    with pytest.raises(UsageError, match="in memory"):
        given_model(model.recipe)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"mean": (0.5,), "std": (0.5,)}, "3 channels"),
        ({"mean": (0.5,)}, "mean and std"),
        ({"classes": ["cat", "dog"]}, "returns 10 classes"),
        ({"image_size": 9}, "cannot take images of 3x9x9"),
        ({"outputs": "a"}, "outputs"),
        ({"noise": "gausian"}, "gausian"),
    ],
)
def test_what_does_not_fit_is_said(net, options, says):
    with pytest.raises(RushkitError, match=says):
        rushkit.classifier(net, DATA, **({"image_size": 8} | options))


def test_the_hash_is_that_of_weights_and_reading(net):
    def hash_of(**options):
        return rushkit.classifier(net, DATA, image_size=8, **options).hash

    first = hash_of()
    assert first == hash_of()
    assert first != hash_of(mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.no_grad():
        net[4].bias += 1
    assert first != hash_of()
