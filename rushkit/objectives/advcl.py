"""AdvCL (Fan et al. 2021): an attacked view beside three clean ones, and an attack on pseudo-labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from rushkit.attacks.ascend import ascend, attacking
from rushkit.errors import UsageError
from rushkit.models.branches import twin
from rushkit.models.network import Network
from rushkit.objectives.attacked import Attacked
from rushkit.objectives.gather import gather_over_ranks
from rushkit.objectives.nt_xent import check_temperature, nt_xent_views
from rushkit.objectives.projector import Projected, Projector
from rushkit.objectives.supervised import full_precision
from rushkit.views.crop_flip import CropFlip
from rushkit.views.high_pass import high_pass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from rushkit.objectives import Batch

# The pseudo-label of an image that has none.
UNLABELLED = -1


@dataclass(frozen=True, kw_only=True)
class AdvCL(Attacked, Projected):
    """scale · C_4(h_a(x̂_a), h_c(t1), h_c(t2), h_c(u)) + label_weight · mean_j CE(ℓ_j(f_b(x̂_b)), y_j) (Fan et al. 2021).

    o is a mild view of the image, u its high frequencies, t1 and t2 are the stage's own views. C_4 is the contrastive
    loss over four views, x̂_a the image of the ball around o that maximises it, x̂_b one that maximises the second term,
    on the pseudo-labels y_j: two attacks that know nothing of one another. The network itself is branch a; the clean
    branch c and the branch b of the labels have the same weights, and BatchNorm layers of their own in the encoder;
    the projector, which b does without, has the same for a and c. Each view is normalised in a pass of its own. The
    options of the attack are those of ``Attacked``, those of the projector those of ``Projected``.

    Args:
        temperature: Divides the cosine similarities.
        scale: Weight of the contrastive term: temperature / 0.07 in the authors' code, 1 in their formula.
        label_weight: Weight of the cross-entropy on pseudo-labels, which the authors' code has at 0.2.
        radius: Frequencies nearer to the origin than this are taken out of u, in cycles per image.
        padding: Pixels of zeros around the image, of which o is a crop.
        flip: Probability that o is mirrored.

    Raises:
        UsageError: an option outside its range, and as ``Attacked`` and ``Projected``.
    """

    steps: int = 5
    temperature: float = 0.5
    scale: float = 7.142857
    label_weight: float = 0.2
    radius: float = 8.0
    padding: int = 4
    flip: float = 0.5
    hidden: int = 512
    batch_norm: bool = True

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not self.scale > 0:
            raise UsageError(f"scale must be above 0 (got {self.scale!r})", "the paper's formula has 1")
        for name in ("label_weight", "radius"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must be at least 0 (got {getattr(self, name)!r})")
        CropFlip(self.padding, self.flip)
        Attacked.__post_init__(self)
        Projected.__post_init__(self)

    @property
    def learns_labels(self) -> bool:
        """Whether its loss takes the labels of a clustering."""
        return True

    @property
    def kept_passes(self) -> int:
        """The passes of the batch that the loss keeps: the two attacked images, two views and the high frequencies."""
        return 5

    def head(self, num_features: int, classes: Sequence[int]) -> nn.Module:
        """Return a projector from features (N, num_features) to projections (N, out)."""
        rest = self.hidden, self.out, self.batch_norm, self.layers, self.norm_out, self.biases
        return _Projector(tuple(classes), num_features, *rest)

    def attach(self, network: Network, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return the clean branch, and that of the labels with a linear head for each column of them."""
        return _Branches(network)

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the loss of the attacked images and the clean views; the negatives are those of all ranks."""
        assert isinstance(memory, _Branches)
        labels = _pseudo_labels(batch)
        first, second = batch.view(), batch.view()
        mild = batch.view(CropFlip(self.padding, self.flip)).to(first.dtype)
        others = (first, second, high_pass(mild, self.radius))
        apart = self._apart(network, memory.clean, mild, others, batch)
        mistaken = ascend(memory.labels, lambda z: memory.cross_entropy(z, labels).sum(), mild, self.ball(), batch)
        contrast = self._contrast([network(apart), *(memory.clean(view) for view in others)])
        confusion = _mean_of_labelled(memory.cross_entropy(mistaken, labels), labels, batch)
        batch.note(contrast=contrast, pseudo_labels=confusion)
        yield self.scale * contrast + self.label_weight * confusion

    def _apart(self, network: Network, clean: Network, mild: Tensor, others: Sequence[Tensor], batch: Batch) -> Tensor:
        """Return x̂_a (n, C, H, W): its projection climbs away from those of the clean views, which stand still."""
        ball = self.ball()
        if not ball.eps:
            return mild
        with attacking(clean, ball, mild.device), torch.no_grad():
            still = [clean(view) for view in others]
        return ascend(network, lambda z: self._contrast([network(z), *still]), mild, ball, batch)

    def _contrast(self, projections: Sequence[Tensor]) -> Tensor:
        return nt_xent_views(projections, self.temperature, "mean", gather_over_ranks())


class _Projector(Projector):
    """The projector, which knows how many classes each column of pseudo-labels has."""

    def __init__(self, classes: tuple[int, ...], num_features: int, *rest: Any) -> None:
        super().__init__(num_features, *rest)
        self.classes, self.num_features = classes, num_features


class _Branches(nn.Module):
    """What is beside the network: the clean branch, and the branch of the labels, which has heads for a projector."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        projector = network.head
        assert isinstance(projector, _Projector)
        self.classes = projector.classes
        self.clean = twin(network, share=("head",))
        # Linear heads side by side are one linear layer.
        self.labels = Network(twin(network).encoder, nn.Linear(projector.num_features, sum(self.classes)))

    def cross_entropy(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of images (n, C, H, W) for each column of labels (n, J), 0 where there is none."""
        logits = self.labels(x)
        with torch.autocast(logits.device.type, enabled=False):
            parts = full_precision(logits).split(self.classes, dim=1)
            return torch.stack(
                [
                    F.cross_entropy(part, column, ignore_index=UNLABELLED, reduction="none")
                    for part, column in zip(parts, labels.unbind(dim=1), strict=True)
                ],
                dim=1,
            )


def _pseudo_labels(batch: Batch) -> Tensor:
    """Return the batch's pseudo-labels (n, J)."""
    # A recipe that names none is refused before training starts.
    assert batch.labels is not None
    return batch.labels if batch.labels.dim() == 2 else batch.labels[:, None]


def _mean_of_labelled(values: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    """Return this rank's part of the mean over the columns of the means of values (n, J) of images with a label."""
    everywhere = batch.whole(labels)
    with_label = (everywhere != UNLABELLED).sum(dim=0).clamp(min=1).to(values.dtype)
    return batch.mean((values * (len(everywhere) / with_label)).mean(dim=1))
