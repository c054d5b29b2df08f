"""Score the images of an artifact again: by one pass of a fixed model, or by fresh votes of a random one.

Where votes take many draws, each image gets one, or each of a sample, and more of them where it contradicts the claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rushkit.attacks.scoring import count_right
from rushkit.claims.artifact import Artifact
from rushkit.claims.evidence import NamedModel
from rushkit.noises import Noise
from rushkit.setup.components import to_float
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine, generator

# Passes of single images that fresh votes on attacked images may take, and on their originals: with the other checks
# two minutes of a ResNet-18 on two cores of 90 passes a second at 32 px, where they are 200 images with m = 64.
PASSES, CLEAN_PASSES = 12_800, 4_800
# Fresh votes on each image, where so many passes suffice.
VOTES = 10
# Of images whose fewer votes contradict the claim, as many get so many votes more as this share of the passes allows.
_AGAIN = 0.2
# Images that are voted on at least, however many draws a vote takes.
_FEWEST = 16
# Draws of one vote: with more of them even the fewest images take an hour.
MOST_SAMPLES = 10_000
# A fixed model's answer may change by rounding where the margin is below this share of the largest logit.
CLOSE = 1e-3
_CHUNK = 64


@dataclass(frozen=True)
class Scores:
    """How a model answers images here: all of an artifact's, or a sample of n.

    Attributes:
        places: (n,) the images' positions in the artifact, rising.
        right: (n,) right votes on each image.
        votes: How many votes there were on each.
        close: (n,) whether rounding may change the answer; all False for a random model.
        outputs: Columns of the model's output.
        rejected: Images whose answer is none of the classes, as the first vote has it; 0 for a random model.
        doubtful: On how many images too few votes contradict the claim.
        again: ``VOTES`` further votes on these, or on a sample of them; None: there are none.
    """

    places: list[int]
    right: list[int]
    votes: int
    close: list[bool]
    outputs: int
    rejected: int = 0
    doubtful: int = 0
    again: Scores | None = None


@dataclass(frozen=True)
class Judge:
    """The model as it votes here: in float32, on draws that nobody has seen before.

    Attributes:
        g: The model under its noise, with the m of the votes.
        machine: Its device.
        seed: Seed of the verifier's draws.
        classes: How many classes the data set has.
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

    def votes_on(self, images: int, passes: int) -> int:
        """Return how many fresh votes each of so many images gets."""
        return 1 if self.g.deterministic else max(1, min(VOTES, passes // max(1, images * self.g.samples)))

    def places(self, images: int, passes: int) -> Tensor:
        """Return the positions of the images that are voted on: all, or a sample that the author could not know.

        The smaller of two samples is part of the larger one.
        """
        if self.g.deterministic or images * self.g.samples <= passes:
            return torch.arange(images)
        order = torch.randperm(images, generator=generator(self.seed, "verify sample"))
        return order[: max(_FEWEST, passes // self.g.samples)].sort().values

    def compare(
        self, x: Tensor, labels: Tensor, indices: Tensor, purpose: str, passes: int, claimed: tuple[Tensor, int]
    ) -> Scores:
        """Score images whose outcomes are claimed, and vote again where few votes contradict the claim.

        Args:
            x: (N, C, H, W) float32 in [0, 1], or uint8.
            labels: (N,).
            indices: (N,) that seed the draws.
            purpose: What the draws are for.
            passes: Passes of single images that the first votes may take.
            claimed: (N,) right votes that are claimed, and of how many votes.

        Raises:
            NumericsError: a logit is NaN or infinite.
        """
        places = self.places(len(x), passes)
        scores = self.score(x, labels, indices, purpose, self.votes_on(len(places), passes), places)
        if self.g.deterministic or scores.votes >= VOTES:
            return scores
        right, votes = claimed
        said, here = 2 * right[places] > votes, 2 * torch.tensor(scores.right) > scores.votes
        doubtful = places[said != here]
        most = max(1, int(_AGAIN * passes / (VOTES * self.g.samples)))
        if not len(doubtful):
            return scores
        order = torch.randperm(len(doubtful), generator=generator(self.seed, f"verify {purpose} doubtful"))
        chosen = doubtful[order[:most]].sort().values
        again = self.score(x, labels, indices, f"{purpose} again", VOTES, chosen)
        return replace(scores, doubtful=len(doubtful), again=again)

    def score(
        self, x: Tensor, labels: Tensor, indices: Tensor, purpose: str, votes: int, places: Tensor | None = None
    ) -> Scores:
        """Score images by so many fresh votes each.

        Args:
            x: (N, C, H, W) float32 in [0, 1], or uint8.
            labels: (N,).
            indices: (N,) that seed the draws.
            purpose: What the draws are for.
            votes: How many fresh votes each gets; a fixed model gives one answer.
            places: Positions of the images to score; None: all.

        Raises:
            NumericsError: a logit is NaN or infinite.
        """
        places = torch.arange(len(x)) if places is None else places
        parts = [self._part(x, labels, indices, votes, purpose, rows) for rows in places.split(_CHUNK)]
        return Scores(
            places=places.tolist(),
            right=[count for part in parts for count in part.right],
            votes=parts[0].votes,
            close=[close for part in parts for close in part.close],
            outputs=parts[0].outputs,
            rejected=sum(part.rejected for part in parts),
        )

    def _part(self, x: Tensor, labels: Tensor, indices: Tensor, votes: int, purpose: str, places: Tensor) -> Scores:
        x, labels, indices = x[places], labels[places], indices[places]
        x = to_float(x) if x.dtype == torch.uint8 else x
        x, labels = x.to(self.machine.device), labels.to(self.machine.device)
        if not self.g.deterministic:
            right = count_right(self.g, x, labels, votes, self.seed, indices, f"verify {purpose}")["majority"]
            return Scores(places.tolist(), right, votes, [False] * len(x), self._outputs(x))
        with torch.no_grad():
            logits = self.g.sample_logits(x, 1)[0].double().cpu()
        return _scores(logits, labels.cpu(), self.classes, places)

    def _outputs(self, x: Tensor) -> int:
        with torch.no_grad():
            return int(self.g.sample_logits(x[:1], 1).shape[2])


def _scores(logits: Tensor, labels: Tensor, classes: int, places: Tensor) -> Scores:
    """Return the scores of logits (N, K) float64; an answer beyond the classes is a rejection, and wrong."""
    answer = logits.argmax(dim=1)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    close = (own - others).abs() < CLOSE * logits.abs().amax(dim=1)
    right: Sequence[int] = (answer == labels).long().tolist()
    return Scores(places.tolist(), list(right), 1, close.tolist(), logits.shape[1], int((answer >= classes).sum()))
