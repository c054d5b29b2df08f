"""A classifier smoothed by noise: log p̄, votes and predictions by Monte Carlo, in bounded memory.

Writing F for the base classifier's logits and δ_1..δ_m for draws of the noise, log p̄ is
``log((1/m) Σ_i softmax(F(x + δ_i)))``: its negative log-likelihood is the objective of eq. 7 of the RUSH paper, and
it is a valid logit vector for cross-entropy and DLR losses. Votes are eq. 4.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rushkit.checked import check_model, check_pixels, checked_images, checked_logits, not_finite
from rushkit.errors import UsageError
from rushkit.models.modes import in_eval_mode
from rushkit.noises import Noise, is_data_dependent, is_deterministic, settled
from rushkit.system import generator

Rule = Literal["majority", "mean"]

# Noise is drawn for about this many images at a time, whatever the chunk, so that the chunk changes no draw.
_DRAW_BLOCK = 1024
# Draws of a block on a fixed panel where each image has noise of its own: whoever is in the batch, it must be the same.
_OWN_PANEL_DRAWS = 8
# Images in one forward pass without gradients where the caller sets no chunk.
_VOTE_CHUNK = {"cpu": 512, "cuda": 4096, "mps": 1024}


@dataclass(frozen=True)
class Tally:
    """What m noisy copies of each image said.

    Attributes:
        votes: (N, K) int64, how often each class had the largest logit.
        confidence: (N, K) float64, sum of the softmax over the draws.
        confidence_squared: (N, K) float64, sum of its squares, for variance bounds.
        samples: m.
    """

    votes: Tensor
    confidence: Tensor
    confidence_squared: Tensor
    samples: int

    def __repr__(self) -> str:
        images, classes = self.votes.shape
        return f"Tally({images} images, {classes} classes, {self.samples} draws each)"

    def predict(self, rule: Rule = "majority") -> Tensor:
        """(N,) int64 classes: the most votes, or the largest mean softmax; a tie goes to the lowest class."""
        if rule not in ("majority", "mean"):
            raise UsageError(f"unknown rule {rule!r}", "use majority or mean")
        score = self.votes.double() if rule == "majority" else self.confidence
        return first_argmax(score)


def first_argmax(score: Tensor) -> Tensor:
    """(N, K) -> (N,) index of the first largest entry; torch.argmax leaves open which one of equals it takes."""
    largest = score == score.amax(dim=1, keepdim=True)
    return largest.to(torch.uint8).cummax(dim=1).values.eq(0).sum(dim=1)


def log_mean_softmax(logits: Tensor) -> Tensor:
    """(m, N, K) logits of m draws -> (N, K) log p̄; in log space and full precision, where a mean softmax underflows."""
    return torch.logsumexp(torch.log_softmax(_full_precision(logits), dim=2), dim=0) - math.log(logits.shape[0])


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


class SmoothedClassifier(nn.Module):
    """``model`` seen through ``noise``.

    It starts in eval mode, whatever the model's: every pass then puts the model into eval mode, and each of its modules
    back as it was, so that what is said of an image does not depend on the images beside it. After ``train()``, which
    switches the model too, ``forward`` and ``sample_logits`` leave all modes as they are, for training through log p̄;
    votes are counted in eval mode even then. A model that is random on purpose draws in eval mode as well:
    ``F.dropout(h, training=True)``.

    The noise never depends on the mode, and every draw of it comes from a generator of this object, not from the
    global random state. Under autocast the model runs in low precision, log p̄ and the votes in float32 (in float64 if
    the model itself is). How images lie in memory changes nothing.

    Args:
        model: Base classifier, (N, C, H, W) images with pixels in [0, 1] -> (N, K) logits.
        noise: A smoothing distribution.
        samples: m, the draws an image.
        chunk: At most this many images in one pass of the model; values and gradients are those of an unbounded pass.
            With gradients, a pass of more than one chunk runs each chunk's forward twice. None: no bound with
            gradients, and a bound that suits the device without.
        seed: Of the stream of draws; None takes one from the operating system.

    Raises:
        UsageError: samples or chunk below 1, or a model that is no ``nn.Module``. From any call: images that are not
            floating-point (N, C, H, W), or not in [0, 1] (with gradients: not near it); a model that returns anything
            but (N, K) floating-point logits of two classes or more.
        NumericsError: from any call, when the model returns a logit that is not finite.
    """

    def __init__(
        self, model: nn.Module, noise: Noise, samples: int = 64, chunk: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        check_model(model)
        if samples < 1 or (chunk is not None and chunk < 1):
            raise UsageError(f"samples and chunk are at least 1 (got samples={samples}, chunk={chunk})")
        # Of this module alone: the model's own modes are its owner's.
        self.training = False
        self.model = model
        self.noise = noise
        self.samples = samples
        self.chunk = chunk
        self.image_forwards = 0
        self._seed = secrets.randbits(63) if seed is None else seed
        self._calls = 0
        self._panel: int | None = None

    @property
    def deterministic(self) -> bool:
        """Whether every draw of the noise is the same, so that one pass of the model stands for all of them."""
        return is_deterministic(self.noise)

    def __repr__(self) -> str:
        # The model prints itself where it is asked to; here its layers would hide the noise.
        model = type(self.model).__name__
        return f"SmoothedClassifier({model}, {self.noise!r}, samples={self.samples}, chunk={self.chunk})"

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) log p̄, differentiable in x and in the model's parameters."""
        return log_mean_softmax(self.sample_logits(x))

    def sample_logits(self, x: Tensor, samples: int | None = None) -> Tensor:
        """(N, C, H, W) images -> (m, N, K) logits of every draw, differentiable."""
        m, x = samples or self.samples, checked_images(x)
        check_pixels(x, exactly=False)
        if self.deterministic and m > 1:
            return self.sample_logits(x, 1).expand(m, -1, -1)
        with_gradient = torch.is_grad_enabled()
        limit = self.chunk or (m * len(x) if with_gradient else _VOTE_CHUNK[x.device.type])
        recompute = with_gradient and limit < m * len(x)
        passes = (self._forward(noisy, recompute, self.training) for noisy in self._noisy(x, m, limit))
        logits = torch.cat(list(passes))
        self._check_finite(logits)
        return logits.reshape(m, len(x), -1)

    @torch.no_grad()
    def tally(self, x: Tensor, samples: int | None = None) -> Tally:
        """(N, C, H, W) images -> votes and confidences of ``samples`` draws (default: m), in memory of one chunk."""
        x = checked_images(x)
        check_pixels(x)
        m, n = samples or self.samples, len(x)
        if self.deterministic and m > 1:
            one = self.tally(x, 1)
            return Tally(one.votes * m, one.confidence * m, one.confidence_squared * m, m)
        limit = self.chunk or _VOTE_CHUNK[x.device.type]
        # An image's draws lie n apart in the folded stream: image = position mod n.
        position = 0
        votes = confidence = squared = torch.empty(0)
        finite = torch.ones((), dtype=torch.bool, device=x.device)
        for noisy in self._noisy(x, m, limit):
            logits = self._forward(noisy, recompute=False, training=False)
            finite &= torch.isfinite(logits).all()
            if position == 0:
                votes = torch.zeros(n, logits.shape[1], dtype=torch.int64, device=x.device)
                # MPS has no float64.
                kind = torch.float32 if x.device.type == "mps" else torch.float64
                confidence, squared = (torch.zeros_like(votes, dtype=kind) for _ in range(2))
            image = (torch.arange(len(logits), device=x.device) + position) % n
            position += len(logits)
            probability = torch.softmax(logits, dim=1).to(confidence.dtype)
            votes.index_put_((image, logits.argmax(dim=1)), votes.new_ones(()), accumulate=True)
            confidence.index_add_(0, image, probability)
            squared.index_add_(0, image, probability.square())
        if not finite:
            raise not_finite()
        return Tally(votes, confidence, squared, m)

    def votes(self, x: Tensor, samples: int | None = None) -> Tensor:
        """(N, C, H, W) images -> (N, K) int64 counts of the class with the largest logit (eq. 4)."""
        return self.tally(x, samples).votes

    def predict(self, x: Tensor, rule: Rule = "majority") -> Tensor:
        """(N, C, H, W) images -> (N,) int64 classes by majority vote or by mean softmax."""
        return self.tally(x).predict(rule)

    def with_samples(self, samples: int) -> SmoothedClassifier:
        """The same model and noise with another m; its stream of draws starts from the same seed."""
        other = SmoothedClassifier(self.model, self.noise, samples, self.chunk, self._seed)
        other.training = self.training
        return other

    @contextmanager
    def fixed_noise(self, seed: int) -> Iterator[None]:
        """Inside, every call uses one panel of draws, the same for every image and every call.

        The panel depends on the seed and the image shape alone, so images may leave the batch.
        """
        outside, self._panel = self._panel, seed
        try:
            yield
        finally:
            self._panel = outside

    @contextmanager
    def fresh_noise(self, seed: int) -> Iterator[None]:
        """Inside, every call draws anew, in a stream that starts from ``seed``: reproducible and fresh."""
        outside = self._seed, self._calls, self._panel
        self._seed, self._calls, self._panel = seed, 0, None
        try:
            yield
        finally:
            self._seed, self._calls, self._panel = outside

    def _forward(self, noisy: Tensor, recompute: bool, training: bool) -> Tensor:
        # A model may draw for itself, as dropout does: the second forward of a chunk must repeat its draws.
        if recompute:
            return _full_precision(checkpoint(self._pass, noisy, training, use_reentrant=False))
        return _full_precision(self._pass(noisy, training))

    def _pass(self, noisy: Tensor, training: bool) -> Tensor:
        """One pass of the model, with its modes as they are or in eval mode; also where a backward pass repeats it."""
        with nullcontext() if training else in_eval_mode(self.model):
            return self._count(noisy)

    def _count(self, noisy: Tensor) -> Tensor:
        self.image_forwards += len(noisy)
        return checked_logits(self.model(noisy), len(noisy))

    def _noisy(self, x: Tensor, samples: int, limit: int) -> Iterator[Tensor]:
        """x + δ_1, .., x + δ_m one after the other, (m * N, C, H, W), in pieces of at most ``limit`` images."""
        waiting: list[Tensor] = []
        held = 0
        for block in self._blocks(x, samples):
            waiting.append(block)
            held += len(block)
            while held >= limit:
                folded = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
                yield folded[:limit]
                waiting, held = ([folded[limit:]] if held > limit else []), held - limit
        if held:
            yield torch.cat(waiting) if len(waiting) > 1 else waiting[0]

    def _blocks(self, x: Tensor, samples: int) -> Iterator[Tensor]:
        """Noisy copies of x, several draws at a time, each block from a generator of its own."""
        n, fixed = len(x), self._panel is not None
        own = fixed and is_data_dependent(self.noise)
        # One image's worth of noise serves the whole batch on a fixed panel.
        shared = fixed and not own
        draws = _OWN_PANEL_DRAWS if own else _DRAW_BLOCK if shared else max(1, _DRAW_BLOCK // n)
        call = self._calls
        if self._panel is None:
            self._calls += 1
        for block, start in enumerate(range(0, samples, draws)):
            count = min(draws, samples - start)
            copies = x.unsqueeze(0).expand(count, *x.shape)
            like = copies[:, :1] if shared else copies
            if self._panel is None:
                source = generator(self._seed, "noise", call, block, device=x.device)
            else:
                source = generator(self._panel, "panel", block, device=x.device)
            if own:
                delta = self._own_panel(copies.detach(), source)
            else:
                delta = self.noise.sample(like.detach().reshape(-1, *x.shape[1:]), source)
            noisy = (copies + delta.reshape(like.shape)).reshape(-1, *x.shape[1:])
            yield settled(self.noise, noisy)

    def _own_panel(self, copies: Tensor, source: torch.Generator) -> Tensor:
        """(m, N, C, H, W) δ of a noise that depends on the image: each image's own, from the same draws."""
        start, parts = source.get_state(), []
        for image in range(copies.shape[1]):
            source.set_state(start)
            parts.append(self.noise.sample(copies[:, image], source))
        return torch.stack(parts, dim=1)

    @staticmethod
    def _check_finite(logits: Tensor) -> None:
        if not torch.isfinite(logits).all():
            raise not_finite()
