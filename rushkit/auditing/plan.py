"""Plan the measurements of an audit, with the passes that each of them makes.

A pass is one image through the model once, forward or backward; each draw of noise counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rushkit.attacks import Norm, names
from rushkit.attacks.fab import OFFER_EVERY
from rushkit.attacks.losses import LossName, classes_needed
from rushkit.attacks.square import PANEL_QUERIES
from rushkit.attacks.victim import EOT_SAMPLES, VOTE_SAMPLES
from rushkit.auditing.planted import planting_passes
from rushkit.auditing.scoring import FINAL_VOTES, score_votes
from rushkit.errors import UsageError
from rushkit.recipe.radius import check_eps

# The losses that rival −log p̄.
_RIVALS: tuple[LossName, ...] = ("ce", "dlr", "margin")
# Classes that FAB walks towards, and classes that APGD-T climbs towards, the likeliest first.
FAB_TARGETS, CLIMBED_TARGETS = 3, 3
# Minimum-norm attacks of the plugin rushkit-foolbox; they take part where it is installed.
_PLUGINS: dict[str, str] = {"linf": "foolbox-fmn", "l2": "foolbox-ddn", "l1": "foolbox-fmn"}
# The radius at which every image can become grey, so that no classifier can be robust: half the box, by norm.
_HALF_BOX: dict[str, Callable[[int], float]] = {
    "linf": lambda dim: 0.5,
    "l2": lambda dim: 0.5 * math.sqrt(dim),
    "l1": lambda dim: 0.5 * dim,
}


@dataclass(frozen=True)
class Settings:
    """The ball and the budgets of an audit.

    Attributes:
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        steps: Gradient steps; the sweep covers a quarter of them to twice as many.
        eot: Draws of noise in a gradient; the sweep covers the same range.
        queries: Queries of Square.
        planted: Number of images with a planted example.
        seed: Seeds every draw.

    Raises:
        UsageError: the norm is unknown, eps is not a radius in pixel units, or a budget is not positive.
    """

    norm: Norm
    eps: float
    steps: int = 20
    eot: int = 10
    queries: int = 200
    planted: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise UsageError(f"an audit has no norm {self.norm!r}", f"it has: {', '.join(get_args(Norm))}")
        check_eps(self.norm, self.eps)
        if not self.eps > 0:
            raise UsageError(f"an audit needs a ball: eps must be above 0 (got {self.eps:g})", "such as --eps 8/255")
        for name in ("steps", "eot", "queries", "planted"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1 (got {getattr(self, name)})")

    @property
    def step_counts(self) -> tuple[int, ...]:
        """Gradient steps of each attack in the sweep of steps."""
        return _sweep(self.steps)

    @property
    def eot_counts(self) -> tuple[int, ...]:
        """Draws in a gradient of each attack in the sweep of draws."""
        return _sweep(self.eot)

    def large_eps(self, dim: int) -> float:
        """Return a radius at which every image can become grey."""
        return max(_HALF_BOX[self.norm](dim), self.eps)


# The place of a measurement in the results: a sweep, a rival of the base attack, or the attack on training images.
Place = Literal[
    "steps",
    "draws",
    "radii",
    "losses",
    "fixed",
    "single",
    "noise",
    "black_box",
    "step_rule",
    "targeted",
    "minimum_norm",
    "training",
]


@dataclass(frozen=True)
class Measurement:
    """One measurement. It is independent of the others, so any rank can make it.

    Attributes:
        label: Its name, which also seeds its draws.
        place: The place of its accuracy in ``Measured.points``; None if it measures something else.
        passes: The passes that it makes, or may make at most.
        value: The value of the setting that its sweep varies.
        kind: How it is made; a climb is PGD, "training" one on training images, "adaptive" one by the steps of APGD,
            and "plugin" an attack called ``label``.
        options: The options in which a climb differs from the base attack; of APGD's, ``rank`` counts the classes that
            it climbs towards, from the likeliest.
        base: Whether it is the base attack itself.
    """

    label: str
    place: Place | None
    passes: int
    value: float = 0.0
    kind: Literal["climb", "adaptive", "noise", "square", "fab", "plugin", "planted", "training"] = "climb"
    options: dict[str, Any] = field(default_factory=dict)
    base: bool = False

    @property
    def uses_gradients(self) -> bool:
        """Whether it needs the model's slopes."""
        return self.kind not in ("noise", "square")


@dataclass(frozen=True)
class Passes:
    """The passes that the parts of an audit make on N images.

    Args:
        images: N.
        m: Number of draws in a vote.
        deterministic: Whether every draw is the same, so that one stands for all of them.
    """

    images: int
    m: int
    deterministic: bool

    def draws(self, count: int) -> int:
        """Return how many passes of an image ``count`` draws are."""
        return 1 if self.deterministic else count

    def votes(self, count: int) -> int:
        """Return the passes of ``count`` votes on every image."""
        return self.images * self.draws(count * self.m)

    @property
    def score(self) -> int:
        """The passes of the votes that score one attack."""
        return self.votes(score_votes(self.m, self.deterministic))

    @property
    def final(self) -> int:
        """The passes of the final votes on one version of each image."""
        return self.votes(FINAL_VOTES)

    def gradients(self, steps: int, draws: int) -> int:
        """Return the passes of so many gradients, forwards and backwards, with so many draws each."""
        return self.images * 2 * steps * self.draws(draws)

    def searched(self, queries: int, draws: int, panels: int, votes: int = 1) -> int:
        """Return the most passes of an attack that makes so many queries of so many draws for every image.

        It asks for one image's classes first, compares versions on panels, and lets votes decide, which are repeated
        with more draws where they are close.
        """
        panel = max(draws, EOT_SAMPLES)
        again = 0 if self.deterministic else votes * VOTE_SAMPLES
        return 1 + self.images * (queries * self.draws(draws) + (panels + votes) * self.draws(panel) + again)


def plan(
    settings: Settings, m: int, classes: int, shape: Sequence[int], deterministic: bool = False, training: int = 0
) -> list[Measurement]:
    """Return all measurements on the correctly classified images, in the order of the results.

    Args:
        settings: Norm, eps and budgets.
        m: Number of draws in a vote.
        classes: K; a loss that needs more classes is left out.
        shape: (N, C, H, W) of the images.
        deterministic: Whether every draw is the same; what varies the draws is left out then.
        training: Number of training images at hand.
    """
    images, dim = shape[0], math.prod(shape[1:])
    eps, large = settings.eps, settings.large_eps(dim)
    passes = Passes(images, m, deterministic)

    def climb(label: str, place: Place, value: float = 0, **options: Any) -> Measurement:
        gradients = passes.gradients(options.get("steps", settings.steps), options.get("samples", settings.eot))
        # The attack asks for one image's classes first, and for one draw of every image last.
        cost = gradients + 1 + images + passes.score
        return Measurement(label, place, cost, value, "climb", options, base=options == {"steps": settings.steps})

    half = max(1, settings.steps // 2)
    planned = [climb(f"{steps} steps", "steps", steps, steps=steps) for steps in settings.step_counts]
    if not deterministic:
        planned += [climb(f"{eot} draws", "draws", eot, steps=half, samples=eot) for eot in settings.eot_counts]
    planned.append(climb("eps / 2", "radii", eps / 2, eps=eps / 2))
    if 2 * eps < large:
        planned.append(climb("2 eps", "radii", 2 * eps, eps=2 * eps))
    planned.append(climb("large eps", "radii", large, eps=large))
    planned += [climb(loss, "losses", loss=loss) for loss in _RIVALS if classes >= classes_needed(loss, False)]
    if not deterministic:
        planned.append(climb("fixed noise", "fixed", noise="fixed"))
    planned.append(climb("single step", "single", steps=1, step_size=eps or None, random_start=False))
    planned.append(Measurement("random noise", "noise", passes.score, kind="noise"))
    planned += _rivals(settings, passes, classes)
    cost = min(settings.planted, images) * planting_passes(settings.steps, settings.eot, deterministic)
    planned.append(Measurement("planted examples", None, cost, kind="planted"))
    if training and classes >= classes_needed("margin", False):
        on_training = Passes(training, m, deterministic)
        # Two scores: which of the images are right at all, and what the attack leaves of those.
        cost = on_training.gradients(settings.steps, settings.eot) + 1 + training + 2 * on_training.score
        planned.append(Measurement("training images", "training", cost, training, "training", {"loss": "margin"}))
    return planned


def _rivals(settings: Settings, passes: Passes, classes: int) -> list[Measurement]:
    """Return the attacks that differ from PGD in mechanism."""
    eot, steps = settings.eot, settings.step_counts[-1]
    queries, targets, images = settings.queries, min(FAB_TARGETS, classes - 1), passes.images
    random = not passes.deterministic
    adaptive = 1 + passes.gradients(steps, eot)
    # The likeliest classes come from a panel of draws.
    targeted = adaptive + images * passes.draws(max(eot, EOT_SAMPLES))
    # Versions are compared at the start, at every new panel of queries, and at the end.
    square = passes.searched(queries, eot, 1 + random * (1 + (queries - 1) // PANEL_QUERIES))
    # A step is a gradient, forwards and backwards, and a look at where it leads.
    offers = targets * (1 + random * (settings.steps // OFFER_EVERY))
    fab = passes.searched(3 * targets * settings.steps, eot, 2 + offers)
    planned = [
        Measurement(f"apgd, {steps} steps", "step_rule", adaptive + passes.score, steps, "adaptive", {"steps": steps}),
        *(
            Measurement(
                f"apgd-t, class {rank + 1}",
                "targeted",
                targeted + passes.score,
                steps,
                "adaptive",
                {"steps": steps, "rank": rank},
            )
            for rank in range(min(CLIMBED_TARGETS, classes - 1))
        ),
        Measurement("square", "black_box", square + passes.score, queries, "square"),
        Measurement("fab", "minimum_norm", fab + passes.score, settings.steps, "fab"),
    ]
    if plugin := plugin_rival(settings.norm):
        # Two places on the line to what it finds are compared and voted on.
        cost = passes.searched(2 * steps + 1, eot, 4, votes=3) + passes.score
        planned.append(Measurement(plugin, "minimum_norm", cost, steps, "plugin", {"steps": steps}))
    return planned


def plugin_rival(norm: Norm) -> str:
    """Return the name of the plugin's minimum-norm attack in this norm, or "" where it is not installed."""
    return _PLUGINS[norm] if _PLUGINS[norm] in names() else ""


def _sweep(middle: int) -> tuple[int, ...]:
    """Return a quarter, a half, the whole and twice a budget, each at least 1."""
    return tuple(sorted({max(1, middle // 4), max(1, middle // 2), middle, 2 * middle}))
