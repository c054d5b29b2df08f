"""k-means: k-means++ starts and Lloyd's iterations, in blocks, so that no table of all distances is ever held.

The features are put on a grid of 2⁻²³ of the largest, which float32 holds exactly. Sums over them are then exact in
float64 whatever their order, and a nearest centre that float32 cannot tell is looked for again in float64. So labels do
not depend on the size of a block, and hardly on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.errors import NumericsError, UsageError
from rushkit.system import generator

# Lloyd's iterations of a start; it ends before, once no label changes.
MOST_ITERATIONS = 300
# Distances in a block: 8 MiB of them stay in a processor's cache.
BLOCK = 1 << 21
# Rows of features that are turned to float64 at once.
_WIDE_ROWS = 4096
# A float32 product of vectors is right to this times the root of their length times their norms.
_ROUNDING = 8 * torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Partition:
    """Images in clusters.

    Attributes:
        labels: (N,) int64, the cluster of each image. No cluster is empty.
        inertia: Sum of the squared distances of the features to the means of their clusters.
        iterations: Lloyd's iterations of the start that was kept.
        settled: Whether the last of them changed no label.
        filled: How often an empty cluster was given another image.
    """

    labels: Tensor
    inertia: float
    iterations: int
    settled: bool
    filled: int


def kmeans(
    features: Tensor,
    clusters: int,
    seed: int,
    starts: int = 1,
    block: int = BLOCK,
    most: int = MOST_ITERATIONS,
) -> Partition:
    """Divide features into clusters of small inertia (Lloyd 1982), from k-means++ starts (Arthur & Vassilvitskii 2007).

    The starts are greedy: each centre is the best of 2 + ⌊ln k⌋ that are drawn in proportion to the squared distance. A
    cluster that becomes empty takes the image that is farthest from the mean of its cluster, among clusters of several.

    Example::

        labels = kmeans(torch.randn(1000, 16), clusters=10, seed=0).labels

    Args:
        features: (N, F) float32, finite.
        clusters: k, from 2 to N.
        seed: Seeds every draw.
        starts: How many starts to try; the one of the least inertia is kept.
        block: Distances that are held at once.
        most: Iterations of a start at most.

    Raises:
        UsageError: more clusters than images, or than different features.
        NumericsError: features that are not finite.
    """
    if not 2 <= clusters <= len(features):
        raise UsageError(
            f"{len(features)} images cannot make {clusters} clusters",
            f"from 2 to {len(features)} clusters are possible",
        )
    if not torch.isfinite(features).all():
        raise NumericsError("the features to cluster are NaN or infinite", "look for diverged training")
    points = Points.on_grid(features, block)
    tried = (_start(points, clusters, generator(seed, "cluster", clusters, start), most) for start in range(starts))
    return min(tried, key=lambda partition: partition.inertia)


@dataclass(frozen=True)
class Points:
    """Features on a grid, around a mean of about 0.

    Attributes:
        x: (N, F) float32.
        squares: (N,) float64, their squared norms.
        block: Distances that are held at once.
    """

    x: Tensor
    squares: Tensor
    block: int

    @classmethod
    def on_grid(cls, features: Tensor, block: int) -> Points:
        """Return the features less their mean, rounded to 2⁻²³ of the largest."""
        x = features.to(torch.float32)
        x = x - x.mean(dim=0, dtype=torch.float64).float()
        largest = float(x.abs().max())
        if largest:
            step = 2.0 ** (math.frexp(largest)[1] - 23)
            x = (x / step).round_().mul_(step)
        squares = torch.cat([rows.double().square().sum(dim=1) for rows in x.split(_WIDE_ROWS)])
        return cls(x.contiguous(), squares, block)

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, columns: int) -> Iterator[slice]:
        """Yield blocks of rows whose distances to so many centres are held at once."""
        step = max(1, self.block // columns)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def nearest(self, centres: Tensor) -> Tensor:
        """Return the nearest of the centres (k, F) float64 for each point, (N,) int64; the first of equally near ones.

        x·c − ‖c‖²/2 is the largest for the nearest.
        """
        narrow, halves = centres.float(), centres.square().sum(dim=1) / 2
        slack = _ROUNDING * math.sqrt(self.x.shape[1]) * float(centres.norm(dim=1).max())
        margins = self.squares.sqrt().float() * (2 * slack) + slack * float(centres.norm(dim=1).max())
        labels = torch.empty(len(self), dtype=torch.int64, device=self.x.device)
        for rows in self.rows(len(centres)):
            scores = torch.addmm(-halves.float(), self.x[rows], narrow.T)
            best, labels[rows] = scores.max(dim=1)
            near = (scores >= (best - margins[rows])[:, None]).sum(dim=1) > 1
            unsure = near.nonzero().flatten() + rows.start
            for part in unsure.split(max(1, self.block // len(centres))):
                labels[part] = (self.x[part].double() @ centres.T - halves).argmax(dim=1)
        return labels

    def distances_to(self, others: Tensor) -> Tensor:
        """Return the squared distances (N, T) float64 to points (T,) of these; to the point itself exactly 0."""
        y = self.x[others]
        distances = self.squares[:, None] + self.squares[others] - 2 * (self.x @ y.T).double()
        slack = _ROUNDING * math.sqrt(self.x.shape[1]) * (self.squares[:, None] + self.squares[others])
        for pairs in (distances <= slack).nonzero().split(_WIDE_ROWS):
            i, t = pairs.unbind(dim=1)
            distances[i, t] = (self.x[i].double() - y[t].double()).square().sum(dim=1)
        return distances

    def from_means(self, labels: Tensor, centres: Tensor) -> Tensor:
        """Return the squared distance of each point to the centre of its cluster, (N,) float64."""
        parts = zip(self.x.split(_WIDE_ROWS), labels.split(_WIDE_ROWS), strict=True)
        return torch.cat([(x.double() - centres[of]).square().sum(dim=1) for x, of in parts])


def _start(points: Points, clusters: int, source: torch.Generator, most: int) -> Partition:
    """Return what one start leads to."""
    means = _Means(points, clusters)
    centres = points.x[_seeds(points, clusters, source)].double()
    before: Tensor | None = None
    filled = iterations = 0
    while True:
        iterations += 1
        labels = points.nearest(centres)
        filled += _fill(points, labels, centres)
        settled = before is not None and bool(torch.equal(before, labels))
        means.move(before, labels)
        if settled or iterations == most:
            return Partition(labels.cpu(), means.inertia(), iterations, settled, filled)
        before, centres = labels, means.centres()


class _Means:
    """The means of clusters, from exact sums that only what moves changes."""

    def __init__(self, points: Points, clusters: int) -> None:
        self._points = points
        device = points.x.device
        self._sums = torch.zeros(clusters, points.x.shape[1], dtype=torch.float64, device=device)
        self._counts = torch.zeros(clusters, dtype=torch.float64, device=device)

    def move(self, before: Tensor | None, after: Tensor) -> None:
        """Move the points whose label changed; None before the first labels."""
        moved = torch.arange(len(after), device=after.device) if before is None else (before != after).nonzero()[:, 0]
        for part in moved.split(_WIDE_ROWS):
            x = self._points.x[part].double()
            self._add(after[part], x)
            if before is not None:
                self._add(before[part], -x, -1.0)

    def centres(self) -> Tensor:
        """Return the means (k, F) float64."""
        return self._sums / self._counts[:, None]

    def inertia(self) -> float:
        """Return the sum of the squared distances of all points to the means."""
        spread = self._points.squares.sum() - (self._sums.square().sum(dim=1) / self._counts).sum()
        return max(0.0, float(spread))

    def _add(self, labels: Tensor, x: Tensor, count: float = 1.0) -> None:
        self._sums.index_add_(0, labels, x)
        self._counts.index_add_(0, labels, torch.full_like(labels, count, dtype=torch.float64))


def _seeds(points: Points, clusters: int, source: torch.Generator) -> Tensor:
    """Draw the points (k,) that are the first centres, by greedy k-means++.

    Raises:
        UsageError: there are fewer different points.
    """
    trials, device = 2 + int(math.log(clusters)), points.x.device
    chosen = torch.randint(len(points), (1,), generator=source).to(device)
    closest = points.distances_to(chosen)[:, 0]
    seeds = [chosen]
    while len(seeds) < clusters:
        weights = closest.cumsum(dim=0)
        if not float(weights[-1]):
            raise UsageError(
                f"the images have only {len(seeds)} different features, too few for {clusters} clusters",
                "ask for fewer clusters; an encoder that gives all images the same features has collapsed",
            )
        drawn = torch.rand(trials, generator=source, dtype=torch.float64).to(device) * weights[-1]
        candidates = torch.searchsorted(weights, drawn, right=True).clamp_(max=len(points) - 1)
        distances = torch.minimum(points.distances_to(candidates), closest[:, None])
        best = distances.sum(dim=0).argmin()
        closest = distances[:, best].contiguous()
        seeds.append(candidates[best][None])
    return torch.cat(seeds)


def _fill(points: Points, labels: Tensor, centres: Tensor) -> int:
    """Give each empty cluster, in order, the point farthest from its centre among clusters of several; how many it was.

    Of equally far points the first goes. ``labels`` change in place.
    """
    counts = labels.bincount(minlength=len(centres))
    empty = (counts == 0).nonzero().flatten().tolist()
    if not empty:
        return 0
    distances = points.from_means(labels, centres)
    for cluster in empty:
        farthest = torch.where(counts[labels] > 1, distances, -1.0).argmax()
        counts[labels[farthest]] -= 1
        counts[cluster] += 1
        labels[farthest] = cluster
    return len(empty)
