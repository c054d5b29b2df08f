"""Smoothing noise uniform on an l2 ball, with its certificate: a noise plugin for rushkit."""

from __future__ import annotations

import math
import secrets
from typing import Any

import numpy as np
import torch
from scipy.special import betaincinv

from rushkit.errors import NoCertificate, UsageError


class Ball:
    """δ uniform on the l2 ball of radius r around the image.

    Args:
        scale: r, in pixel units.
        std: Standard deviation of one coordinate instead: r / sqrt(dim + 2).
        dim: Coordinates of an image, C * H * W.

    Raises:
        UsageError: not exactly one of scale and std, or a value that is not positive.
    """

    name = "ball"

    # Certificates are in this norm where none is asked for: here the radius is tight.
    own_norm = "l2"

    def __init__(self, scale: float | None = None, std: float | None = None, dim: int = 3072) -> None:
        given = scale if std is None else std
        if (scale is None) == (std is None) or given is None or not 0 < given < math.inf or dim < 1:
            raise UsageError(
                f"ball needs one of scale and std, positive, and dim >= 1 (got scale={scale}, std={std}, dim={dim})",
                "for example --set noise.name=ball --set noise.std=0.25",
            )
        self.dim = dim
        self.scale = scale if scale is not None else given * math.sqrt(dim + 2)
        self.std = self.scale / math.sqrt(dim + 2)

    def __repr__(self) -> str:
        return f"Ball(scale={self.scale:g}, dim={self.dim})"

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw δ for images (N, C, H, W): a uniform direction, and a length whose dim-th power is uniform."""
        self._check_dim(x.shape[1:].numel())
        if generator is None:
            generator = torch.Generator(x.device)
            generator.manual_seed(secrets.randbits(63))
        make = {"generator": generator, "device": generator.device, "dtype": torch.float32}
        direction = torch.randn(len(x), self.dim, **make)
        length = torch.rand(len(x), 1, **make) ** (1 / self.dim)
        delta = self.scale * length * direction / direction.norm(dim=1, keepdim=True)
        return delta.reshape(x.shape).to(x.device, x.dtype)

    def certified_radius(self, p: Any, norm: str, dim: int) -> Any:
        """Radius where the top class has probability at least p; exact in l2, by inclusion in l1 and l-inf.

        At distance R the shifted ball covers all but a share u of this one; in the worst case all of u votes for the
        top class, which keeps p - u >= 1/2. For two balls, u = I(c^2; 1/2, (dim + 1) / 2) with c = R / 2r.

        Raises:
            NoCertificate: another norm.
            UsageError: p outside [0, 1], or images of another size.
        """
        if norm not in ("l1", "l2", "linf"):
            raise NoCertificate(f"ball noise has no radius in {norm}", "it has l1, l2 and linf")
        self._check_dim(dim)
        bound = np.asarray(p, dtype=np.float64)
        if not np.all((bound >= 0) & (bound <= 1)):
            raise UsageError(f"a probability lies in [0, 1] (got {p!r})")
        lost = np.maximum(bound - 0.5, 0.0)
        radius = 2 * self.scale * np.sqrt(betaincinv(0.5, (dim + 1) / 2, lost))
        radius = radius / math.sqrt(dim) if norm == "linf" else radius
        return float(radius) if np.ndim(p) == 0 else radius

    def _check_dim(self, dim: int) -> None:
        if dim != self.dim:
            raise UsageError(f"this ball has {self.dim} dimensions, the image {dim}", f"--set noise.dim={dim}")
