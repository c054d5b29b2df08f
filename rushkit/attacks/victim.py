"""A model under attack: the logits of its draws and their input gradients, checked and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.attacks.guard import untouched
from rushkit.attacks.losses import Loss
from rushkit.attacks.margins import decisive, hopeless, margin, vote_margin
from rushkit.checked import check_model, checked_logits, not_finite
from rushkit.errors import NumericsError, UsageError
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator

# Draws of the vote that decides whether an image is misclassified.
VOTE_SAMPLES = 101
# Default draws for each gradient of a model that is itself random: official AutoAttack's EOT.
EOT_SAMPLES = 20
# Images in the two passes that detect a random model, and the smallest difference in logits that counts as random.
_PROBE_ROWS = 16
_PROBE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Verdict:
    """The outcome of a vote on N images.

    Attributes:
        wrong: (N,) bool, whether the label loses the vote (or the target wins it); a tie is no success.
        clear: (N,) bool, whether it is wrong by a lead that chance hardly explains, and so large that a vote of the
            model's own m draws is as good as lost. A model with m = 1 is never that clear.
        logits: (m, N, K) of the vote's first draws.
    """

    wrong: Tensor
    clear: Tensor
    logits: Tensor


class Victim:
    """A model as attacks query it; create one with ``under_attack``.

    A ``SmoothedClassifier`` is queried for m draws at a time. Any other model is first queried twice with the same
    images: if the answers differ, the model itself is random, and its draws are repeated passes.

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
        self._model = model
        self._smoothed = model if isinstance(model, SmoothedClassifier) else None
        self.has_panels = self._smoothed is not None
        self.image_forwards = 0
        self.image_backwards = 0
        if self._smoothed is not None:
            self.random = not self._smoothed.deterministic
            with torch.no_grad():
                self.num_classes = self._draw(x[:1], 1).shape[2]
            default = self.votes = self._smoothed.samples
        else:
            rows = x[:_PROBE_ROWS].repeat(math.ceil(_PROBE_ROWS / len(x[:_PROBE_ROWS])), 1, 1, 1)[:_PROBE_ROWS]
            with torch.no_grad():
                first, second = self._forward(rows), self._forward(rows)
            scale = first.abs().amax().clamp(min=1e-12)
            self.random = bool((first - second).abs().amax() > _PROBE_TOLERANCE * scale)
            self.num_classes = first.shape[1]
            default, self.votes = EOT_SAMPLES, VOTE_SAMPLES
        self.samples = (samples or default) if self.random else 1
        self.selection_samples = (selection_samples or max(self.samples, EOT_SAMPLES)) if self.random else 1

    def gradient(
        self, x: Tensor, y: Tensor, loss: Loss, target: Tensor | None = None, panel: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, its gradient and the logits at x over ``samples`` draws, fresh ones or those of a panel.

        Returns:
            (N,) losses; (N, C, H, W) gradients of each; (m, N, K) logits. All detached.

        Raises:
            UsageError: the model's output does not depend on its input differentiably.
            NumericsError: a logit or a gradient is not finite.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            with self._panel(panel):
                logits = self._draw(x, self.samples)
            if not logits.requires_grad:
                raise _no_gradient()
            values = loss(logits, y, target)
            (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        if gradient is None:
            raise _no_gradient()
        self.image_backwards += len(x) * self.samples
        if not torch.isfinite(gradient).all():
            raise NumericsError(
                "the gradient of the attack's loss is NaN or infinite",
                "look for sqrt, log or division at 0 in the model",
            )
        return values.detach(), gradient.detach(), logits.detach()

    def differentiable(self, x: Tensor) -> Tensor:
        """Return (m, N, K) logits of ``samples`` fresh draws, differentiable if gradients are on; count backwards."""
        if x.requires_grad and torch.is_grad_enabled():
            # Other libraries take views of the gradient, whose memory layout depends on the model.
            x = x.contiguous().view_as(x)
            x.register_hook(Tensor.contiguous)
        logits = self._draw(x, self.samples)
        if logits.requires_grad:

            def count(_: Tensor) -> None:
                self.image_backwards += len(x) * self.samples

            logits.register_hook(count)
        elif x.requires_grad and torch.is_grad_enabled():
            raise _no_gradient()
        return logits

    @torch.no_grad()
    def logits(self, x: Tensor, samples: int | None = None, panel: int | None = None) -> Tensor:
        """Return (m, N, K) logits of ``samples`` draws (default: ``selection_samples``), fresh or from a panel."""
        with self._panel(panel):
            return self._draw(x, (samples or self.selection_samples) if self.random else 1)

    def judge(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> Verdict:
        """Let fresh draws vote on the images x.

        A random model votes with ``selection_samples`` draws, and again with 101 if these do not decide.
        """
        logits = self.logits(x)
        lead = vote_margin(logits, y, target)
        wrong, clear = lead > 0, lead > self._clear(len(logits))
        unsure = (lead.abs() <= decisive(len(logits))).nonzero().squeeze(1)
        if self.random and len(unsure):
            again = vote_margin(
                self.logits(x[unsure], VOTE_SAMPLES), y[unsure], None if target is None else target[unsure]
            )
            wrong[unsure], clear[unsure] = again > 0, again > self._clear(VOTE_SAMPLES)
        return Verdict(wrong, clear, logits)

    def rank(self, logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """Return (N,) scores on a panel (m, N, K), larger for more effective images: votes, then mean softmax."""
        mean = torch.softmax(logits, dim=2).mean(dim=0)
        return self.panel_margin(logits, y, target) + 0.5 * margin(mean, y, target)

    def panel_margin(self, logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """Return (N,) by how many votes of a panel (m, N, K) the best other class leads the label.

        A random model with m = 1 is right as often as a draw gives the label, whichever class comes second, so its
        margin is minus the number of votes for the label.
        """
        if self.random and self.votes == 1 and target is None:
            return -(logits.argmax(dim=2) == y).sum(dim=0).to(logits.dtype)
        return vote_margin(logits, y, target)

    def _clear(self, draws: int) -> float:
        """Return the margin in ``draws`` votes from which an image needs no further attack."""
        return hopeless(draws, self.votes) if self.random else 0.0

    def _draw(self, x: Tensor, samples: int) -> Tensor:
        if self._smoothed is not None:
            before = self._smoothed.image_forwards
            logits = self._smoothed.sample_logits(x, samples)
            self.image_forwards += self._smoothed.image_forwards - before
            return logits
        # Each draw is a pass of its own, because the model may share its randomness across a batch.
        return torch.stack([self._forward(x) for _ in range(samples)])

    def _forward(self, x: Tensor) -> Tensor:
        self.image_forwards += len(x)
        logits = checked_logits(self._model(x), len(x))
        if not torch.isfinite(logits).all():
            raise not_finite()
        return logits if logits.dtype == torch.float64 else logits.float()

    @contextmanager
    def _panel(self, seed: int | None) -> Iterator[None]:
        fixed = seed is not None and self._smoothed is not None
        with self._smoothed.fixed_noise(seed) if fixed else nullcontext():  # type: ignore[union-attr, arg-type]
            yield


@contextmanager
def under_attack(
    model: nn.Module, x: Tensor, seed: int, samples: int | None = None, selection_samples: int | None = None
) -> Iterator[Victim]:
    """Yield the model as a Victim, frozen and in eval mode inside the block; restore it exactly afterwards.

    Args:
        model: A classifier of (N, C, H, W) images in [0, 1], smoothed or not.
        x: Images that it will be queried with.
        seed: Seeds every draw inside the block.
        samples: Draws for each gradient; None means the model's own m, or 20 for another random model.
        selection_samples: Draws of the selection panel; None means at least 20.
    """
    check_model(model)
    for name, value in (("samples", samples), ("selection_samples", selection_samples)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1 (got {value})")
    fresh = model.fresh_noise(derive(seed, "fresh")) if isinstance(model, SmoothedClassifier) else nullcontext()
    with torch.inference_mode(False), untouched(model, seed), fresh:
        yield Victim(model, x, samples, selection_samples)


def derive(seed: int, purpose: str, *counters: int) -> int:
    """Return a separate seed for one purpose of an attack."""
    source = generator(seed, f"attack {purpose}", *counters)
    return int(torch.randint(2**62, (), generator=source))


def _no_gradient() -> UsageError:
    return UsageError(
        "the model's output has no gradient with respect to its input", "use a black-box attack such as square"
    )
