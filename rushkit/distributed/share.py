"""A rank's share of a batch: its rows, with the views and the noise that a single process would draw for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rushkit.distributed import ranks
from rushkit.noises import Noise, Norm
from rushkit.views import Views, sample_parameters

if TYPE_CHECKING:
    from rushkit.noises import Probability


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one rank works on.

    Attributes:
        first: Index of the first row.
        count: Number of rows; 0 if a batch has fewer images than there are ranks.
        total: Images in the whole batch.
    """

    first: int
    count: int
    total: int

    @property
    def rows(self) -> slice:
        """The rows as a slice of the batch."""
        return slice(self.first, self.first + self.count)

    @property
    def weight(self) -> float:
        """The weight of the mean over these rows that makes the mean over ranks the mean over the batch."""
        return self.count * ranks.world() / self.total

    def views(self, views: Callable[[Tensor, torch.Generator], Tensor]) -> Callable[[Tensor, torch.Generator], Tensor]:
        """Return views that draw for the whole batch, as a single process does, and transform the rows of the share."""
        if self.count == self.total:
            return views

        def of_share(images: Tensor, source: torch.Generator) -> Tensor:
            if isinstance(views, Views):
                height, width = images.shape[2:]
                drawn = sample_parameters(self.total, height, width, views.settings, source, images.device)
                return views.applied(images, drawn[self.rows])
            return self._among_all(images, lambda batch: views(batch, source))

        return of_share

    def noise(self, noise: Noise) -> Noise:
        """Return a noise that draws for the whole batch, as a single process does, and gives the rows of the share."""
        return noise if self.count == self.total else _SharedNoise(noise, self)

    def drawn(self, like: Tensor, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """Draw for the whole batch, as a single process does, and return the rows of the share.

        Args:
            like: (k * count, ...), k batches one after the other.
            draw: Maps the shape of the whole, (k * total, ...), to the draws.
        """
        if not len(like):
            return like
        batches = len(like) // self.count
        whole = draw((batches * self.total, *like.shape[1:]))
        return whole.view(batches, self.total, *like.shape[1:])[:, self.rows].flatten(0, 1)

    def _among_all(self, rows: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``compute`` to a batch with these rows in their places and zeros elsewhere, and return their part.

        ``rows`` may hold several batches one after the other, such as two views.
        """
        if not len(rows):
            return compute(rows)
        batches = len(rows) // self.count
        padded = rows.new_zeros(batches, self.total, *rows.shape[1:])
        padded[:, self.rows] = rows.view(batches, self.count, *rows.shape[1:])
        outcome = compute(padded.flatten(0, 1))
        return outcome.view(batches, self.total, *outcome.shape[1:])[:, self.rows].flatten(0, 1)


def share_of(images: int) -> Share:
    """Return this rank's share of a batch of ``images``: contiguous rows, at most one more than any other rank has."""
    least, over = divmod(images, ranks.world())
    first = ranks.rank() * least + min(ranks.rank(), over)
    return Share(first, least + (ranks.rank() < over), images)


class _SharedNoise:
    """A noise that draws for a whole batch and returns the rows of a share. Training needs no other ability."""

    def __init__(self, noise: Noise, share: Share) -> None:
        self._noise, self._share = noise, share

    @property
    def std(self) -> float:
        """Standard deviation of one coordinate, in pixel units."""
        return self._noise.std

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw δ for the share's rows x."""
        return self._share._among_all(x, lambda batch: self._noise.sample(batch, generator))

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """Return the radius of the noise itself."""
        return self._noise.certified_radius(p, norm, dim)
