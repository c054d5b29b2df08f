"""An objective of the tests that takes two steps a batch and has a memory of every kind."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F


class Teacher:
    """Two steps a batch: towards the labels, then towards a copy that follows the network; keeps its place."""

    stage = "finetune"

    def head(self, num_features, classes):
        return nn.Linear(num_features, classes[0])

    def attach(self, network, shape):
        memory = nn.ModuleDict({"target": copy.deepcopy(network).requires_grad_(False), "bridge": nn.Linear(10, 10)})
        # A part of the network may be part of the memory.
        memory["head"] = network.head
        memory.register_buffer("last", torch.zeros(2))
        self.shape = shape
        return memory

    def losses(self, network, memory, batch):
        x = batch.view()
        yield batch.mean(F.cross_entropy(memory["bridge"](network(x)), batch.labels, reduction="none"))
        with torch.no_grad():
            target = memory["target"](x)
        yield batch.mean((network(x + batch.noise(x)) - target).square().sum(1))
        with torch.no_grad():
            for held, moving in zip(memory["target"].parameters(), network.parameters(), strict=True):
                held.lerp_(moving, 0.1)
        memory.last.copy_(torch.tensor([batch.progress, batch.epoch]))
