"""The sections of a recipe. Defaults are the RUSH paper's settings (appendix B) where the paper has one.

A section that names a component (data, backbone, noise, pretrain, finetune, attack) takes that component's own
options beside the keys listed here; they are checked against its signature by ``recipe.components``.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)


def parse_number(value: Any) -> Any:
    """``"8/255"`` -> 0.0313...; numbers and other values pass through for pydantic to judge."""
    if not isinstance(value, str):
        return value
    numerator, slash, denominator = value.partition("/")
    try:
        number = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ValueError("must be a number such as 0.03 or 8/255") from None
    if not math.isfinite(number):
        raise ValueError("must be finite")
    return number


def check_option(value: Any) -> Any:
    """Let pass what both TOML and JSON can hold: dates, NaN and infinities are refused."""
    if isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            check_option(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    elif not isinstance(value, bool | int | float | str | None):
        raise ValueError("must be a number, a text, true or false, or a list or table of these")
    return value


_STEPS = re.compile(r"([1-9][0-9]{0,17})steps")


def check_interval(value: Any) -> Any:
    """Let pass a number of epochs, such as 5, and a number of steps, such as ``"500steps"``."""
    if isinstance(value, str) and _STEPS.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("must be a number of epochs such as 5, or of steps such as 500steps")


Option = Annotated[Any, AfterValidator(check_option)]
Interval = Annotated[int | str, BeforeValidator(check_interval)]
Number = Annotated[float, BeforeValidator(parse_number)]
Norm = Literal["linf", "l2", "l1"]
Rule = Literal["majority", "mean"]


class Section(BaseModel):
    """A table of a recipe: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Component(Section):
    """A table that names a component and holds its options."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the component."""
        return dict(self.model_extra or {})


class Data(Component):
    """Which images. ``limit`` counts images a split (0: all), ``validation`` those held out of the training split."""

    name: str
    limit: int = Field(default=0, ge=0)
    validation: int = Field(default=0, ge=0)
    image_size: int = Field(default=0, ge=0, description="side in pixels; 0: the data set's own")


class Backbone(Component):
    """The encoder. With ``mean`` and ``std`` it takes (x − mean) / std of the noisy pixels x, channel by channel."""

    name: str = "resnet18"
    mean: list[float] = Field(default=[], description="of each channel; none: pixels go in as they are")
    std: list[Annotated[float, Field(gt=0)]] = Field(default=[], description="of each channel")

    @model_validator(mode="after")
    def _one_std_a_mean(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std need one number a channel each")
        return self


class Projector(Section):
    """The MLP that pre-training puts on the encoder."""

    hidden: int = Field(default=2048, ge=1)
    out: int = Field(default=128, ge=1)
    batch_norm: bool = False


class Noise(Component):
    """The smoothing distribution of all three stages, in pixel units."""

    name: str = "uniform"


class Optimizer(Section):
    """The optimizer."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class PretrainOptimizer(Optimizer):
    """The optimizer of pre-training."""

    lr: float = Field(default=0.5, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)


class FinetuneOptimizer(Optimizer):
    """The optimizer of fine-tuning."""

    lr: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=2e-4, ge=0)


class Schedule(Section):
    """The learning rate over training; ``per`` says whether it moves at each step or each epoch."""

    name: Literal["cosine", "constant"] = "cosine"
    min_lr: float = Field(default=0.001, ge=0)
    warmup_epochs: int = Field(default=0, ge=0)
    per: Literal["step", "epoch"] = "step"


class Views(Section):
    """The random transformation T of pre-training (appendix A)."""

    scale: list[float] = Field(default=[0.08, 1.0], min_length=2, max_length=2)
    ratio: list[float] = Field(default=[3 / 4, 4 / 3], min_length=2, max_length=2)
    flip: float = Field(default=0.5, ge=0, le=1)
    jitter_p: float = Field(default=0.8, ge=0, le=1)
    brightness: float = Field(default=0.4, ge=0)
    contrast: float = Field(default=0.4, ge=0)
    saturation: float = Field(default=0.4, ge=0)
    hue: float = Field(default=0.1, ge=0, le=0.5)
    grayscale: float = Field(default=0.2, ge=0, le=1)


class Knn(Section):
    """The nearest-neighbour accuracy shown during pre-training; ``every`` counts epochs, 0 switches it off."""

    every: int = Field(default=10, ge=0)
    k: int = Field(default=200, ge=1)
    temperature: float = Field(default=0.1, gt=0)
    bank: int = Field(default=0, ge=0, description="training images in the bank; 0: all")
    queries: int = Field(default=0, ge=0, description="images to classify; 0: all")


class Training(Component):
    """What both training stages share."""

    objective: str
    split: str = "train"
    epochs: int = Field(ge=1)
    batch_size: int = Field(default=512, ge=2)
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    save_every: Interval = Field(default=1, description="epochs between checkpoints; or steps, such as `500steps`")
    keep: int = Field(default=2, ge=2, description="newest checkpoints that stay; the best stays beside them")

    def steps_between_checkpoints(self, steps_per_epoch: int) -> int:
        """What ``save_every`` comes to in steps."""
        steps = _STEPS.fullmatch(str(self.save_every))
        return int(steps[1]) if steps else int(self.save_every) * steps_per_epoch


class Pretrain(Training):
    """Contrastive pre-training, eq. 11."""

    objective: str = "rush"
    epochs: int = Field(default=1000, ge=1)
    optimizer: PretrainOptimizer = PretrainOptimizer()
    views: Views = Views()
    knn: Knn = Knn()


class Finetune(Training):
    """Supervised fine-tuning under noise, eq. 12."""

    objective: str = "cross-entropy"
    epochs: int = Field(default=25, ge=1)
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    freeze: Literal["encoder", "none"] = "encoder"
    bn: Literal["train", "eval"] = "train"
    augment: Literal["none", "crop-flip"] = "none"


class Evaluate(Section):
    """Standard accuracy."""

    split: str = "test"
    samples: list[Annotated[int, Field(ge=1)]] = Field(default=[1, 64], min_length=1)
    rules: list[Rule] = Field(default=["majority", "mean"], min_length=1)


class Attack(Component):
    """One attack; its own options stand beside these keys. ``limit`` counts images, 0: all."""

    type: str = "pgd"
    norm: Norm = "linf"
    eps: Number = Field(default=8 / 255, ge=0)
    split: str = "test"
    samples: list[Annotated[int, Field(ge=1)]] = Field(default=[1, 64], min_length=1)
    eot: int = Field(default=0, ge=0, description="draws a gradient; 0: as the protocol says")
    limit: int = Field(default=0, ge=0)

    @field_validator("eps")
    @classmethod
    def _in_pixel_units(cls, eps: float, info: ValidationInfo) -> float:
        if info.data.get("norm") == "linf" and eps > 1:
            raise ValueError(f"must be in pixel units, where 1 is the whole range; did you mean {eps:g}/255?")
        return eps


class Certify(Section):
    """Certified robustness. ``limit`` counts images, 0: all; ``skip`` takes every so manieth image.

    With ``radii`` the claims "robust at this radius" are tested one by one, and ``samples`` is the most that a test
    may draw; without, all draws are made and every image gets the largest radius that they show.
    """

    norm: Norm = "l2"
    samples: int = Field(default=100_000, ge=1, description="draws that bound the probability of the class")
    selection: int = Field(default=100, ge=1, description="draws that choose the class")
    alpha: float = Field(default=0.001, gt=0, lt=1, description="probability that an image's certificate is false")
    bound: Literal["auto", "clopper-pearson", "betting", "empirical-bernstein", "hoeffding"] = Field(
        default="auto", description="on the probability; auto: clopper-pearson for votes, empirical-bernstein for means"
    )
    two_class: bool = Field(default=False, description="bound the runner-up as well")
    rule: Rule = "majority"
    radii: list[Annotated[float, Field(ge=0), BeforeValidator(parse_number)]] = Field(
        default=[], description="test these radii; none: the largest radius of each image"
    )
    split: str = "test"
    limit: int = Field(default=0, ge=0)
    skip: int = Field(default=1, ge=1)


class System(Section):
    """Where and how it runs. Folders change no figure; ``seed``, ``precision`` and ``device`` change draws or rounding.

    ``chunk`` changes no draw of an evaluation. Under attack the images that share a block do share draws, and a block
    is as large as ``chunk``, or as suits the device: figures move within what another seed would move them.
    """

    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile of the network in training; auto: on CUDA devices where it works"
    )
    chunk: int = Field(
        default=0, ge=0, description="images in one pass of evaluation and attack; 0: what suits the device"
    )
    data_dir: str = "data"
    runs_dir: str = "runs"
    tensorboard: bool = Field(
        default=False, description="training also writes its metrics for TensorBoard, into the run's `tensorboard/`"
    )


class Recipe(Section):
    """A whole recipe, as ``recipe.load.load_recipe`` returns it."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = "recipe"
    data: Data
    backbone: Backbone = Backbone()
    projector: Projector = Projector()
    noise: Noise = Noise(name="uniform", scale=0.3)
    pretrain: Pretrain = Pretrain()
    finetune: Finetune = Finetune()
    evaluate: Evaluate = Evaluate()
    attack: list[Attack] = [Attack()]
    certify: Certify = Certify()
    system: System = System()

    # Dotted key -> where its value came from, such as "recipes/cifar10.toml:12" or "--set".
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from, by dotted key; values that are not listed are defaults."""
        return self._origins

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, defaults included, as plain data that loads back to the same recipe."""
        return self.model_dump(by_alias=True)
