"""What cannot be meant is refused with its fix: units, shapes and types at the border of the Python API."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import rushkit
from rushkit.auditing.plan import Settings
from rushkit.certification.procedures import choose_procedure
from rushkit.errors import UsageError
from rushkit.evaluation.probe import Ball
from rushkit.noises.gaussian import Gaussian
from rushkit.recipe.schema import Certify
from rushkit.smoothing import SmoothedClassifier


class Answers(nn.Module):
    """A linear classifier of 2x2 images whose logits (N, 3) go out as ``change`` says."""

    def __init__(self, change):
        super().__init__()
        self.linear = nn.Linear(12, 3)
        self.change = change

    def forward(self, x):
        return self.change(self.linear(x.flatten(1)))


IMAGES, LABELS = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])

# What a model may return, and what the message says of it.
WRONG_OUTPUTS = {
    "twice the images": (lambda z: torch.cat([z, z]), r"\(\d+, 3\) for \d+ images"),
    "a map of logits": (lambda z: z[:, :, None, None].expand(-1, -1, 2, 2), "pool"),
    "a tuple": (lambda z: (z, z), "returned a tuple"),
    "a dictionary": (lambda z: {"logits": z}, r"model\(x\).logits"),
    "an output with logits": (lambda z: SimpleNamespace(logits=z), r"model\(x\).logits"),
    "one logit in a row": (lambda z: z[:, 0], "single logit"),
    "one logit in a column": (lambda z: z[:, :1], "single logit"),
    "one class in a row": (lambda z: z.argmax(1), "floating-point logits"),
    "classes": (lambda z: z.argmax(1, keepdim=True).expand(-1, 3), "floating-point logits"),
    "complex numbers": (lambda z: z + 0j, "floating-point logits"),
}


@pytest.mark.parametrize("change, words", WRONG_OUTPUTS.values(), ids=WRONG_OUTPUTS)
@pytest.mark.parametrize("ask", ["votes", "forward", "sample_logits"])
def test_a_smoothed_classifier_refuses_what_is_no_logits(ask, change, words):
    g = SmoothedClassifier(Answers(change), Gaussian(std=0.1), samples=1, seed=0)
    with pytest.raises(UsageError, match=words):
        getattr(g, ask)(IMAGES)


@pytest.mark.parametrize("output", [output for output in WRONG_OUTPUTS if output != "twice the images"])
@pytest.mark.parametrize("name", ["pgd", "autoattack", "fgsm"])
def test_an_attack_says_what_the_model_should_return(name, output):
    change, words = WRONG_OUTPUTS[output]
    attack = rushkit.attacks.create(name, norm="linf", eps=0.1)
    with pytest.raises(UsageError, match=words):
        attack(Answers(change), IMAGES, LABELS)


@pytest.mark.parametrize("eps", [8, 2.0, 255])
@pytest.mark.parametrize("name", ["pgd", "apgd", "autoattack", "fab", "square", "fgsm", "torchattacks/pgd"])
def test_a_radius_in_grey_levels_is_not_made_into_an_attack(name, eps):
    with pytest.raises(UsageError, match=f"{eps:g} looks like {eps:g}/255"):
        rushkit.attacks.create(name, norm="linf", eps=eps)


def test_an_attack_of_a_plugin_is_not_made_with_a_radius_in_grey_levels():
    rushkit.attacks.register("brightest")(lambda norm, eps: lambda model, x, y: (x + eps).clamp(0, 1))
    try:
        with pytest.raises(UsageError, match="8 looks like 8/255"):
            rushkit.attacks.create("brightest", norm="linf", eps=8)
    finally:
        rushkit.registries.attacks.unregister("brightest", __name__.partition(".")[0])


@pytest.mark.parametrize("norm, longest", [("l2", math.sqrt(12)), ("l1", 12.0)])
def test_a_radius_longer_than_any_way_between_two_images_attacks_nothing(norm, longest):
    attack = rushkit.attacks.create("pgd", norm=norm, eps=1.01 * longest)
    with pytest.raises(UsageError, match="than two images in"):
        attack(Answers(lambda z: z), IMAGES, LABELS)


def test_a_step_in_grey_levels_is_refused():
    with pytest.raises(UsageError, match=r"step_size 2 is more.*\n2 looks like 2/255"):
        rushkit.attacks.create("pgd", norm="linf", eps=8 / 255, step_size=2)


@pytest.mark.parametrize("norm, eps", [("linf", 8), ("l3", 0.1)])
@pytest.mark.parametrize("make", [lambda norm, eps: rushkit.audit_settings(norm, eps, seed=0), Settings])
def test_an_audit_of_a_ball_that_cannot_be_meant_is_not_planned(make, norm, eps):
    with pytest.raises(UsageError):
        make(norm, eps)


def test_a_probe_of_a_ball_in_grey_levels_is_not_made():
    with pytest.raises(UsageError, match="8 looks like 8/255"):
        Ball(norm="linf", eps=8)


@pytest.mark.parametrize("norm, radius", [("linf", 8), ("l2", 128), ("l1", 5000)])
def test_a_radius_beyond_every_image_is_not_certified(norm, radius):
    settings = {"norm": norm, "radii": [float(radius)]}
    with pytest.raises((UsageError, ValueError), match=f"{radius}/255"):
        choose_procedure(Certify(**settings), Gaussian(std=0.25), 3 * 32 * 32)


@pytest.mark.parametrize("name", ["gaussian", "uniform", "laplace", "discrete-gaussian", "split"])
@pytest.mark.parametrize("word", ["std", "scale"])
def test_a_noise_in_grey_levels_is_refused(name, word):
    with pytest.raises(UsageError, match=f"{word} 64 .*at most 10.*\n.*{word}=0.251"):
        rushkit.noises.create(name, **{word: 64})


WRONG_IMAGES = {
    "0 to 255": (IMAGES * 255, "divide images of 0 to 255 by 255"),
    "uint8": ((IMAGES * 255).byte(), "divide uint8 images by 255"),
    "normalised": ((IMAGES - 0.5) / 0.25, "before any normalisation"),
    "one image": (IMAGES[0], r"x\[None\]"),
    "an array": (IMAGES.numpy(), "torch tensor"),
    "not a number": (IMAGES * float("nan"), "nan to nan"),
}


@pytest.mark.parametrize("x, words", WRONG_IMAGES.values(), ids=WRONG_IMAGES)
def test_votes_are_not_counted_on_what_is_no_image(x, words):
    g = SmoothedClassifier(Answers(lambda z: z), rushkit.noises.create("none"), samples=4, seed=0)
    with pytest.raises(UsageError, match=words):
        g.votes(x)


@pytest.mark.parametrize("ask", ["forward", "sample_logits"])
def test_log_probabilities_of_images_of_0_to_255_are_refused(ask):
    g = SmoothedClassifier(Answers(lambda z: z), Gaussian(std=0.1), samples=4, seed=0)
    with pytest.raises(UsageError, match="divide images of 0 to 255 by 255"):
        getattr(g, ask)(IMAGES * 255)


@pytest.mark.parametrize("labels, words", [(np.zeros(4, dtype=np.int64), "ndarray"), (torch.eye(4).long(), "argmax")])
def test_labels_of_another_kind_are_named_with_their_fix(labels, words):
    with pytest.raises(UsageError, match=words):
        rushkit.attacks.create("pgd", norm="linf", eps=0.1)(Answers(lambda z: z), IMAGES, labels)


@pytest.mark.parametrize("model", [lambda x: x.flatten(1), None])
def test_what_is_no_module_is_no_model(model):
    with pytest.raises(UsageError, match=r"torch.nn.Module"):
        SmoothedClassifier(model, Gaussian(std=0.1))


def test_votes_of_a_single_class_certify_nothing():
    with pytest.raises(UsageError, match="two classes"):
        rushkit.certificates.certify_counts([[10]], [[1000]], Gaussian(std=0.25), "l2", 12)


def test_mean_confidences_of_a_single_class_certify_nothing():
    with pytest.raises(UsageError, match="two classes"):
        rushkit.certificates.MeanSums.of_tables([[10.0]], [[1000.0]], [[1000.0]], 1000)
