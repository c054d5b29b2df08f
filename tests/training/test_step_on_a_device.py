"""A training step's forward pass on a GPU, without one: tensors that know device and shape, and hold nothing.

Such a tensor refuses to meet one of another device, and to tell its content: what passes here never mixes devices, and
never makes the host wait for the device.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from rushkit import noises, objectives
from rushkit.distributed.share import Share
from rushkit.models.network import Network
from rushkit.training.batch import Draws, StepBatch
from rushkit.views import CropFlip, Views

GPU = torch.device("cuda", 0)


class SourceOnGpu(torch.Generator):
    """Says that it draws on the GPU."""

    @property
    def device(self) -> torch.device:
        return GPU


def loss_on_gpu(objective, views, noise) -> torch.Tensor:
    with FakeTensorMode():
        images = torch.zeros((8, 3, 32, 32), dtype=torch.uint8, device=GPU)
        labels = torch.zeros(8, dtype=torch.int64, device=GPU)
        # Modules alone get a default device: elsewhere a tensor made without one would lie on the CPU.
        with torch.device(GPU):
            encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            network = Network(encoder, objective.head(8, [10]))
        batch = StepBatch(images, labels, 0.0, 0.0, Share(0, 8, 8), SourceOnGpu(), Draws(views, noise), 10)
        (loss,) = objective.losses(network, nn.Module(), batch)
        return loss


@pytest.mark.parametrize("noise", ["uniform", "gaussian", "laplace"])
def test_pre_training_asks_the_device_nothing(noise):
    loss = loss_on_gpu(objectives.create("rush"), Views(32), noises.create(noise, std=0.17))

    assert (loss.shape, loss.device, loss.dtype) == ((), GPU, torch.float32)


@pytest.mark.parametrize("views", [CropFlip(), Views(32)])
def test_fine_tuning_asks_the_device_nothing(views):
    loss = loss_on_gpu(objectives.create("cross-entropy"), views, noises.create("uniform", scale=0.3))

    assert (loss.shape, loss.device, loss.dtype) == ((), GPU, torch.float32)


def test_a_question_to_the_device_would_be_seen():
    class Curious:
        def head(self, features, classes):
            return nn.Linear(features, classes[0])

        def losses(self, network, memory, batch):
            yield network(batch.images.float() / float(batch.images.max())).mean()

    with pytest.raises(DataDependentOutputException):
        loss_on_gpu(Curious(), None, None)
