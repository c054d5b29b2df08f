from __future__ import annotations

import torch
from torch import nn

from rushkit.auditing.planted import plant_and_seek
from rushkit.noises.discrete_gaussian import DiscreteGaussian
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator


def test_features_that_place_a_planted_example_see_images_on_the_grid_of_the_noise():
    seen = []

    def features(x):
        seen.append(x.detach())
        return x.flatten(1)

    x = torch.randint(256, (1, 3, 4, 4), generator=generator(0, "images")) / 255
    g = SmoothedClassifier(nn.Flatten(), DiscreteGaussian(scale=0.05), samples=4, seed=0)
    plant_and_seek(g, features, x, ("l2", 0.5), 1, 1, 0)
    assert len(seen) > 2
    for images in seen:
        assert torch.equal(images, torch.round(images * 255) / 255)
