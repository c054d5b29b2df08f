"""A classifier whose truth is known, and what certifies it without a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rushkit.certificates import Certificates
from rushkit.certification.claim import Claim
from rushkit.certification.counts import ImageCounts
from rushkit.certification.draws import Sampler
from rushkit.certification.fixed_samples import FixedSamples
from rushkit.certification.log_checks import parse_lines
from rushkit.certification.procedure import Procedure
from rushkit.certification.sequential import Sequential
from rushkit.data.memory import Split
from rushkit.noises.gaussian import Gaussian
from rushkit.results.logs import CountsLine
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
    settings = {
        "alpha": 0.001,
        "bound": "one-sided-betting" if mode == "sequential" else "clopper-pearson",
        "rule": "majority",
    }
    return Claim(noise=NOISE, norm="l2", dim=DIM, two_class=False, samples=samples, **settings | changes)


def procedure_of(what: Claim, selection: int = 100, radii: Sequence[float] = ()) -> Procedure:
    return (
        Sequential(what, selection, tuple(radii))
        if what.bound == "one-sided-betting"
        else FixedSamples(what, selection)
    )


def estimate(what: Claim, counts: ImageCounts) -> Certificates:
    return FixedSamples(what, 100).certificates(counts)


def sampler_of(levels, model=None, batch=512, indices=None, noise=NOISE) -> Sampler:
    """Images with all pixels at one of the grey levels."""
    images = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SHAPE).contiguous()
    indices = torch.arange(len(levels)) if indices is None else torch.tensor(indices)
    split = Split(images, torch.ones(len(levels), dtype=torch.int64), "levels")
    return Sampler(model or HalfSpace(), noise, split, indices, 0, 2, batch, CPU)


def lines_of(sampler: Sampler, procedure: Procedure, tmp_path: Path, name: str = "counts") -> list[CountsLine]:
    """The lines of a log that goes on from what it has."""
    log = BlockLog(tmp_path / f"{name}.jsonl", {})
    for line in procedure.draw(sampler, parse_lines(log.records())):
        log.append(line.to_table())
    return parse_lines(log.records())
