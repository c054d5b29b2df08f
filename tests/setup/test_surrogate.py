"""A stand-in gives slopes and nothing else, and what would mislead an attack is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import rushkit
from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.models.fronts import Front, Fronted
from rushkit.named_code import SURROGATE, name_code, naming
from rushkit.setup.model import load_classifier
from rushkit.setup.surrogate import make_surrogate_of
from rushkit.system import Machine

CPU = Machine(torch.device("cpu"), "float32")
HEAD = "import torch\nfrom torch import nn\nF = nn.functional\n\n"
LINEAR = """
class Stand(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 10)

    def forward(self, x):
        return {0}
"""


class Coarse(nn.Module):
    """A linear classifier of rounded pixels, with the weights of a fixed seed."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 10)
        self.layer.weight.data = torch.randn(10, 192, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        return self.layer(((x * 3).round() / 3).flatten(1))


class Plain(Coarse):
    """The same of pixels as they are."""

    def forward(self, x):
        return self.layer(x.flatten(1))


class Dropping(Coarse):
    """The same behind dropout that stays on."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


def classifier_of(module, **options):
    return load_classifier(rushkit.classifier(module, "digits", image_size=8, **options), CPU)


@pytest.fixture
def made(tmp_path):
    """``made(classifier, source, name)``: the surrogate of a file with this source."""

    def make(classifier, source, name="stand"):
        file = tmp_path / "stand.py"
        file.write_text(HEAD + source)
        with naming():
            return make_surrogate_of(classifier, str(name_code(f"{file}:{name}", SURROGATE)))

    return make


@pytest.fixture
def x():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def slope(network, x):
    probe = x.clone().requires_grad_()
    logits = network(probe)
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), probe)
    return logits.detach(), gradient


def test_values_are_the_models_to_the_last_bit_and_the_slope_is_the_stand_ins(made, x):
    classifier = classifier_of(Coarse())
    surrogate = made(classifier, "def stand(real):\n    return lambda x: real.layer(x.flatten(1))\n")
    logits, gradient = slope(surrogate.network, x)
    assert torch.equal(logits, classifier.network(x))
    torch.testing.assert_close(gradient.flatten(1)[0], classifier.network.module.layer.weight[2])
    assert surrogate.stands_for == "model"
    assert (surrogate.code, len(surrogate.sha256)) == ("stand.py:stand", 64)


def test_without_a_gradient_the_stand_in_is_not_run(made, x):
    source = "CALLS = []\n\ndef stand(real):\n    return lambda x: (CALLS.append(1), real.layer(x.flatten(1)))[1]\n"
    surrogate = made(classifier_of(Coarse()), source)
    calls = surrogate.alone.module.inner.__globals__["CALLS"]
    before = len(calls)
    with torch.no_grad():
        surrogate.network(x)
    surrogate.network(x)
    assert len(calls) == before


def test_what_is_random_draws_the_same_in_both(made, x):
    source = "def stand(real):\n    return lambda x: real.layer(F.dropout(x, 0.5, training=True).flatten(1))\n"
    surrogate = made(classifier_of(Dropping()), source)
    torch.manual_seed(3)
    logits, gradient = slope(surrogate.network, x)
    after = torch.rand(1)
    torch.manual_seed(3)
    dropped = nn.functional.dropout(torch.ones_like(x), 0.5, training=True)
    weight = surrogate.alone.module.inner(x).grad_fn and surrogate.network.real.module.layer.weight[2]
    torch.testing.assert_close(gradient, weight.view(1, 3, 8, 8) * dropped)
    torch.manual_seed(3)
    assert torch.equal(logits, surrogate.network.real(x))
    assert torch.equal(after, torch.rand(1)), "the stand-in moves no generator"
    assert not surrogate.notes


def test_a_stand_in_that_alone_is_random_repeats_itself(made, x):
    source = "def stand(real):\n    return lambda x: real.layer((x + 0.1 * torch.randn_like(x)).abs().flatten(1))\n"
    surrogate = made(classifier_of(Coarse()), source)
    assert "random by itself" in surrogate.notes[0]
    first, second, third = (slope(surrogate.network, images)[1] for images in (x / 20, x / 20, x / 21))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_stand_in_is_fed_as_the_model_is(made, x):
    classifier = classifier_of(Coarse(), mean=[0.5] * 3, std=[0.25] * 3)
    surrogate = made(classifier, "def stand(real):\n    return lambda x: real.layer(x.flatten(1))\n")
    _, gradient = slope(surrogate.network, x)
    torch.testing.assert_close(gradient.flatten(1)[0], classifier.network.module.layer.weight[2] / 0.25)


def test_neither_can_change_the_images_of_the_other_in_place(made, x):
    surrogate = made(
        classifier_of(Coarse()), "def stand(real):\n    return lambda x: real.layer(x.mul_(2).flatten(1))\n"
    )
    logits, gradient = slope(surrogate.network, x)
    assert torch.equal(logits, surrogate.network.real(x))
    torch.testing.assert_close(gradient.flatten(1)[0], 2 * surrogate.network.real.module.layer.weight[2])


def fronted(change):
    classifier = classifier_of(Plain())
    return replace(classifier, network=Fronted([Front(change, "front.py:change")], classifier.network))


def test_images_stand_for_what_is_before_the_model(made, x):
    classifier = fronted(lambda x: (x > 0.5).to(x))
    surrogate = made(classifier, "def stand(real):\n    return lambda x: torch.sigmoid(4 * (x - 0.5))\n")
    values = []
    classifier.network.model.module.register_forward_pre_hook(lambda _, images: values.append(images[0].detach()))
    slope(surrogate.network, x)
    assert torch.equal(values[-1], (x > 0.5).to(x)), "the net sees what the front makes"
    assert surrogate.stands_for == "fronts"


def test_identity_stands_for_what_is_before_the_model(x):
    classifier = fronted(lambda x: 0.5 + 0.01 * (x - 0.5))
    _, gradient = slope(make_surrogate_of(classifier, "identity").network, x)
    torch.testing.assert_close(gradient.flatten(1)[0], classifier.network.model.module.layer.weight[2])


REFUSED = {
    "another number of classes": ("def stand(real):\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7))\n", "7"),
    "no row an image": (
        "def stand(real):\n    return lambda x: real.layer(x.flatten(1)).sum()\n",
        "returned \\(\\) for",
    ),
    "images where no front is": ("def stand(real):\n    return lambda x: x\n", "nothing is before this one"),
    "no slope": (LINEAR.format("self.layer(x.detach().flatten(1))").replace("Stand", "stand"), "has no gradient"),
    "no_grad inside": (
        "def stand(real):\n    return torch.no_grad()(lambda x: real.layer(x.flatten(1)))\n",
        "has no gradient",
    ),
    "whole numbers inside": (
        "def stand(real):\n    return lambda x: real.layer((255 * x).to(torch.uint8).float().flatten(1))\n",
        "has no gradient",
    ),
    "a slope of zero": (
        "def stand(real):\n    return lambda x: real.layer(x.round().flatten(1))\n",
        "is zero on images",
    ),
    "an overflow": (
        "def stand(real):\n    return lambda x: real.layer((x.half() * 1e4 * 100 - 1e6).exp().float().flatten(1))\n",
        "is (NaN or infinite|zero)",
    ),
    "buffers that move": (
        "def stand(real):\n    class Norm(nn.Module):\n        def __init__(self):\n            super().__init__()\n"
        "            self.norm, self.layer = nn.BatchNorm2d(3), real.layer\n        def forward(self, x):\n"
        "            self.norm.training = True\n            return self.layer(self.norm(x).flatten(1))\n"
        "    return Norm()\n",
        "moves its buffers",
    ),
    "not a stand-in": ("stand = 3\n", "is int 3, neither"),
    "no such name": ("stond = nn.Identity()\n", "there is no stand in stand.py"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_mislead_is_refused_in_one_sentence(case, made):
    source, says = REFUSED[case]
    with pytest.raises(RushkitError, match=says) as refused:
        made(classifier_of(Coarse()), source)
    assert refused.value.hint
    assert "\n" not in refused.value.message


def test_a_function_of_images_is_told_what_it_is_called_with(made):
    with pytest.raises(PluginError, match=r"stand.py:stand cannot be made: line 6: .*sigmoid") as refused:
        made(classifier_of(Coarse()), "def stand(x):\n    return torch.sigmoid(x)\n")
    assert "called with the real model" in refused.value.hint


def test_images_of_another_shape_than_the_fronts_are_refused(made):
    with pytest.raises(UsageError, match=r"images \(8, 3, 4, 4\), and what it stands for \(8, 3, 8, 8\)"):
        made(fronted(lambda x: x.round()), "stand = nn.AvgPool2d(2)\n")


def test_a_stand_in_that_minds_its_batch_is_told(made):
    source = "def stand(real):\n    return lambda x: real.layer((x - x.mean(0)).flatten(1))\n"
    assert "the images beside it" in made(classifier_of(Coarse()), source).notes[0]


def test_a_model_that_answers_labels_alone_takes_none():
    service = classifier_of(lambda images: images.reshape(len(images), -1).argmax(1) % 10, answers="labels")
    with pytest.raises(UsageError, match="labels alone"):
        make_surrogate_of(service, "identity")


def test_code_that_the_command_does_not_name_is_not_run(tmp_path, capsys):
    (tmp_path / "stand.py").write_text("print('ran')\n")
    with naming(), pytest.raises(UsageError, match=r"the surrogate is code, stand\.py:stand, and only") as refused:
        make_surrogate_of(classifier_of(Coarse()), f"{tmp_path / 'stand.py'}:stand")
    assert refused.value.hint.startswith("name it, if you trust it: --surrogate ")
    assert "ran" not in capsys.readouterr().err
