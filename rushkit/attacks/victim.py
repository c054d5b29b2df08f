"""A model under attack: the logits of its draws and their input gradients, checked and counted.

Every query names its draws by a seed. The draws of a smoothed classifier depend on that seed and on the shape of an
image alone and are shared by all images of a batch, so that an image gets the same draws in any batch, however often
the model was queried before, and whatever the chunk is. A gradient may instead be taken on draws of each image's own,
which depend on the image as well. What a model draws by itself for an image depends on the seed
and on the image's place in the pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.attacks.guard import untouched
from rushkit.attacks.losses import Loss
from rushkit.attacks.margins import decisive, hopeless, margin, vote_margin
from rushkit.checked import check_model, checked_logits, not_finite
from rushkit.errors import UsageError
from rushkit.models.answers import Answer, answer_kind
from rushkit.models.precision import as_taken
from rushkit.models.repeats import repeat
from rushkit.noises.none import NoNoise
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator

# Draws of the vote that decides whether an image is misclassified.
VOTE_SAMPLES = 101
# Default draws for each gradient of a model that is itself random: official AutoAttack's EOT.
EOT_SAMPLES = 20


@dataclass(frozen=True)
class Slope:
    """The loss of N images over m draws, and its gradient. All detached.

    Attributes:
        loss: (N,) the loss; 0 where it is not finite.
        gradient: (N, C, H, W) the gradient of each loss at its image; 0 where it is not usable.
        logits: (m, N, K).
        usable: (N,) bool, whether an image's logits, loss and gradient are finite.
    """

    loss: Tensor
    gradient: Tensor
    logits: Tensor
    usable: Tensor


@dataclass(frozen=True)
class Verdict:
    """The outcome of a vote on N images.

    Attributes:
        wrong: (N,) bool, whether the label loses the vote (or the target wins it); a tie is no success, and neither are
            logits that are NaN or infinite.
        clear: (N,) bool, whether it is wrong by a lead that chance hardly explains, and so large that a vote of the
            model's own m draws is as good as lost. A model with m = 1 is never that clear.
        finite: (N,) bool, whether all logits of the vote are finite.
        logits: (m, N, K) of the vote's first draws.
    """

    wrong: Tensor
    clear: Tensor
    finite: Tensor
    logits: Tensor


class Victim:
    """A model as attacks query it; create one with ``under_attack``.

    A ``SmoothedClassifier`` is queried for m draws at a time, on the panel that the query's seed ``draw`` determines:
    of noise, and of what the model draws by itself if it has ``own_draws``. Any other model is first queried twice with
    the same images: if the answers differ, the model itself is random. Its draws are repeated passes, which no seed
    repeats.

    No query fails because of images whose logits or gradients are NaN or infinite: they are marked, so that an image
    fares alike beside any others. An attack raises an error at its end if no image was of use to it.

    Attributes:
        random: Whether the model's output for an image varies.
        has_panels: Whether its draws can be fixed, as those of a smoothed classifier can.
        samples: Draws for each gradient: 1 for a deterministic model.
        selection_samples: Draws of the panel on which iterates are compared.
        votes: Draws of the votes by which the model predicts.
        num_classes: K.
        image_forwards: Images that went forward through the base model so far.
        image_backwards: Images that went backward through it so far.
    """

    def __init__(self, model: nn.Module, x: Tensor, samples: int | None, selection_samples: int | None) -> None:
        self._model, self._answers = model, answer_kind(model)
        self._smoothed = model if isinstance(model, SmoothedClassifier) else None
        self.has_panels = self._smoothed is not None
        self.image_forwards = 0
        self.image_backwards = 0
        if self._smoothed is not None:
            self.random = not self._smoothed.deterministic
            with torch.no_grad():
                self.num_classes = self._draw(x[:1], 1, draw=0).shape[2]
            default = self.votes = self._smoothed.samples
        else:
            with torch.no_grad():
                twice = repeat(self._forward, x)
            self.random, self.num_classes = twice.random, twice.num_classes
            default, self.votes = EOT_SAMPLES, VOTE_SAMPLES
        self.samples = (samples or default) if self.random else 1
        self.selection_samples = (selection_samples or max(self.samples, EOT_SAMPLES)) if self.random else 1

    def gradient(
        self,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        target: Tensor | None = None,
        *,
        draw: int,
        samples: int | None = None,
        keys: Tensor | None = None,
    ) -> Slope:
        """Return the loss over some draws, its gradient at x, and the logits.

        Images go through the model in groups whose draws fit into one chunk of it. If a smoothed
        classifier has a model of lower precision to search with, that model is queried.

        Args:
            x: (N, C, H, W) images.
            y: (N,) labels.
            loss: Maps logits (m, n, K), labels and targets to (n,) losses.
            target: (N,) classes for the loss.
            draw: Seeds the draws.
            samples: Number of draws of a random model; None: the ``samples`` of this victim.
            keys: (N,) int64, what identifies each image, if each has draws of its own; None: they share the draws.

        Raises:
            UsageError: the model's output does not depend on its input differentiably.
        """
        m = self._number(samples, self.samples)
        slopes = [
            self._slope(
                x[rows],
                y[rows],
                loss,
                None if target is None else target[rows],
                draw,
                m,
                None if keys is None else keys[rows],
            )
            for rows in self._groups(len(x), m)
        ]
        return Slope(
            torch.cat([part.loss for part in slopes]),
            torch.cat([part.gradient for part in slopes]),
            torch.cat([part.logits for part in slopes], dim=1),
            torch.cat([part.usable for part in slopes]),
        )

    def without_noise(self) -> Victim:
        """Return the network of a smoothed classifier without its noise; any other model has none to leave out.

        Its queries are counted apart until ``add_passes`` adds them.
        """
        if self._smoothed is None:
            return self
        bare = copy(self)
        bare._smoothed = bare._model = self._smoothed.with_noise(NoNoise())
        bare.image_forwards = bare.image_backwards = 0
        bare.random = not bare._smoothed.deterministic
        bare.samples = self.samples if bare.random else 1
        return bare

    def add_passes(self, other: Victim) -> None:
        """Count the queries of another view of this model as this one's."""
        if other is not self:
            self.image_forwards += other.image_forwards
            self.image_backwards += other.image_backwards

    def differentiable(self, x: Tensor, *, draw: int) -> Tensor:
        """Return (m, N, K) logits of ``samples`` draws, differentiable if gradients are on; count backwards.

        Raises:
            NumericsError: a logit is NaN or infinite.
        """
        if x.requires_grad and torch.is_grad_enabled():
            # Other libraries take views of the gradient, whose memory layout depends on the model.
            x = x.contiguous().view_as(x)
            x.register_hook(Tensor.contiguous)
        logits = self._draw(x, self.samples, draw)
        if not torch.isfinite(logits).all():
            raise not_finite()
        if logits.requires_grad:

            def count(_: Tensor) -> None:
                self.image_backwards += len(x) * self.samples

            logits.register_hook(count)
        elif x.requires_grad and torch.is_grad_enabled():
            raise _no_gradient(self._answers)
        return logits

    @torch.no_grad()
    def logits(self, x: Tensor, *, draw: int, samples: int | None = None) -> Tensor:
        """Return the logits of some draws, which may be NaN or infinite.

        Args:
            x: (N, C, H, W) images.
            draw: Seeds the draws.
            samples: m, the number of draws of a random model; None: ``selection_samples``.

        Returns:
            (m, N, K) logits.
        """
        return self._draw(x, self._number(samples, self.selection_samples), draw)

    def judge(self, x: Tensor, y: Tensor, target: Tensor | None = None, *, draw: int) -> Verdict:
        """Let draws vote on the images x; ``draw`` seeds them, and should seed nothing that chose the images.

        A random model votes with ``selection_samples`` draws, and again with 101 if these do not decide.
        """
        logits = self.logits(x, draw=derive(draw, "vote"))
        lead = vote_margin(logits, y, target)
        wrong, clear = lead > 0, lead > self._clear(len(logits))
        finite = is_finite(logits)
        unsure = (lead.abs() <= decisive(len(logits))).nonzero().squeeze(1)
        if self.random and len(unsure):
            more = self.logits(x[unsure], draw=derive(draw, "second vote"), samples=VOTE_SAMPLES)
            again = vote_margin(more, y[unsure], None if target is None else target[unsure])
            wrong[unsure], clear[unsure] = again > 0, again > self._clear(VOTE_SAMPLES)
            finite[unsure] &= is_finite(more)
        return Verdict(wrong & finite, clear & finite, finite, logits)

    def rank(self, logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """Return (N,) scores on a panel (m, N, K), larger for more effective images: votes, then mean softmax."""
        mean = torch.softmax(logits, dim=2).mean(dim=0)
        score = self.panel_margin(logits, y, target) + 0.5 * margin(mean, y, target)
        return torch.where(is_finite(logits), score, -torch.inf)

    def panel_margin(self, logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """Return (N,) by how many votes of a panel (m, N, K) the best other class leads the label.

        A random model with m = 1 is right as often as a draw gives the label, whichever class comes second, so its
        margin is minus the number of votes for the label. Logits that are NaN or infinite are no success: -inf.
        """
        if self.random and self.votes == 1 and target is None:
            lead = -(logits.argmax(dim=2) == y).sum(dim=0).to(logits.dtype)
        else:
            lead = vote_margin(logits, y, target)
        return torch.where(is_finite(logits), lead, -torch.inf)

    def _clear(self, draws: int) -> float:
        """Return the margin in ``draws`` votes from which an image needs no further attack."""
        return hopeless(draws, self.votes) if self.random else 0.0

    def _number(self, samples: int | None, default: int) -> int:
        """Return the number of draws of a query: 1 for a model that gives the same answer at every draw."""
        return (default if samples is None else samples) if self.random else 1

    def _groups(self, images: int, samples: int) -> Iterator[slice]:
        """Yield the rows of the images that go through the model together, with all of their draws."""
        chunk = None if self._smoothed is None else self._smoothed.chunk
        size = images if chunk is None else max(1, chunk // samples)
        for start in range(0, images, size):
            yield slice(start, min(start + size, images))

    def _slope(
        self, x: Tensor, y: Tensor, loss: Loss, target: Tensor | None, draw: int, samples: int, keys: Tensor | None
    ) -> Slope:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._draw(x, samples, draw, search=True, keys=keys)
            if not logits.requires_grad:
                raise _no_gradient(self._answers)
            values = loss(logits, y, target)
            (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        if gradient is None:
            raise _no_gradient(self._answers)
        self.image_backwards += len(x) * samples
        logits, values, gradient = logits.detach(), values.detach(), gradient.detach()
        known = torch.isfinite(values)
        usable = known & is_finite(logits) & torch.isfinite(gradient).flatten(1).all(dim=1)
        gradient = torch.where(usable.view(-1, 1, 1, 1), gradient, 0.0)
        return Slope(torch.where(known, values, 0.0), gradient, logits, usable)

    def _draw(self, x: Tensor, samples: int, draw: int, search: bool = False, keys: Tensor | None = None) -> Tensor:
        if self._smoothed is not None:
            before = self._smoothed.image_forwards
            with self._smoothed.fixed_noise(draw, keys):
                logits = self._smoothed.unchecked_logits(x, samples, search)
            self.image_forwards += self._smoothed.image_forwards - before
            return logits
        # Each draw is a pass of its own, because the model may share its randomness across a batch.
        return torch.stack([self._forward(x) for _ in range(samples)])

    def _forward(self, x: Tensor) -> Tensor:
        self.image_forwards += len(x)
        logits = checked_logits(self._model(as_taken(self._model, x)), len(x))
        return logits if logits.dtype == torch.float64 else logits.float()


def is_finite(logits: Tensor) -> Tensor:
    """Return for each image whether the logits of all its draws are finite: (m, N, K) -> (N,) bool."""
    return torch.isfinite(logits).all(dim=2).all(dim=0)


@contextmanager
def under_attack(
    model: nn.Module, x: Tensor, seed: int, samples: int | None = None, selection_samples: int | None = None
) -> Iterator[Victim]:
    """Yield the model as a Victim, frozen and in eval mode inside the block; restore it exactly afterwards.

    Args:
        model: A classifier of (N, C, H, W) images in [0, 1], smoothed or not.
        x: Images that it will be queried with.
        seed: Seeds the draws of a model that is random by itself.
        samples: Draws for each gradient; None means the model's own m, or 20 for another random model.
        selection_samples: Draws of the selection panel; None means at least 20.
    """
    check_model(model)
    for name, value in (("samples", samples), ("selection_samples", selection_samples)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1 (got {value})")
    with torch.inference_mode(False), untouched(model, seed):
        yield Victim(model, x, samples, selection_samples)


def derive(seed: int, purpose: str, *counters: int) -> int:
    """Return a separate seed for one purpose of an attack."""
    source = generator(seed, f"attack {purpose}", *counters)
    return int(torch.randint(2**62, (), generator=source))


def _no_gradient(answers: Answer) -> UsageError:
    if answers != "logits":
        own = "square or hopskipjump" if answers == "probabilities" else "hopskipjump"
        return UsageError(f"the model answers with {answers} alone, which have no gradient", f"use {own}")
    return UsageError(
        "the model's output has no gradient with respect to its input", "use a black-box attack such as square"
    )
