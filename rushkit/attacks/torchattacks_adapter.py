"""Run any attack of torchattacks by its lower-case name, without its side effects.

torchattacks switches the model to training mode, reseeds the global generators, decides from one noisy pass which
images to attack, and may return images outside the ball. The adapter restores the model and the random state, checks
and projects the images, queries a random model for log p̄ over many draws, and lets votes decide which images to attack
again.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import math
import warnings
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.checks import check_ball, check_eps, check_labels, checked_images
from rushkit.attacks.judged import judged
from rushkit.attacks.norms import length, settle
from rushkit.attacks.result import AttackNote, AttackResult, checked
from rushkit.attacks.torchattacks_kinds import KINDS, Kind
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.recipe.radius import ball_words, norm_words
from rushkit.smoothing import log_mean_softmax

# torchattacks skips an image that one unlucky draw misclassifies, so unchanged images are attacked again this often.
_TURNS = 3
# Official AutoAttack has 9 target classes; torchattacks derives that number from the number of classes.
_MOST_CLASSES = 10


# How far float32 rounding may move an image on the surface of the ball outside it.
_SLACK = 1e-5
# Options whose default is a whole number but which accept fractions.
_FRACTIONS = {"c", "kappa", "lam", "scale", "beta"}
# The share of an image that Square's first window covers, as in official AutoAttack.
_SQUARE_P_INIT = 0.8
# Arguments that the adapter itself supplies.
_SUPPLIED = {"model", "self", "norm", "eps", "max_epsilon", "seed", "n_classes", "verbose"}


def _square_fits(norm: Norm, height: int, width: int) -> bool:
    """Return whether the largest window of Square fits images of this size; in l-inf it always does."""
    window = max(round(math.sqrt(_SQUARE_P_INIT * height * width)), 3)
    return norm == "linf" or (min(height, width) >= 5 and window + (window % 2 == 0) <= min(height, width))


class Torchattacks:
    """The family ``torchattacks/*``: a class of settings for each attack, with the attack's own options as fields."""

    def member(self, name: str) -> type[Adapted]:
        """Return the settings class of an attack such as "fgsm". Raises UsageError for an unknown attack."""
        if name not in KINDS:
            raise UsageError(f"torchattacks has no attack {name!r}", f"there are: {', '.join(sorted(KINDS))}")
        return settings_class(name)

    def __call__(self, name: str, norm: Norm, eps: float, **options: Any) -> Adapted:
        """Create the attack called ``name``; its own options have torchattacks' names."""
        return self.member(name)(norm, eps, **options)


family = Torchattacks()


@cache
def settings_class(name: str) -> type[Adapted]:
    """Return a frozen dataclass whose fields are the attack's options, with torchattacks' names and defaults."""
    options = [
        (option.name, option.annotation, field(default=option.default, kw_only=True)) for option in _own_options(name)
    ]
    # dataclass looks up the annotations of the shared fields in this module.
    class_name = KINDS[name].class_name
    added = {"name": name, "__module__": __name__, "__doc__": f"The settings of torchattacks' {class_name}."}
    settings = make_dataclass(class_name, options, bases=(Adapted,), namespace=added, frozen=True, repr=False)
    return cast(type[Adapted], settings)


@dataclass(frozen=True, repr=False)
class Adapted:
    """One attack of torchattacks; ``settings_class`` adds its own options.

    Args:
        norm: The norm of the ball.
        eps: The radius of the ball, pixel units; attacks that minimise a distance are projected onto the ball.
        seed: Seeds every draw.
        samples: Draws for each pass of a random model; None: its own m.

    Raises:
        UsageError: a norm or radius that does not exist or fit.
    """

    name: ClassVar[str]

    norm: Norm
    eps: float
    seed: int = 0
    samples: int | None = None

    def __post_init__(self) -> None:
        check_ball(self.name, self.norm, self.eps, self._kind.norms)
        for option, least in self._kind.least.items():
            if (value := self.options[option]) < least:
                raise UsageError(f"{self.name}: {option} must be at least {least} (got {value})")

    def __repr__(self) -> str:
        return f"torchattacks {self.name}(norm={self.norm!r}, eps={self.eps:g})"

    @property
    def options(self) -> dict[str, Any]:
        """The attack's own options."""
        shared = {field.name for field in fields(Adapted)}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in shared}

    @property
    def _kind(self) -> Kind:
        return KINDS[self.name]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def check_fit(self, classes: int, height: int, width: int) -> None:
        """Raise UsageError if there are too few classes for the attack, or the images are too small."""
        needed = max(self._kind.classes, 3 if self.options.get("loss") == "dlr" else 2)
        if classes < needed:
            raise UsageError(
                f"{self.name} needs {needed} classes (the model has {classes})",
                "use pgd, or autoattack, which leaves out what needs more",
            )
        if self._kind.windows and not _square_fits(self.norm, height, width):
            raise UsageError(
                f"{self.name}: the windows of Square in {norm_words(self.norm)} do not fit {height}x{width} images",
                "use rushkit's own square or autoattack, whose windows adapt",
            )

    def _check_channels(self, channels: int) -> None:
        if self._kind.channels not in (0, channels):
            made_for = f"made for images of {self._kind.channels} channels"
            raise UsageError(
                f"torchattacks' {self.name} is {made_for} (these have {channels})",
                "use pgd or apgd, which take any",
            )

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1] and (N,) labels; the model is left as it was.

        Raises:
            UsageError: images or labels that do not fit, or no gradient.
            NumericsError: NaN or infinite logits.
            PluginError: torchattacks fails, such as on images that are too small for the attack.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        self._check_channels(x.shape[1])
        with under_attack(model, x, self.seed, self.samples) as victim:
            check_labels(y, victim.num_classes)
            self.check_fit(victim.num_classes, *x.shape[2:])
            facade = _Facade(victim, model, self.seed)
            x_adv = x.clone()
            turn = torch.arange(len(x), device=x.device)
            outside = False
            for number in range(_TURNS if victim.random else 1):
                attacked = self._attack(facade, x[turn], y[turn])
                outside |= bool((length(attacked - x[turn], self.norm) > self.eps + _SLACK).any())
                x_adv[turn] = settle(x[turn], attacked, self.norm, self.eps)
                untried = (x_adv[turn] == x[turn]).flatten(1).all(dim=1)
                turn = turn[untried]
                if self.eps == 0 or not victim.random or not len(turn):
                    break
                turn = turn[~victim.judge(x[turn], y[turn], draw=derive(self.seed, "turn", number)).wrong]
                if not len(turn):
                    break
            notes = (self._projected(),) if outside and self._kind.eps is None else ()
            draw = derive(self.seed, "verdict")
            return checked(judged(victim, x, x_adv, y, (self.norm, self.eps), draw=draw, notes=notes))

    def _projected(self) -> AttackNote:
        text = (
            f"{self.name} does not stay within a ball: what it finds beyond {ball_words(self.norm, self.eps)} is "
            "shrunk onto it, and may break less there than other attacks"
        )
        return AttackNote("projected", text)

    def _attack(self, facade: _Facade, x: Tensor, y: Tensor) -> Tensor:
        options = dict(self.options)
        parameters = inspect.signature(_class(self._kind.class_name)).parameters
        if self._kind.eps is not None:
            options[self._kind.eps] = self.eps
        if "norm" in parameters:
            options["norm"] = self.norm.capitalize()
        if "seed" in parameters:
            options["seed"] = self.seed
        if "n_classes" in parameters:
            options["n_classes"] = min(facade.num_classes, _MOST_CLASSES)
        # The first thing that torchattacks does with a model without parameters is to print a line.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                attack = _class(self._kind.class_name)(facade, **options)
                attack.set_device(x.device)
                if self._kind.class_name == "JSMA":
                    # Its own target is the next of ten classes.
                    attack.set_mode_targeted_by_function(
                        lambda _, labels: (labels + 1) % facade.num_classes, quiet=True
                    )
                x_adv = attack(x.clone(), y.clone())
            except (RushkitError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise PluginError(
                    f"torchattacks' {self._kind.class_name} failed: {type(error).__name__}: {error}",
                    f"it may not fit {facade.num_classes} classes or images of {x.shape[2]}x{x.shape[3]}",
                ) from error
        x_adv = x_adv.detach().to(x.device, x.dtype)
        # A pixel that became NaN stays as it was: it must not count as a success.
        return torch.where(torch.isfinite(x_adv), x_adv, x)


class _Facade(nn.Module):
    """The model as torchattacks sees it: returns checked (N, K) logits (log p̄ for a random model) as a new tensor.

    Each query has a panel of draws of its own, by its number, and shared by the images of the query.
    """

    def __init__(self, victim: Victim, model: nn.Module, seed: int) -> None:
        super().__init__()
        self._victim = victim
        self._seed = seed
        self._queries = 0
        # Where torchattacks looks for the device.
        self.model = model
        self.num_classes = victim.num_classes

    def train(self, mode: bool = True) -> _Facade:
        """Ignore torchattacks' switch to training mode at the end of an attack."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits, differentiable if gradients are enabled."""
        self._queries += 1
        logits = self._victim.differentiable(x, draw=derive(self._seed, "query", self._queries))
        # Square writes into the tensor that it gets, so it gets a copy.
        return log_mean_softmax(logits) if self._victim.random else logits[0].clone()


def _class(class_name: str) -> Any:
    with warnings.catch_warnings():
        # It imports requests, in a version that warns of its own dependencies.
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module("torchattacks"), class_name)


def _own_options(name: str) -> list[inspect.Parameter]:
    """Return the options of an attack that the adapter does not supply, typed by their defaults."""
    options = []
    for parameter in list(inspect.signature(_class(KINDS[name].class_name)).parameters.values()):
        if parameter.name in _SUPPLIED:
            continue
        kind: Any = type(parameter.default)
        if kind is int and parameter.name in _FRACTIONS:
            kind = float
        options.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
    return options
