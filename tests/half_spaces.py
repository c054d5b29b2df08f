"""A classifier whose truth is known, and what certifies it without a run."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from rushkit.certification.claim import Claim
from rushkit.certification.draws import Job, draw_records
from rushkit.data.memory import Split
from rushkit.noises.gaussian import Gaussian
from rushkit.run.log import BlockLog

SIGMA = 0.25
NOISE = Gaussian(scale=SIGMA)
SHAPE = (3, 2, 2)
DIM = math.prod(SHAPE)
CPU = torch.device("cpu")


class HalfSpace(nn.Module):
    """Class 1 where the mean pixel is above a threshold: its distance to the boundary is known, and its smoothing."""

    def __init__(self, threshold: float = 0.5, steepness: float = 50.0) -> None:
        super().__init__()
        self.threshold, self.steepness = threshold, steepness

    def forward(self, x):
        score = self.steepness * (x.flatten(1).mean(dim=1) - self.threshold)
        return torch.stack([-score, score], dim=1)

    def distance(self, pixels):
        """l2 distance of an image with all pixels alike."""
        return np.abs(np.asarray(pixels) - self.threshold) * math.sqrt(DIM)


def claim(samples: int, mode: str = "fixed", **changes) -> Claim:
    settings = {"alpha": 0.001, "bound": "betting" if mode == "sequential" else "clopper-pearson", "rule": "majority"}
    return Claim(noise=NOISE, norm="l2", dim=DIM, two_class=False, samples=samples, mode=mode, **settings | changes)


def job_of(levels, model=None, batch=512, indices=None) -> Job:
    """Images with all pixels at one of the grey levels."""
    images = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SHAPE).contiguous()
    indices = torch.arange(len(levels)) if indices is None else torch.tensor(indices)
    split = Split(images, torch.ones(len(levels), dtype=torch.int64), "levels")
    return Job(model or HalfSpace(), NOISE, split, indices, 0, 2, batch, CPU)


def records_of(job, what, tmp_path, selection=100, radii=(), name="counts"):
    log = BlockLog(tmp_path / f"{name}.jsonl", {})
    records = log.records()
    for record in draw_records(job, what, selection, list(radii), records):
        log.append(record)
        records.append(record)
    return records
