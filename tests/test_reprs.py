"""What a notebook shows of each thing: one line that says what it is, without its tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import rushkit
from rushkit.attacks.autoattack import AutoAttackResult
from rushkit.attacks.result import AttackResult
from rushkit.certificates import Certificates
from rushkit.data.memory import Split
from rushkit.results.run_file import Facts
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker
from rushkit.setup.model import Classifier
from rushkit.votes import Tally

RECIPE = {"pretrain.epochs": 3, "data.limit": 64, "noise.scale": 0.25}


def recipe():
    return rushkit.load_recipe("digits", RECIPE, {})


def split(labels: bool) -> Split:
    return Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1, 5]) if labels else None, "a/train")


def checkpoint() -> Checkpoint:
    return Checkpoint({"encoder.w": torch.zeros(3, 3)}, {"stage": "finetune", "epoch": 2, "step": 6}, "runs/c", "0f")


def result(kind):
    found = torch.tensor([True, False, True])
    return kind(torch.zeros(3, 3, 8, 8), found, torch.zeros(3), torch.zeros(5), 640, 320)


def certificates() -> Certificates:
    radii = np.array([0.0, 0.25])
    return Certificates(np.array([-1, 3]), np.array([0.4, 0.9]), np.array([0.6, 0.1]), radii)


SHOWN = [
    (recipe, "Recipe('digits+uniform-0.25', digits, resnet10-small, uniform scale 0.25, rush for 3 epochs, "
     "cross-entropy for 15 epochs)"),
    (lambda: split(labels=True), "Split('a/train': 4 images of 3x8x8, 3 classes)"),
    (lambda: split(labels=False), "Split('a/train': 4 images of 3x8x8, no labels)"),
    (checkpoint, "Checkpoint('runs/c', stage finetune, epoch 2, step 6, 1 tensors)"),
    (lambda: Classifier(nn.Identity(), recipe(), ("a", "b"), 16, checkpoint(), 512, 3),
     "Classifier('runs/c', resnet10-small, 2 classes, images of 16x16)"),
    (lambda: result(AttackResult), "AttackResult(2 of 3 images succeed, 640 forwards, 320 backwards)"),
    (lambda: result(AutoAttackResult), "AutoAttackResult(2 of 3 images succeed, 640 forwards, 320 backwards)"),
    (lambda: Tally(torch.zeros(5, 10), torch.zeros(5, 10), torch.zeros(5, 10), 64),
     "Tally(5 images, 10 classes, 64 draws each)"),
    (certificates, "Certificates(2 images, 1 abstain, radius up to 0.250)"),
    (lambda: rushkit.SmoothedClassifier(nn.Linear(3, 2), rushkit.noises.create("gaussian", scale=0.5), 8),
     "SmoothedClassifier(Linear, Gaussian(scale=0.5, std=0.5), samples=8, chunk=None)"),
    (lambda: rushkit.datasets.create("digits", root="", image_size=16), "Digits(image_size=16)"),
    (lambda: rushkit.datasets.create("cifar100", root="x"), "Cifar('cifar100', root='x')"),
    (lambda: rushkit.datasets.create("stl10", root="x"), "STL10(root='x', image_size=96)"),
    (lambda: rushkit.datasets.create("folder", root="x", path="y"), "Folder('x/y')"),
    (lambda: rushkit.objectives.create("rush"), "Rush(temperature=0.5, noise_on='second')"),
    (lambda: rushkit.objectives.create("simclr"), "SimCLR(temperature=0.5, noise_on='none')"),
    (lambda: rushkit.objectives.create("cross-entropy"), "CrossEntropy(label_smoothing=0)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shown"), SHOWN, ids=[shown.partition("(")[0] for _, shown in SHOWN])
def test_a_thing_says_in_one_line_what_it_is(make, shown):
    assert repr(make()) == shown


def test_a_run_tells_its_folder_and_how_it_is(tmp_path):
    with Run.create(tmp_path, "pretrain", "digits", Facts(), "", Speaker(-1)) as run:
        assert repr(run) == f"Run('{run.path}', pretrain digits, running)"
    assert repr(run).endswith("finished)")


def test_no_certificates_have_no_largest_radius():
    nothing = np.array([])
    assert repr(Certificates(nothing, nothing, nothing, nothing)) == "Certificates(0 images, 0 abstain)"
