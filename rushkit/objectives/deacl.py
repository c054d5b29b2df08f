"""DeACL (Zhang et al. 2022): a student learns a frozen teacher's features, on clean images and on attacked ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import nn

from rushkit.attacks.ascend import ascend
from rushkit.errors import UsageError
from rushkit.models.modes import evaluated
from rushkit.objectives.attacked import Attacked
from rushkit.objectives.nt_xent import unit_rows
from rushkit.system import generator
from rushkit.views import CropFlip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from rushkit.models.network import Network
    from rushkit.objectives import Batch

# How far the features of two equal networks may lie apart, as a share of the largest: rounding.
_EQUAL = 1e-3


@dataclass(frozen=True, kw_only=True)
class DeACL(Attacked):
    """−cos(s(x), t(x)) − β·cos(s(x̂), s(x)), with the x̂ of the ball that minimises cos(s(x̂), t(x)) (Zhang et al. 2022).

    s(x) are the features of the student, the network that trains; t(x) are those of the teacher, which stays as it is,
    in eval mode. Both see the same weak view, without noise. There is no projector. The gradient goes through s(x) in
    both terms; x and x̂ share a pass, so that BatchNorm sees both. The options of the attack are those of ``Attacked``,
    with 5 steps.

    Args:
        beta: Weight of the attacked images.
        student_start: The weights that the student starts from: the "teacher"'s, or "random" ones.
        padding: Of the weak view: pixels of zeros on each side of an image, of which a crop of its own size is taken.
        flip: Of the weak view: probability of a horizontal flip.

    Raises:
        UsageError: a beta below 0, a weak view out of range, and as ``Attacked``; a clean start is refused, because a
            student that has learnt the teacher's features has no gradient there.
    """

    stage: ClassVar[Literal["pretrain"]] = "pretrain"

    steps: int = 5
    beta: float = 2.0
    student_start: Literal["teacher", "random"] = "teacher"
    padding: int = 4
    flip: float = 0.5

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise UsageError(f"beta must be at least 0 (got {self.beta!r})", "the paper's is 2")
        self._weak_views()
        super().__post_init__()

    @property
    def flat_at_start(self) -> bool:
        """Whether the attack has no gradient at the clean image: none where s(x) is t(x)."""
        return True

    def head(self, num_features: int, classes: Sequence[int]) -> nn.Module:
        """Return no head: the loss compares features."""
        return nn.Identity()

    def attach_teacher(self, network: Network, teacher: nn.Module, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return the memory, which is the teacher; the student gets its weights, unless it starts from random ones.

        Raises:
            UsageError: the teacher's features have another length, or the student cannot take its weights.
        """
        there, here = getattr(teacher, "num_features", None), getattr(network.encoder, "num_features", None)
        if there != here:
            raise UsageError(
                f"the teacher has {there} features and the student {here}: their cosine needs the same number",
                "choose the teacher's backbone with --set backbone.name=..., or another teacher",
            )
        if self.student_start == "teacher":
            _start_from(network.encoder, teacher, shape)
        return nn.ModuleDict({"teacher": teacher})

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean loss of a weak view of each image, and its attacked version."""
        x = batch.view(self._weak_views())
        target = evaluated(memory.get_submodule("teacher"), x)
        moved = ascend(network, lambda z: -cosines(network(z), target).sum(), x, self.ball(), batch)
        clean, attacked = network(torch.cat([x, moved])).chunk(2)
        learnt, stable = cosines(clean, target), cosines(attacked, clean)
        batch.note(cosine_to_teacher=batch.mean(learnt), cosine_under_attack=batch.mean(stable))
        yield batch.mean(-learnt - self.beta * stable)

    def _weak_views(self) -> CropFlip:
        return CropFlip(self.padding, self.flip)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of each pair of rows (N, D), shape (N,); in float32 or wider, also under autocast.

    It is 0, with a finite gradient, where a row is zero.
    """
    with torch.autocast(one.device.type, enabled=False):
        return (unit_rows(one) * unit_rows(other)).sum(dim=1)


def _start_from(student: nn.Module, teacher: nn.Module, shape: tuple[int, int, int, int]) -> None:
    """Give the student the teacher's weights. Raises UsageError unless it then computes the same features."""
    hint = "choose the teacher's [backbone], or --set pretrain.student_start=random"
    ours, theirs = student.state_dict(), teacher.state_dict()
    differing = [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UsageError(
            "the student starts from the teacher's weights, and its backbone is another one: they differ in "
            f"{', '.join(differing[:3])}{more}",
            hint,
        )
    student.load_state_dict(theirs)
    source = generator(0, "teacher and student")
    images = torch.rand(2, *shape[1:], generator=source).to(next(student.parameters()))
    wanted, given = evaluated(teacher, images), evaluated(student, images)
    if (given - wanted).abs().max() > _EQUAL * wanted.abs().max():
        raise UsageError(
            "the student starts from the teacher's weights, and computes other features with them: its backbone "
            "normalises its images, or acts, in another way",
            hint,
        )
