"""A classifier smoothed by noise: log p̄, votes and predictions by Monte Carlo, in bounded memory.

Writing F for the base classifier's logits and δ_1..δ_m for draws of the noise, log p̄ is
``log((1/m) Σ_i softmax(F(x + δ_i)))``: its negative log-likelihood is the objective of eq. 7 of the RUSH paper, and
it is a valid logit vector for cross-entropy and DLR losses. Votes are eq. 4.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, product

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rushkit.checked import check_model, check_pixels, checked_images, checked_logits, not_finite
from rushkit.errors import UsageError
from rushkit.models.answers import Answer, answer_kind
from rushkit.models.draws import global_draws
from rushkit.models.modes import in_eval_mode
from rushkit.models.passes import MOST
from rushkit.models.precision import as_taken
from rushkit.models.repeats import Repeat, repeat
from rushkit.noises import Noise, is_data_dependent, is_deterministic, noisy_images, plus, settled
from rushkit.recipe.schema import Rule
from rushkit.streams import Draws, Stream
from rushkit.system import generator
from rushkit.units import UNIT, Piece, noisy_unit, packed, unit_sizes
from rushkit.votes import SCORE, Tally, VoteCounter

# Noise is drawn for about this many images at a time, whatever the chunk, so that the chunk changes no draw.
_DRAW_BLOCK = 1024
# Draws of a block on a fixed panel of a noise that depends on the image: the same number whatever the batch.
_PER_IMAGE_DRAWS = 8


def _pass(noisy: Tensor, model: nn.Module, training: bool, own: int | None) -> Tensor:
    """Run a model once, with its modes as they are or in eval mode; a backward pass may repeat it.

    ``own`` seeds the draws that the model makes from the global generators; None leaves these alone.
    """
    draws = nullcontext() if own is None else global_draws(own, "model", device=noisy.device)
    with draws, nullcontext() if training else in_eval_mode(model):
        return checked_logits(model(as_taken(model, noisy)), len(noisy))


def _go_on() -> None:
    """Do not stop."""


def log_mean_softmax(logits: Tensor) -> Tensor:
    """Return log p̄ of m draws, (m, N, K) logits -> (N, K), in log space: a mean of softmaxes would underflow."""
    return torch.logsumexp(torch.log_softmax(_full_precision(logits), dim=2), dim=0) - math.log(logits.shape[0])


def _full_precision(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


class SmoothedClassifier(nn.Module):
    """A classifier smoothed by noise: it classifies noisy copies of an image and combines the answers.

    It starts in eval mode, whatever the mode of the model: every pass then puts the model into eval mode and restores
    the mode of each of its modules, so that the answer for an image does not depend on the images beside it. After
    ``train()``, which switches the model too, ``forward`` and ``sample_logits`` leave all modes as they are, for
    training through log p̄; votes are counted in eval mode even then. A model that is random on purpose draws in eval
    mode as well: ``F.dropout(h, training=True)``; say so by ``own_draws``, or all m draws are one pass where there is
    no noise, and its draws cannot be repeated. ``own_randomness`` finds out.

    With ``own_draws`` every draw is a pass of its own over the N images, since a model may share its randomness across
    a batch. The pass finds the global generators of torch, numpy and Python seeded by the number of the draw, and
    leaves them as they were: panels repeat, streams are reproducible, and a gradient is that of the draws whose values
    it belongs to. What the model draws for an image depends on the place of the image in the pass; the parts of a draw
    of more than ``chunk`` images start from one seed. Draws from a generator that the model keeps to itself, or from
    the operating system, are beyond reach: they are fresh in every pass.

    The noise never depends on the mode, and every draw of it comes from a generator of this object, not from the
    global random state. Under autocast the model runs in low precision, log p̄ and the votes in float32 (in float64 if
    the model itself is); it is given images in the precision of its weights. How they lie in memory changes
    nothing.

    Args:
        model: Base classifier, (N, C, H, W) images with pixels in [0, 1] -> (N, K) logits.
        noise: A smoothing distribution.
        samples: m, the number of draws for each image.
        chunk: At most this many images in one pass of the model; values and gradients are those of an unbounded pass.
            With gradients, a pass of more than one chunk runs each chunk's forward twice. None: no bound with
            gradients, and a bound that suits the device without.
        seed: Seed of the stream of draws; None takes one from the operating system.
        search: The same classifier in a lower precision, from which attacks take their gradients; its votes never
            count. None: the model itself.
        own_draws: Whether the model itself is random.

    Attributes:
        image_forwards: Images that went forward through the model; a forward that a gradient repeats counts once.
        pause: Called before each pass of the model; it may raise to stop. See ``pausing``.
        classes: Names of the K classes; None where they are not known. ``rushkit.load`` sets them.
        image_shape: (C, H, W) of the images that the model was made for, others are refused; None: any.

    Example::

        g = SmoothedClassifier(model, noises.create("gaussian", std=0.25), samples=64, seed=0)
        g.predict(x)

    Raises:
        UsageError: samples or chunk below 1, or a model that is no ``nn.Module``. From any call: images that are not
            floating-point (N, C, H, W), or not in [0, 1] (with gradients: not near it); a model that returns anything
            but (N, K) floating-point logits of two classes or more.
        NumericsError: from any call, when the model returns a logit that is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        noise: Noise,
        samples: int = 64,
        chunk: int | None = None,
        seed: int | None = None,
        search: nn.Module | None = None,
        own_draws: bool = False,
    ) -> None:
        super().__init__()
        check_model(model)
        if samples < 1 or (chunk is not None and chunk < 1):
            raise UsageError(f"samples and chunk are at least 1 (got samples={samples}, chunk={chunk})")
        # Set on this module alone: the modes of the model belong to its owner.
        self.training = False
        self.model = model
        self.search = search
        self.noise = noise
        self.samples = samples
        self.chunk = chunk
        self.own_draws = own_draws
        self.classes: tuple[str, ...] | None = None
        self.image_shape: tuple[int, int, int] | None = None
        self.image_forwards = 0
        self.pause: Callable[[], None] = _go_on
        self._stream = Stream(secrets.randbits(63) if seed is None else seed)

    @property
    def deterministic(self) -> bool:
        """Whether every draw of noise and model is the same, so that one pass stands for all of them."""
        return not self.own_draws and is_deterministic(self.noise)

    @property
    def answer_kind(self) -> Answer:
        """What the model answers with."""
        return answer_kind(self.model)

    def __repr__(self) -> str:
        # Without the model's layers, which would hide the noise.
        model = type(self.model).__name__
        own = ", own_draws=True" if self.own_draws else ""
        return f"SmoothedClassifier({model}, {self.noise!r}, samples={self.samples}, chunk={self.chunk}{own})"

    def forward(self, x: Tensor) -> Tensor:
        """Return log p̄, differentiable in x and in the model's parameters: (N, C, H, W) -> (N, K)."""
        return log_mean_softmax(self.sample_logits(x))

    def sample_logits(self, x: Tensor, samples: int | None = None) -> Tensor:
        """Return the logits of every draw, differentiable: (N, C, H, W) -> (m, N, K)."""
        logits = self.unchecked_logits(x, samples)
        if not torch.isfinite(logits).all():
            raise not_finite()
        return logits

    def unchecked_logits(self, x: Tensor, samples: int | None = None, search: bool = False) -> Tensor:
        """Return what ``sample_logits`` returns, without an error where logits are NaN or infinite.

        With ``search`` the logits are those of the model that attacks search with.
        """
        model = self.search if search and self.search is not None else self.model
        m, x = self._draws(samples), checked_images(x, self.image_shape)
        check_pixels(x, exactly=False)
        if self.deterministic and m > 1:
            return self.unchecked_logits(x, 1, search).expand(m, -1, -1)
        with_gradient = torch.is_grad_enabled()
        limit = self.chunk or (m * len(x) if with_gradient else MOST[x.device.type])
        recompute = with_gradient and limit < m * len(x)
        passes = (
            self._forward(noisy, model, own, recompute=recompute, training=self.training)
            for noisy, own in self._noisy(x, m, limit)
        )
        return torch.cat(list(passes)).reshape(m, len(x), -1)

    @torch.no_grad()
    def tally(self, x: Tensor, samples: int | None = None) -> Tally:
        """Count votes and confidences of ``samples`` draws (default: m) for (N, C, H, W) images, chunk by chunk."""
        x = checked_images(x, self.image_shape)
        check_pixels(x)
        m, n = self._draws(samples), len(x)
        if self.deterministic and m > 1:
            one = self.tally(x, 1)
            return Tally(one.votes * m, one.confidence * m, one.confidence_squared * m, m)
        limit = self.chunk or MOST[x.device.type]
        passes = (self._forward(noisy, self.model, own) for noisy, own in self._noisy(x, m, limit))
        # The first pass determines K.
        first = next(passes)
        counter = VoteCounter(n, first.shape[1], x.device)
        position = 0
        for logits in chain([first], passes):
            # An image's draws lie n apart in the folded stream: image = position mod n.
            counter.add(logits, (torch.arange(len(logits), device=x.device) + position) % n)
            position += len(logits)
        if not counter.finite:
            raise not_finite()
        return Tally(counter.votes, counter.confidence, counter.confidence_squared, m)

    @torch.no_grad()
    def keyed_tally(
        self, x: Tensor, keys: Tensor, seed: int, purpose: str, samples: int | None = None, votes: int = 1
    ) -> Tally:
        """Count independent votes on draws that are seeded for each image by its key, as those of a certificate are.

        The draws of an image depend on seed, purpose and key alone: not on the images beside it, on earlier calls, on
        the chunk, or on ``fixed_noise`` and ``fresh_noise``. With ``own_draws`` each draw of each vote is a pass over
        all images, and what the model draws for an image in it depends on seed, purpose, vote, draw, and the place of
        the image in the pass.

        Args:
            x: (N, C, H, W) images in [0, 1].
            keys: (N,) int64, what identifies each image, such as its index in the data set's split.
            seed: Seed of the draws.
            purpose: What the draws are for; another purpose makes other draws.
            samples: Number of draws in each vote; None: m.
            votes: T, the number of votes.

        Returns:
            A tally with T rows for each image, where row i * T + t has the draws of vote t on image i. Confidences are
            rounded down to multiples of 1/SCORE, so that their sums are the same in any order.
        """
        x = checked_images(x, self.image_shape)
        check_pixels(x)
        m = self._draws(samples)
        if self.deterministic:
            one = self.tally(x, 1)
            sums = (one.votes, one.confidence, one.confidence_squared)
            votes_cast, confidence, squared = ((m * each).repeat_interleave(votes, dim=0) for each in sums)
            return Tally(votes_cast, confidence, squared, m)
        limit, counter = self.chunk or MOST[x.device.type], None
        pieces = self._own_units if self.own_draws else self._packed_units
        for noisy, row, own in pieces(x, keys, Draws(seed, purpose), m, votes, limit):
            logits = self._forward(noisy, self.model, own)
            # The first pass determines K.
            counter = counter or VoteCounter(len(x) * votes, logits.shape[1], x.device, whole=True)
            counter.add(logits, row)
        assert counter is not None
        if not counter.finite:
            raise not_finite()
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        return Tally(
            counter.votes, counter.confidence.to(wide) / SCORE, counter.confidence_squared.to(wide) / SCORE**2, m
        )

    def _packed_units(
        self, x: Tensor, keys: Tensor, draws: Draws, samples: int, votes: int, limit: int
    ) -> Iterator[tuple[Tensor, Tensor, None]]:
        """Yield full passes of noisy copies, and the row of the tally that each copy belongs to."""
        for noisy, row in packed(self._units(x, keys, draws, samples, votes), limit):
            yield noisy, row, None

    def _own_units(
        self, x: Tensor, keys: Tensor, draws: Draws, samples: int, votes: int, limit: int
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield a noisy copy of every image for each draw of each vote, the rows, and the seed of the model's draw."""
        image, noiseless = torch.arange(len(x), device=x.device), is_deterministic(self.noise)
        noisy = noisy_images(self.noise, x) if noiseless else x
        for vote, draw in product(range(votes), range(samples)):
            if not noiseless:
                unit = vote * samples + draw
                copies = [
                    noisy_unit(self.noise, one, 1, draws.seed, draws.purpose, key, unit)
                    for one, key in zip(x, keys.tolist(), strict=True)
                ]
                noisy = torch.cat(copies)
            own = draws.of_model(vote, draw)
            for some, rows in zip(noisy.split(limit), image.split(limit), strict=True):
                yield some, rows * votes + vote, own

    def _units(self, x: Tensor, keys: Tensor, draws: Draws, samples: int, votes: int) -> Iterator[Piece]:
        """Yield the noisy copies of each image, unit by unit, and the vote that each copy belongs to."""
        for image, key in enumerate(keys.tolist()):
            for unit, size in enumerate(unit_sizes(samples * votes)):
                vote = (torch.arange(size, device=x.device) + unit * UNIT) // samples
                noisy = noisy_unit(self.noise, x[image], size, draws.seed, draws.purpose, key, unit)
                yield image * votes + vote, noisy

    def votes(self, x: Tensor, samples: int | None = None) -> Tensor:
        """Count how often each class has the largest logit (eq. 4): (N, C, H, W) -> (N, K) int64."""
        return self.tally(x, samples).votes

    def predict(self, x: Tensor, rule: Rule = "majority") -> Tensor:
        """Classify by majority vote or by mean softmax: (N, C, H, W) -> (N,) int64."""
        return self.tally(x).predict(rule)

    def names_of(self, predicted: Tensor) -> list[str]:
        """Return the names of predicted classes (N,) int64; their numbers where the names are not known.

        >>> g.names_of(g.predict(x))
        """
        return [str(index) if self.classes is None else self.classes[index] for index in predicted.tolist()]

    def with_samples(self, samples: int) -> SmoothedClassifier:
        """Return the same classifier with another m; its stream of draws starts from the same seed."""
        return self._changed(samples, self.own_draws, self.noise)

    def with_noise(self, noise: Noise) -> SmoothedClassifier:
        """Return the same classifier under another noise; its stream of draws starts from the same seed."""
        return self._changed(self.samples, self.own_draws, noise)

    def with_own_draws(self) -> SmoothedClassifier:
        """Return the same classifier as one whose model is random by itself; its stream starts from the same seed."""
        return self._changed(self.samples, own_draws=True, noise=self.noise)

    def through(self, view: Callable[[nn.Module], nn.Module]) -> SmoothedClassifier:
        """Return the same classifier with its model, and the one that attacks search with, seen through a view."""
        other = self._changed(self.samples, self.own_draws, self.noise)
        other.classes, other.model = None, view(self.model)
        other.search = None if self.search is None else view(self.search)
        return other

    def _changed(self, samples: int, own_draws: bool, noise: Noise) -> SmoothedClassifier:
        other = SmoothedClassifier(self.model, noise, samples, self.chunk, self._stream.seed, self.search, own_draws)
        other.training, other.pause = self.training, self.pause
        other.classes, other.image_shape = self.classes, self.image_shape
        return other

    @torch.no_grad()
    def own_randomness(self, x: Tensor, seed: int = 0, classes: int = 0) -> Repeat:
        """Run the model twice on noisy copies of 16 images, the same ones, and return how its logits differ.

        Args:
            x: (N, C, H, W) images in [0, 1]; the first 16 of them are used, repeated if there are fewer.
            seed: Seeds the noise, and what the model draws from the global generators.
            classes: The number of classes of a model that has more outputs; see ``repeat``.
        """
        noisy = noisy_images(self.noise, checked_images(x), generator(seed, "own randomness", device=x.device))

        def logits(rows: Tensor) -> Tensor:
            return torch.cat([self._forward(part, self.model) for part in rows.split(self.chunk or len(rows))])

        with global_draws(seed, "own randomness", device=x.device):
            return repeat(logits, noisy, classes)

    @contextmanager
    def pausing(self, pause: Callable[[], None]) -> Iterator[None]:
        """Call ``pause`` before each pass of the model inside; it may raise to stop between two passes."""
        outside, self.pause = self.pause, pause
        try:
            yield
        finally:
            self.pause = outside

    @contextmanager
    def fixed_noise(self, seed: int, keys: Tensor | None = None) -> Iterator[None]:
        """Use one panel of draws inside, the same at every call: shared by all images, or one for each of them.

        A shared panel depends on the seed and the image shape alone, so images may leave the batch. An image's own
        panel depends on its key as well, and not on the images beside it.

        Args:
            seed: Seeds the panel. What a model with ``own_draws`` draws by itself depends on it alone.
            keys: (N,) int64, what identifies each of the N images of every call inside; None: a shared panel.
        """
        with self._drawing_from(replace(self._stream, panel=seed, keys=keys)):
            yield

    @contextmanager
    def fresh_noise(self, seed: int) -> Iterator[None]:
        """Draw anew at every call inside, in a stream that starts from ``seed``: reproducible and fresh."""
        with self._drawing_from(Stream(seed)):
            yield

    @contextmanager
    def _drawing_from(self, stream: Stream) -> Iterator[None]:
        outside, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = outside

    def _draws(self, samples: int | None) -> int:
        """Return the number of draws that a call asks for. Raises UsageError below 1."""
        if samples is None:
            return self.samples
        if samples < 1:
            raise UsageError(f"samples is at least 1 (got {samples})", "leave it out for the classifier's own number")
        return samples

    def _forward(
        self, noisy: Tensor, model: nn.Module, own: int | None = None, recompute: bool = False, training: bool = False
    ) -> Tensor:
        self.pause()
        self._count(noisy)
        # A model may draw for itself, as dropout does: the second forward of a chunk must repeat its draws.
        if recompute:
            return _full_precision(checkpoint(_pass, noisy, model, training, own, use_reentrant=False))
        return _full_precision(_pass(noisy, model, training, own))

    def _count(self, noisy: Tensor) -> None:
        self.image_forwards += len(noisy)

    def _noisy(self, x: Tensor, samples: int, limit: int) -> Iterator[tuple[Tensor, int | None]]:
        """Yield x + δ_1, .., x + δ_m one after the other, (m * N, C, H, W), in pieces of at most ``limit`` images.

        With ``own_draws`` no piece holds images of two draws, and each comes with the seed of the model's draw.
        """
        draws = self._stream.next_call()
        if self.own_draws:
            noisy = (copies for block in self._blocks(x, samples, limit, draws) for copies in block.split(len(x)))
            for draw, copies in enumerate(noisy):
                for piece in copies.split(limit):
                    yield piece, draws.of_model(draw)
            return
        waiting: list[Tensor] = []
        held = 0
        for block in self._blocks(x, samples, limit, draws):
            waiting.append(block)
            held += len(block)
            while held >= limit:
                folded = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
                yield folded[:limit], None
                waiting, held = ([folded[limit:]] if held > limit else []), held - limit
        if held:
            yield torch.cat(waiting) if len(waiting) > 1 else waiting[0], None

    def _blocks(self, x: Tensor, samples: int, limit: int, of_call: Draws) -> Iterator[Tensor]:
        """Yield noisy copies of x, several draws at a time, each block from a generator of its own."""
        if self._stream.keys is not None:
            yield from self._own_panels(x, self._stream.keys, samples, of_call.seed)
            return
        n, fixed = len(x), self._stream.panel is not None
        per_image = fixed and is_data_dependent(self.noise)
        # One image's worth of noise serves the whole batch on a fixed panel.
        shared = fixed and not per_image
        draws = _PER_IMAGE_DRAWS if per_image else _DRAW_BLOCK if shared else max(1, _DRAW_BLOCK // n)
        for block, start in enumerate(range(0, samples, draws)):
            count = min(draws, samples - start)
            copies = x.unsqueeze(0).expand(count, *x.shape)
            like = copies[:, :1] if shared else copies
            source = of_call.of_noise(block, x.device)
            if per_image:
                delta = self._per_image_panel(copies.detach(), source)
            else:
                delta = self.noise.sample(like.detach().reshape(-1, *x.shape[1:]), source).reshape(like.shape)
            # A panel serves any number of images, so its sums with them are not all made at once.
            at_once = max(1, limit // n) if shared else count
            for some, of_some in zip(copies.split(at_once), delta.split(at_once), strict=True):
                noisy = some + of_some if shared else plus(self.noise, some, of_some)
                yield settled(self.noise, noisy.reshape(-1, *x.shape[1:]))

    def _own_panels(self, x: Tensor, keys: Tensor, samples: int, seed: int) -> Iterator[Tensor]:
        """Yield noisy copies of x, several draws at a time, each image's from a panel of its own."""
        for unit, size in enumerate(unit_sizes(samples)):
            parts = []
            for image, key in zip(x, keys.tolist(), strict=True):
                copies = image.expand(size, *image.shape)
                source = generator(seed, "panel of an image", key, unit, device=x.device)
                delta = self.noise.sample(copies.detach(), source)
                parts.append(settled(self.noise, plus(self.noise, copies, delta)))
            yield torch.stack(parts, dim=1).flatten(0, 1)

    def _per_image_panel(self, copies: Tensor, source: torch.Generator) -> Tensor:
        """Draw δ (m, N, C, H, W) of a noise that depends on the image, each image's from the same random numbers."""
        start, parts = source.get_state(), []
        for image in range(copies.shape[1]):
            source.set_state(start)
            parts.append(self.noise.sample(copies[:, image], source))
        return torch.stack(parts, dim=1)
