"""foolbox's minimal-norm attacks for rushkit.

These attacks look for the nearest image beyond the boundary of a model that always answers the same. A smoothed
classifier is therefore held still: the search sees it under one fixed panel of its noise, those that use gradients as
log p̄, the decision-based ones as the majority vote. The images are then judged by fresh noise, which moves the boundary
a little: an image that lies just beyond it is also tried further out, at the rim of the ball on the line from the clean
image, and images that fresh noise still finds right are searched again under another panel.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.checks import check_ball, check_eps, check_labels, checked_images
from rushkit.attacks.losses import margin
from rushkit.attacks.norms import length, settle
from rushkit.attacks.result import AttackResult
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.models.answers import Answer
from rushkit.smoothing import log_mean_softmax
from rushkit.votes import first_argmax

with warnings.catch_warnings():
    # foolbox 3.3.4 takes gaussian_filter, which no attack here uses, from a place that scipy 2 will not have.
    warnings.filterwarnings("ignore", message="Please import `gaussian_filter`", category=DeprecationWarning)
    import foolbox.attacks
    from foolbox.attacks.blended_noise import LinearSearchBlendedUniformNoiseAttack
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel

Kinds = Mapping[Norm, str]


def deepfool(
    norm: Norm,
    eps: float,
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
    panels: int = 3,
    samples: int | None = None,
    seed: int = 0,
) -> MinimalNorm:
    """DeepFool (Moosavi-Dezfooli et al. 2016): to the boundary of the linearised model, again and again.

    Args:
        norm: "linf" or "l2".
        eps: Radius of the ball, pixel units.
        steps: Linearisations.
        candidates: How many of the likeliest classes it considers.
        overshoot: How far beyond the boundary it steps, as a part of the step.
        panels: Panels of noise it searches under, for images that survive the ones before; 1 for a plain model.
        samples: Draws a panel; None: the model's own m.
        seed: Of every draw.
    """
    kinds: Kinds = {"linf": "LinfDeepFoolAttack", "l2": "L2DeepFoolAttack"}
    options = {"steps": steps, "candidates": candidates, "overshoot": overshoot}
    return MinimalNorm("foolbox-deepfool", kinds, norm, eps, panels, samples, seed, options)


def ddn(
    norm: Norm,
    eps: float,
    steps: int = 100,
    init_epsilon: float = 1.0,
    gamma: float = 0.05,
    panels: int = 3,
    samples: int | None = None,
    seed: int = 0,
) -> MinimalNorm:
    """Decoupled direction and norm (Rony et al. 2019).

    Args:
        norm: "l2".
        eps: Radius of the ball, pixel units.
        steps: Gradient steps.
        init_epsilon: Length of the first perturbation, pixel units.
        gamma: By which part the length grows or shrinks at each step.
        panels: As for ``deepfool``.
        samples: As for ``deepfool``.
        seed: Of every draw.
    """
    options = {"steps": steps, "init_epsilon": init_epsilon, "gamma": gamma}
    kinds: Kinds = {"l2": "DDNAttack"}
    return MinimalNorm("foolbox-ddn", kinds, norm, eps, panels, samples, seed, options)


def fmn(
    norm: Norm,
    eps: float,
    steps: int = 100,
    max_stepsize: float = 1.0,
    gamma: float = 0.05,
    panels: int = 3,
    samples: int | None = None,
    seed: int = 0,
) -> MinimalNorm:
    """Fast minimum norm (Pintor et al. 2021).

    Not in l2: there foolbox 3.3.4 divides the length by itself instead of projecting; ``foolbox-ddn`` is for l2.

    Args:
        norm: "linf" or "l1".
        eps: Radius of the ball, pixel units.
        steps: Gradient steps.
        max_stepsize: Length of the first step, pixel units.
        gamma: By which part the length grows or shrinks at first.
        panels: As for ``deepfool``.
        samples: As for ``deepfool``.
        seed: Of every draw.
    """
    options = {"steps": steps, "max_stepsize": max_stepsize, "gamma": gamma}
    kinds: Kinds = {"linf": "LInfFMNAttack", "l1": "L1FMNAttack"}
    return MinimalNorm("foolbox-fmn", kinds, norm, eps, panels, samples, seed, options)


def cw(
    norm: Norm,
    eps: float,
    steps: int = 10000,
    binary_search_steps: int = 9,
    stepsize: float = 0.01,
    initial_const: float = 0.001,
    confidence: float = 0.0,
    panels: int = 3,
    samples: int | None = None,
    seed: int = 0,
) -> MinimalNorm:
    """Carlini and Wagner's attack in l2 (2017).

    Args:
        norm: "l2".
        eps: Radius of the ball, pixel units.
        steps: Steps of Adam for each weight; it stops early where nothing improves.
        binary_search_steps: Weights that are tried.
        stepsize: Of Adam.
        initial_const: The first weight.
        confidence: Lead in log p̄ (logits of a plain model) that it asks for.
        panels: As for ``deepfool``.
        samples: As for ``deepfool``.
        seed: Of every draw.
    """
    options = {"steps": steps, "binary_search_steps": binary_search_steps, "stepsize": stepsize}
    options |= {"initial_const": initial_const, "confidence": confidence}
    kinds: Kinds = {"l2": "L2CarliniWagnerAttack"}
    return MinimalNorm("foolbox-cw", kinds, norm, eps, panels, samples, seed, options)


def ead(
    norm: Norm,
    eps: float,
    steps: int = 10000,
    binary_search_steps: int = 9,
    initial_stepsize: float = 0.01,
    initial_const: float = 0.001,
    regularization: float = 0.01,
    confidence: float = 0.0,
    panels: int = 3,
    samples: int | None = None,
    seed: int = 0,
) -> MinimalNorm:
    """Elastic-net attack (Chen et al. 2018), which keeps what is shortest in l1.

    Args:
        norm: "l1".
        eps: Radius of the ball, pixel units.
        steps: Steps for each weight; it stops early where nothing improves.
        binary_search_steps: Weights that are tried.
        initial_stepsize: Of the gradient steps.
        initial_const: The first weight.
        regularization: What a step below it is set to zero for.
        confidence: As for ``cw``.
        panels: As for ``deepfool``.
        samples: As for ``deepfool``.
        seed: Of every draw.
    """
    options = {"steps": steps, "binary_search_steps": binary_search_steps, "initial_stepsize": initial_stepsize}
    options |= {"initial_const": initial_const, "regularization": regularization, "confidence": confidence}
    kinds: Kinds = {"l1": "EADAttack"}
    return MinimalNorm("foolbox-ead", kinds, norm, eps, panels, samples, seed, options | {"decision_rule": "L1"})


def boundary(
    norm: Norm,
    eps: float,
    steps: int = 25000,
    spherical_step: float = 0.01,
    source_step: float = 0.01,
    panels: int = 3,
    samples: int | None = None,
    seed: int = 0,
) -> MinimalNorm:
    """Boundary attack (Brendel et al. 2018): a random walk along the boundary, from decisions alone.

    Args:
        norm: "l2".
        eps: Radius of the ball, pixel units.
        steps: Steps of the walk, one decision each.
        spherical_step: First step along the sphere around the clean image, as a part of its radius.
        source_step: First step towards the clean image, likewise.
        panels: As for ``deepfool``.
        samples: As for ``deepfool``.
        seed: Of every draw.
    """
    options = {"steps": steps, "spherical_step": spherical_step, "source_step": source_step}
    kinds: Kinds = {"l2": "BoundaryAttack"}
    return MinimalNorm("foolbox-boundary", kinds, norm, eps, panels, samples, seed, options, decides=True)


def hopskipjump(
    norm: Norm,
    eps: float,
    steps: int = 64,
    initial_gradient_eval_steps: int = 100,
    max_gradient_eval_steps: int = 10000,
    panels: int = 3,
    samples: int | None = None,
    seed: int = 0,
) -> MinimalNorm:
    """HopSkipJump (Chen et al. 2020): gradient estimates at the boundary, from decisions alone.

    Args:
        norm: "linf" or "l2".
        eps: Radius of the ball, pixel units.
        steps: Gradient estimates.
        initial_gradient_eval_steps: Decisions of the first; the k-th takes sqrt(k) times as many.
        max_gradient_eval_steps: Decisions of one at the most.
        panels: As for ``deepfool``.
        samples: As for ``deepfool``.
        seed: Of every draw.
    """
    options: dict[str, Any] = {"steps": steps, "initial_gradient_eval_steps": initial_gradient_eval_steps}
    options |= {"max_gradient_eval_steps": max_gradient_eval_steps, "constraint": norm}
    kinds: Kinds = {"linf": "HopSkipJumpAttack", "l2": "HopSkipJumpAttack"}
    return MinimalNorm("foolbox-hopskipjump", kinds, norm, eps, panels, samples, seed, options, decides=True)


class MinimalNorm:
    """One attack of foolbox under rushkit's interface; the functions of this module make them.

    Args:
        name: Its registered name.
        kinds: The name of foolbox's class for each norm.
        norm: The ball's norm.
        eps: Its radius, pixel units.
        panels: Panels of noise it searches under.
        samples: Draws a panel; None: the model's own m.
        seed: Of every draw.
        options: What foolbox's class is made with.
        decides: Whether it sees decisions alone.

    Raises:
        UsageError: a norm that the attack lacks, or a number out of range.
    """

    def __init__(
        self,
        name: str,
        kinds: Kinds,
        norm: Norm,
        eps: float,
        panels: int,
        samples: int | None,
        seed: int,
        options: dict[str, Any],
        decides: bool = False,
    ) -> None:
        check_ball(name, norm, eps, tuple(kinds))
        counts = {"panels": panels} | {key: value for key, value in options.items() if key.endswith("steps")}
        for key, value in counts.items():
            if value < 1:
                raise UsageError(f"{name}: {key} must be at least 1 (got {value})")
        self.name, self.norm, self.eps = name, norm, eps
        self.panels, self.samples, self.seed, self.decides = panels, samples, seed, decides
        # What the model must answer with at least.
        self.asks: Answer = "labels" if decides else "logits"
        self._kind, self._options = getattr(foolbox.attacks, kinds[norm]), options

    def __repr__(self) -> str:
        return f"{self.name}(norm={self.norm!r}, eps={self.eps:g})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1] and (N,) labels; the model is left as it was.

        Of each image the best is returned of: the clean one; what foolbox found, projected where it lies outside the
        ball; and, where fresh draws do not clearly misjudge that, the point of the ball's rim on the line to it. They
        are compared on a panel that the search did not see.

        Raises:
            UsageError: images or labels that do not fit, no gradient, or a model that is random in itself.
            NumericsError: NaN or infinite logits.
            PluginError: foolbox fails.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        with under_attack(model, x, self.seed, self.samples) as victim:
            check_labels(y, victim.num_classes)
            if victim.random and not victim.has_panels:
                raise UsageError(
                    f"{self.name} needs a model that can be held still, and this one answers differently each time",
                    "use pgd, apgd or square, or let rushkit.SmoothedClassifier bring the noise",
                )
            x_adv, left = x.clone(), torch.arange(len(x), device=x.device)
            for panel in range(self.panels if victim.random else 1):
                found = self._search(victim, x[left], y[left], panel)
                for place in (self._inside, self._at_rim):
                    tried = place(x[left], found)
                    better = self._rank(victim, tried, y[left]) >= self._rank(victim, x_adv[left], y[left])
                    x_adv[left[better]] = tried[better]
                    seed = derive(self.seed, f"vote {place.__name__}", panel)
                    unclear = ~victim.judge(x_adv[left], y[left], draw=seed).clear
                    left, found = left[unclear], found[unclear]
                    if not len(left):
                        return _result(victim, x_adv, y, self.seed)
            return _result(victim, x_adv, y, self.seed)

    def _rank(self, victim: Victim, x: Tensor, y: Tensor) -> Tensor:
        return victim.rank(victim.logits(x, draw=derive(self.seed, "selection")), y)

    def _inside(self, x: Tensor, found: Tensor) -> Tensor:
        return settle(x, found, self.norm, self.eps)

    def _at_rim(self, x: Tensor, found: Tensor) -> Tensor:
        delta = found - x
        scale = self.eps / length(delta, self.norm).clamp(min=1e-12)
        return settle(x, x + delta * scale.view(-1, 1, 1, 1), self.norm, self.eps)

    def _search(self, victim: Victim, x: Tensor, y: Tensor, panel: int) -> Tensor:
        """What foolbox finds under one panel, at any distance; images that the panel errs on come back as they are."""
        seen = _Still(victim, self.decides, derive(self.seed, "panel", panel)).eval()
        with _quiet(), torch.enable_grad():
            try:
                target = PyTorchModel(seen, bounds=(0, 1), device=x.device)
                # Its float64 is a mixture of both.
                images = x.float()
                classes = seen(images).argmax(dim=1)
                rows = (classes == y).nonzero().squeeze(1)
                options = {}
                if self.decides and len(rows):
                    rows, options["starting_points"] = _starts(target, images, y, classes, rows)
                found = x.clone()
                if len(rows):
                    criterion = Misclassification(y[rows])
                    moved = self._kind(**self._options).run(target, images[rows], criterion, **options)
                    # A pixel that became NaN stays as it was: it must not count as found.
                    found[rows] = torch.where(torch.isfinite(moved), moved, images[rows]).detach().to(x.dtype)
                return found
            except (RushkitError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise PluginError(
                    f"foolbox failed in {self.name}: {type(error).__name__}: {error}",
                    f"it may not fit {victim.num_classes} classes or images of {x.shape[2]}x{x.shape[3]}",
                ) from error


class _Still(nn.Module):
    """What foolbox sees: (N, K) logits, log p̄ under a panel, or 1 for the class that is decided and 0 elsewhere."""

    def __init__(self, victim: Victim, decides: bool, panel: int) -> None:
        super().__init__()
        self._victim, self._decides, self._panel = victim, decides, panel

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K); differentiable unless it decides."""
        if self._decides:
            votes = nn.functional.one_hot(
                self._victim.logits(x, draw=self._panel, samples=self._victim.samples).argmax(dim=2),
                self._victim.num_classes,
            ).sum(dim=0)
            return nn.functional.one_hot(first_argmax(votes), self._victim.num_classes).to(x.dtype)
        logits = self._victim.differentiable(x, draw=self._panel)
        return log_mean_softmax(logits) if self._victim.random else logits[0]


def _result(victim: Victim, x_adv: Tensor, y: Tensor, seed: int) -> AttackResult:
    verdict = victim.judge(x_adv, y, draw=derive(seed, "verdict"))
    return AttackResult(
        x_adv=x_adv,
        success=verdict.wrong,
        loss=margin(verdict.logits, y),
        loss_curve=torch.empty(0, dtype=torch.float64),
        image_forwards=victim.image_forwards,
        image_backwards=victim.image_backwards,
    )


def _starts(target: Any, x: Tensor, y: Tensor, classes: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that a decision-based attack can start from, and the misclassified image that each starts at.

    It is the nearest of the batch that the model takes for another class, else uniform noise blended in. Where neither
    is found the image is not attacked, though foolbox alone would give up the whole batch.
    """
    flat = x.flatten(1)
    distance = torch.cdist(flat[rows], flat).masked_fill(classes[None, :] == y[rows, None], torch.inf)
    nearest = distance.min(dim=1)
    starts = x[nearest.indices].clone()
    alone = (nearest.values == torch.inf).nonzero().squeeze(1)
    if len(alone):
        criterion = Misclassification(y[rows[alone]])
        search = LinearSearchBlendedUniformNoiseAttack(steps=50)
        with warnings.catch_warnings():
            # It warns of the images that stay without a start; they are told apart below.
            warnings.simplefilter("ignore", UserWarning)
            starts[alone] = search.run(target, x[rows[alone]], criterion)
    usable = target(starts).argmax(dim=1) != y[rows]
    return rows[usable], starts[usable]


@contextmanager
def _quiet() -> Iterator[None]:
    """foolbox speaks through ``logging.info``, which gives a root logger without handlers one on stderr, for good."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        yield
    finally:
        root.removeHandler(silent)
