"""The projector that contrastive objectives put on the encoder, and the options that say what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor, nn

from rushkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Biases = Literal["needed", "first"]


class Projector(nn.Module):
    """A perceptron from features (N, num_features) to projections (N, out); two layers are SimCLR's (section 2.1).

    >>> Projector(512)  # RUSH and RoCL: 512-2048-128
    >>> Projector(512, hidden=512, batch_norm=True)  # AdvCL: 512-512-128
    >>> Projector(512, hidden=4096, out=256, batch_norm=True)  # BYOL: 512-4096-256
    >>> Projector(512, 512, 512, batch_norm=True, layers=3, norm_out=True, biases="first")  # ACL: 512-512-512-512

    Args:
        num_features: Length of the encoder's features.
        hidden: Width of each hidden layer; ReLU follows each.
        out: Length of the projections.
        batch_norm: Whether to normalise the hidden layers; RUSH is silent, RoCL's code does not, AdvCL's does.
        layers: Number of linear layers, at least 2.
        norm_out: Whether to normalise the projections too.
        biases: Which linear layers have a bias: those that "needed" it, as no BatchNorm follows them, or the "first".
    """

    def __init__(
        self,
        num_features: int,
        hidden: int = 2048,
        out: int = 128,
        batch_norm: bool = False,
        layers: int = 2,
        norm_out: bool = False,
        biases: Biases = "needed",
    ) -> None:
        super().__init__()

        def norm(width: int, wanted: bool) -> nn.Module:
            return nn.BatchNorm1d(width) if wanted else nn.Identity()

        later = biases == "needed"
        self.hidden = nn.Linear(num_features, hidden, bias=not (later and batch_norm))
        self.norm = norm(hidden, batch_norm)
        # Layers between the first and the last; none add no name to a checkpoint.
        between: list[nn.Module] = []
        for _ in range(layers - 2):
            linear = nn.Linear(hidden, hidden, bias=later and not batch_norm)
            between += [linear, norm(hidden, batch_norm), nn.ReLU()]
        self.between = nn.Sequential(*between)
        self.out = nn.Linear(hidden, out, bias=later and not norm_out)
        self.norm_out = norm(out, norm_out)

    def forward(self, features: Tensor) -> Tensor:
        """Return the projections (N, out) of features (N, num_features)."""
        hidden = self.between(self.norm(self.hidden(features)).relu())
        projections: Tensor = self.norm_out(self.out(hidden))
        return projections


@dataclass(frozen=True, kw_only=True)
class Projected:
    """A base for objectives of pre-training that put a ``Projector`` on the encoder; recipes set it as ``[projector]``.

    Args:
        hidden: Width of the projector's hidden layers.
        out: Length of the projections.
        batch_norm: Whether the hidden layers are batch-normalised.
        layers: Number of the projector's linear layers.
        norm_out: Whether the projections are batch-normalised.
        biases: Which linear layers have a bias: those that "needed" it, as no BatchNorm follows them, or the "first".

    Raises:
        UsageError: a width below 1, or fewer than two layers.
    """

    stage: ClassVar[Literal["pretrain"]] = "pretrain"

    hidden: int = 2048
    out: int = 128
    batch_norm: bool = False
    layers: int = 2
    norm_out: bool = False
    biases: Biases = "needed"

    def __post_init__(self) -> None:
        for name, value, least in (("hidden", self.hidden, 1), ("out", self.out, 1), ("layers", self.layers, 2)):
            if value < least:
                raise UsageError(
                    f"{name} must be at least {least} (got {value!r})",
                    "the defaults are hidden 2048, out 128, layers 2",
                )

    def head(self, num_features: int, classes: Sequence[int]) -> nn.Module:
        """Return a projector from features (N, num_features) to projections (N, out)."""
        return Projector(num_features, self.hidden, self.out, self.batch_norm, self.layers, self.norm_out, self.biases)
