"""What an attack says before it begins: probabilities for logits, zero slopes, and modules of other precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_models import layer
from torch import nn

from rushkit import attacks, noises
from rushkit.attacks.symptoms import are_probabilities, symptoms
from rushkit.errors import UsageError
from rushkit.smoothing import SmoothedClassifier

NONE = noises.create("none")


def linear() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(nn.Flatten(), layer(12, 3))
    x = torch.rand(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return model, x, model(x).argmax(dim=1)


def codes(model, x, y):
    return [note.code for note in symptoms(model, NONE, x, y, 0)]


class Scaled(nn.Module):
    """Logits so large that float32 has no slope left."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e5 * self.model(x)


def test_a_plain_model_shows_no_sign():
    assert codes(*linear()) == []


def test_probabilities_are_told_from_logits_and_from_their_logarithms():
    model, x, y = linear()
    assert codes(nn.Sequential(model, nn.Softmax(dim=1)), x, y) == ["outputs-are-probabilities"]
    assert codes(nn.Sequential(model, nn.LogSoftmax(dim=1)), x, y) == []
    assert not are_probabilities(torch.tensor([[0.5, 0.6]]))
    assert not are_probabilities(torch.tensor([[1.5, -0.5]]))
    assert are_probabilities(torch.tensor([[0.25, 0.75]]))


def test_a_network_in_another_memory_layout_is_looked_at_as_well():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)
    )
    x = torch.rand(4, 3, 6, 6).to(memory_format=torch.channels_last)
    assert codes(model.to(memory_format=torch.channels_last), x, torch.zeros(4).long()) == ["outputs-are-probabilities"]


def test_saturated_slopes_are_counted():
    model, x, y = linear()
    (note,) = symptoms(Scaled(model), NONE, x, y, 0)
    assert note.code == "slopes-zero"
    assert "at 8 of 8 images" in note.text


def test_a_model_that_fails_is_left_to_the_attack_to_report():
    _, x, y = linear()
    assert codes(nn.Sequential(nn.Flatten(), layer(5, 3)), x, y) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_of_other_precisions_take_float32_images(dtype):
    model, x, y = linear()
    g = SmoothedClassifier(model.to(dtype), NONE, samples=1)
    assert g(x).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (g.predict(x) == y).float().mean() > 0.8
    for victim in (g, model):
        x_adv = attacks.create("pgd", norm="linf", eps=0.3, steps=3)(victim, x, y)
        assert x_adv.dtype == torch.float32
        assert (g.predict(x_adv) != y).any()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x, y: (x.numpy(), y), "images are a torch tensor"),
        (lambda x, y: (x, y.numpy()), "torch.as_tensor"),
        (lambda x, y: (x[0], y[:1]), "one image is x[None]"),
        (lambda x, y: (np.asarray(x[0]), y[:1]), "images are a torch tensor"),
    ],
)
def test_what_is_no_batch_of_tensors_is_refused_in_a_sentence(change, words):
    model, x, y = linear()
    with pytest.raises(UsageError) as refused:
        attacks.create("square", norm="linf", eps=0.1, queries=2)(model, *change(x, y))
    assert words in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("kind", ["tifgsm", "pifgsm", "pifgsmpp"])
def test_attacks_for_colour_images_say_so(kind):
    model, x, y = nn.Sequential(nn.Flatten(), layer(4, 3)), torch.rand(2, 1, 2, 2), torch.zeros(2).long()
    with pytest.raises(UsageError, match=f"torchattacks' {kind} is made for images of 3 channels"):
        attacks.create(f"torchattacks/{kind}", norm="linf", eps=0.1)(model, x, y)


def test_ead_says_how_many_iterations_it_needs():
    with pytest.raises(UsageError, match="eadl1: max_iterations must be at least 10"):
        attacks.create("torchattacks/eadl1", norm="l1", eps=1.0, max_iterations=9)


def test_images_of_another_size_are_refused_and_classes_have_names():
    model, _, y = linear()
    g = SmoothedClassifier(model, NONE, samples=1)
    assert g.names_of(y[:1]) == [str(int(y[0]))]
    g.classes, g.image_shape = ("cat", "dog", "emu"), (3, 2, 2)
    assert g.with_samples(2).names_of(torch.tensor([2, 0])) == ["emu", "cat"]
    for call in (g, g.predict, g.votes, g.with_samples(2)):
        with pytest.raises(UsageError, match="images are 3x4x4, and the model takes 3x2x2"):
            call(torch.rand(1, 3, 4, 4))
