"""Score the images of an artifact again: by one pass of a fixed model, or by fresh votes of a random one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks.scoring import count_right
from rushkit.claims.artifact import Artifact
from rushkit.claims.evidence import NamedModel
from rushkit.noises import Noise
from rushkit.setup.components import to_float
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine

# Passes of single images that fresh votes may take; two minutes of a ResNet-18 on two cores at 32 px.
PASSES = 16_000
# Fresh votes on each image, where so many passes suffice.
VOTES = 10
# A fixed model's answer may change by rounding where the margin is below this share of the largest logit.
CLOSE = 1e-3
_CHUNK = 64


@dataclass(frozen=True)
class Scores:
    """How a model answers images here.

    Attributes:
        right: (N,) right votes on each image.
        votes: How many votes there were on each.
        close: (N,) whether rounding may change the answer; all False for a random model.
        outputs: Columns of the model's output.
        rejected: Images whose answer is none of the classes, as the first vote has it; 0 for a random model.
    """

    right: list[int]
    votes: int
    close: list[bool]
    outputs: int
    rejected: int = 0


@dataclass(frozen=True)
class Judge:
    """The model as it votes here: in float32, on draws that nobody has seen before.

    Attributes:
        g: The model under its noise, with the m of the votes.
        machine: Its device.
        seed: Seed of the verifier's draws.
        classes: How many classes the data set has.
        image_forwards: Passes of single images.
    """

    g: SmoothedClassifier
    machine: Machine
    seed: int
    classes: int

    @classmethod
    def of(cls, artifact: Artifact, model: NamedModel, noise: Noise, machine: Machine, seed: int) -> Judge:
        """Return the judge of an artifact's images."""
        classifier, samples = model.classifier, artifact.manifest.attack.samples
        chunk = classifier.pass_size or None
        g = SmoothedClassifier(classifier.network, noise, samples, chunk, 0, None, classifier.random)
        return cls(g, machine, seed, len(artifact.manifest.data.classes))

    def votes_on(self, images: int) -> int:
        """Return how many fresh votes each of so many images gets."""
        return 1 if self.g.deterministic else max(1, min(VOTES, PASSES // max(1, images * self.g.samples)))

    def score(self, x: Tensor, labels: Tensor, indices: Tensor, purpose: str, votes: int = 0) -> Scores:
        """Score images.

        Args:
            x: (N, C, H, W) float32 in [0, 1], or uint8.
            labels: (N,).
            indices: (N,) that seed the draws.
            purpose: What the draws are for.
            votes: How many fresh votes each gets; 0: as many as ``votes_on``.

        Raises:
            NumericsError: a logit is NaN or infinite.
        """
        parts = [
            self._part(x[rows], labels[rows], indices[rows], votes or self.votes_on(len(x)), purpose)
            for rows in torch.arange(len(x)).split(_CHUNK)
        ]
        return Scores(
            right=[count for part in parts for count in part.right],
            votes=parts[0].votes,
            close=[close for part in parts for close in part.close],
            outputs=parts[0].outputs,
            rejected=sum(part.rejected for part in parts),
        )

    def _part(self, x: Tensor, labels: Tensor, indices: Tensor, votes: int, purpose: str) -> Scores:
        x = to_float(x) if x.dtype == torch.uint8 else x
        x, labels = x.to(self.machine.device), labels.to(self.machine.device)
        if not self.g.deterministic:
            right = count_right(self.g, x, labels, votes, self.seed, indices, f"verify {purpose}")["majority"]
            return Scores(right, votes, [False] * len(x), self._outputs(x))
        with torch.no_grad():
            logits = self.g.sample_logits(x, 1)[0].double().cpu()
        return _scores(logits, labels.cpu(), self.classes)

    def _outputs(self, x: Tensor) -> int:
        with torch.no_grad():
            return int(self.g.sample_logits(x[:1], 1).shape[2])


def _scores(logits: Tensor, labels: Tensor, classes: int) -> Scores:
    """Return the scores of logits (N, K) float64; an answer beyond the classes is a rejection, and wrong."""
    answer = logits.argmax(dim=1)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    close = (own - others).abs() < CLOSE * logits.abs().amax(dim=1)
    right: Sequence[int] = (answer == labels).long().tolist()
    return Scores(list(right), 1, close.tolist(), logits.shape[1], int((answer >= classes).sum()))
