"""The sections of a recipe. Defaults are the RUSH paper's settings (appendix B) where the paper has one.

A section that names a component (data, backbone, noise, pretrain, finetune, attack) takes that component's own
options beside the keys listed here; they are checked against its signature by ``recipe.components``.
"""

from __future__ import annotations

import keyword
import math
import re
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

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

from rushkit.errors import showable
from rushkit.ratio import number
from rushkit.recipe.radius import beyond_pixels
from rushkit.recipe.toml import Table


def parse_number(value: Any) -> Any:
    """``"8/255"`` -> 0.0313...; numbers and other values pass through for pydantic to judge."""
    return number(value) if isinstance(value, str) else value


def check_option(value: Any) -> Any:
    """Accept what both TOML and JSON can hold; refuse dates, NaN and infinities."""
    if isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            check_option(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    elif not isinstance(value, bool | int | float | str | None):
        raise ValueError("must be a number, a text, true or false, or a list or table of these")
    return value


# No others than ASCII's: Python takes many letters of Unicode for the same.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEPS = re.compile(r"([1-9][0-9]{0,17})steps")


def check_option_name(name: str) -> str:
    """Accept what can name a Python argument; factories with ``**options`` check no names."""
    if _IDENTIFIER.fullmatch(name) and not keyword.iskeyword(name):
        return name
    raise ValueError("must be a name such as width or drop_rate")


def check_interval(value: Any) -> Any:
    """Accept a number of epochs, such as 5, or a number of steps, such as ``"500steps"``."""
    if isinstance(value, str) and _STEPS.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("must be a number of epochs such as 5, or of steps such as 500steps")


def check_order(bounds: list[float]) -> list[float]:
    """Check that the lower bound comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError("must be a lower and an upper bound, in this order")
    return bounds


def check_rising(shares: list[float]) -> list[float]:
    """Check that each share of the run comes after the one before it."""
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise ValueError("must rise from each to the next")
    return shares


OptionName = Annotated[str, AfterValidator(check_option_name)]
Option = Annotated[Any, AfterValidator(check_option)]
Interval = Annotated[int | str, BeforeValidator(check_interval)]
Number = Annotated[float, BeforeValidator(parse_number)]
Milestone = Annotated[float, BeforeValidator(parse_number), Field(gt=0, lt=1)]
Norm = Literal["linf", "l2", "l1"]
Rule = Literal["majority", "mean"]

# Bounds on what takes memory: anybody's recipe or checkpoint may ask for more than any machine has.
MAX_IMAGE_SIZE = 2048
_MAX_WIDTH = 1 << 18
_MAX_DRAWS = 1_000_000
_MAX_GRADIENT_DRAWS = 10_000

# The paper's noise, and its scale.
_PAPER_NOISE = "uniform"
_PAPER_SCALE = 0.3

# Keys that several sections have.
SplitName = Annotated[
    str, Field(description="part of the data set: `train`, `test`, `validation` or another of its own")
]
Limit = Annotated[int, Field(ge=0, description="images to look at, drawn once and for all; 0: all")]
Draws = Annotated[
    list[Annotated[int, Field(ge=1, le=_MAX_DRAWS)]],
    Field(min_length=1, description="numbers m of noise draws a prediction; each is evaluated"),
]
# An attack keeps what each of them has passed through, for the gradient.
GradientDraws = Annotated[
    list[Annotated[int, Field(ge=1, le=_MAX_GRADIENT_DRAWS)]],
    Field(min_length=1, description="numbers m of noise draws a prediction; each is evaluated"),
]
LearningRate = Annotated[float, Field(gt=0, description="largest learning rate, of the whole batch")]
WeightDecay = Annotated[float, Field(ge=0, description="l2 penalty on the weights; decoupled in adamw")]
Epochs = Annotated[int, Field(ge=1, description="passes over the training images")]


class Section(BaseModel):
    """A table of a recipe: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    # The key that names a component; empty where the table names none.
    NAMED_BY: ClassVar[str] = ""
    # Keys of which the table takes one: setting it takes the others away.
    EXCLUSIVE: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def key_names(cls) -> list[str]:
        """Return the table's own keys, as a recipe writes them."""
        return [field.alias or name for name, field in cls.model_fields.items()]


class Component(Section):
    """A table that names a component and holds its options."""

    model_config = ConfigDict(extra="allow")
    NAMED_BY: ClassVar[str] = "name"
    __pydantic_extra__: dict[OptionName, Option]

    @property
    def options(self) -> Table:
        """The keys that belong to the component."""
        return dict(self.model_extra or {})


class Data(Component):
    """The images."""

    name: str = Field(description="a data set of `rushkit data list`")
    limit: int = Field(default=0, ge=0, description="images a split, drawn once and for all; 0: all")
    validation: int = Field(
        default=0, ge=0, description="images held out of the training split as the split `validation`; 0: none"
    )
    image_size: int = Field(default=0, ge=0, le=MAX_IMAGE_SIZE, description="side in pixels; 0: the data set's own")


class Backbone(Component):
    """The encoder. With ``mean`` and ``std`` it takes (x − mean) / std of the noisy pixels x, channel by channel."""

    name: str = Field(
        default="resnet18", description="`resnet18`, `resnet10-small`, `timm/NAME`, `torchvision/NAME` or a plugin's"
    )
    mean: list[float] = Field(
        default=[], description="one number a channel, pixel units; none: pixels go in as they are"
    )
    std: list[Annotated[float, Field(gt=0)]] = Field(default=[], description="one number a channel, pixel units")

    @model_validator(mode="after")
    def _one_std_a_mean(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std need one number a channel each")
        return self


class Projector(Section):
    """The MLP that pre-training puts on the encoder."""

    hidden: int = Field(default=2048, ge=1, le=_MAX_WIDTH, description="width of the hidden layer")
    out: int = Field(default=128, ge=1, le=_MAX_WIDTH, description="length of a projection")
    batch_norm: bool = Field(default=False, description="whether the hidden layer is batch-normalised")


class Noise(Component):
    """The smoothing distribution of all stages, in pixel units; most take exactly one of ``scale`` and ``std``."""

    EXCLUSIVE: ClassVar[frozenset[str]] = frozenset({"scale", "std"})

    name: str = Field(
        default=_PAPER_NOISE,
        description="`uniform`, `gaussian`, `laplace`, `discrete-gaussian`, `split`, `none` or a plugin's",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_paper_scale(cls, table: Any) -> Any:
        return with_paper_scale(table) if isinstance(table, dict) else table


def with_paper_scale(noise: Table) -> Table:
    """Return a noise table, with the paper's scale where it is the paper's noise and has neither scale nor std."""
    if noise.get("name", _PAPER_NOISE) != _PAPER_NOISE or Noise.EXCLUSIVE & noise.keys():
        return noise
    return noise | {"scale": _PAPER_SCALE}


class Optimizer(Section):
    """The optimizer."""

    name: Literal["sgd", "adamw"] = Field(default="sgd", description="the update rule")
    lr: LearningRate
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd; adamw has its own")
    weight_decay: WeightDecay = 0.0
    decay: Literal["all", "weights", "not-norm"] = Field(
        default="all",
        description="what `weight_decay` acts on: everything; tensors of two dimensions or more; or everything but "
        "normalisation layers",
    )
    nesterov: bool = Field(default=False, description="Nesterov's momentum, of sgd alone")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class PretrainOptimizer(Optimizer):
    """The optimizer of pre-training."""

    lr: LearningRate = 0.5
    weight_decay: WeightDecay = 1e-4


class FinetuneOptimizer(Optimizer):
    """The optimizer of fine-tuning."""

    lr: LearningRate = 0.1
    weight_decay: WeightDecay = 2e-4


class Schedule(Section):
    """The learning rate over training."""

    name: Literal["cosine", "constant", "steps", "triangle"] = Field(
        default="cosine",
        description="from `lr` down to `min_lr`; always `lr`; `lr` times `factor` from each of the `milestones` on; or "
        "from 0 up to `lr` in the middle of the run, and down to 0",
    )
    min_lr: float = Field(default=0.001, ge=0, description="where the cosine ends")
    warmup_epochs: int = Field(default=0, ge=0, description="epochs of linear rise to `lr` before it; 0: none")
    milestones: Annotated[list[Milestone], Field(min_length=1), AfterValidator(check_rising)] = Field(
        default=[0.5, 0.75], description='of `steps`: shares of the run; "2/3" may be written'
    )
    factor: float = Field(default=0.1, gt=0, lt=1, description="of `steps`: of the rate, at each milestone")
    per: Literal["step", "epoch"] = Field(default="step", description="whether it moves at each step or each epoch")

    @model_validator(mode="after")
    def _rises_once(self) -> Self:
        if self.name == "triangle" and self.warmup_epochs:
            raise ValueError("a triangle rises by itself: warmup_epochs does not go with it")
        return self


class ViewSettings(Section):
    """The random transformation T of pre-training (appendix A): torchvision's crop, flip, colour jitter, grayscale."""

    scale: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2), AfterValidator(check_order)
    ] = Field(default=[0.08, 1.0], description="least and greatest share of the image in the crop")
    ratio: Annotated[
        list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2), AfterValidator(check_order)
    ] = Field(default=[3 / 4, 4 / 3], description="least and greatest width / height of the crop")
    flip: float = Field(default=0.5, ge=0, le=1, description="probability of a horizontal flip; 0: never")
    jitter_p: float = Field(
        default=0.8, ge=0, le=1, description="probability that the four colour operations are applied; 0: never"
    )
    brightness: float = Field(default=0.4, ge=0, description="b of a factor in [max(0, 1 − b), 1 + b]; 0: unchanged")
    contrast: float = Field(default=0.4, ge=0, description="as brightness")
    saturation: float = Field(default=0.4, ge=0, description="as brightness")
    hue: float = Field(
        default=0.1, ge=0, le=0.5, description="h of a shift in [−h, h], in turns of the circle; 0: none"
    )
    grayscale: float = Field(default=0.2, ge=0, le=1, description="probability that the colour is lost; 0: never")


class Knn(Section):
    """Nearest-neighbour accuracy during pre-training, on clean images; labels are used for nothing else."""

    every: int = Field(default=10, ge=0, description="epochs between looks; 0: no look")
    k: int = Field(default=200, ge=1, description="neighbours that vote")
    temperature: float = Field(
        default=0.1, ge=1e-4, description="T of a neighbour's weight exp(cosine / T); at 1e-4 the nearest one decides"
    )
    bank: int = Field(default=0, ge=0, description="training images in the bank; 0: all")
    queries: int = Field(default=0, ge=0, description="images to classify; 0: all")


class Training(Component):
    """The settings that both training stages share."""

    NAMED_BY: ClassVar[str] = "objective"

    objective: str = Field(description="what is trained for")
    split: SplitName = "train"
    epochs: Epochs
    batch_size: int = Field(default=512, ge=2, description="images a step, of all ranks together")
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    save_every: Interval = Field(default=1, description="epochs between checkpoints; or steps, such as `500steps`")
    keep: int = Field(default=2, ge=2, description="newest checkpoints that stay; the best stays beside them")

    def steps_between_checkpoints(self, steps_per_epoch: int) -> int:
        """Return ``save_every`` in steps."""
        steps = _STEPS.fullmatch(str(self.save_every))
        return int(steps[1]) if steps else int(self.save_every) * steps_per_epoch


class Pretrain(Training):
    """Contrastive pre-training, eq. 11."""

    objective: str = Field(default="rush", description="`rush`, `simclr` or a plugin's")
    epochs: Epochs = 1000
    optimizer: PretrainOptimizer = PretrainOptimizer()
    views: ViewSettings = ViewSettings()
    knn: Knn = Knn()


class Finetune(Training):
    """Supervised fine-tuning under noise, eq. 12."""

    objective: str = Field(default="cross-entropy", description="`cross-entropy` or a plugin's")
    epochs: Epochs = 25
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    drop_last: bool = Field(
        default=False, description="whether an epoch leaves out what does not fill a batch; a single image always"
    )
    freeze: Literal["encoder", "all", "none"] = Field(
        default="encoder",
        description="what stays as pre-trained: `encoder`, all but the biases of its batch norm; `all` of it, so that "
        "only the head trains; `none`",
    )
    head_start: Literal["random", "zero"] = Field(
        default="random", description="how the head starts; `zero`: its last linear layer is 0, and so is every logit"
    )
    bn: Literal["train", "eval"] = Field(
        default="train", description="whether a frozen encoder's batch norm sees the noisy batches or stays as it is"
    )
    augment: Literal["none", "crop-flip"] = Field(
        default="none", description="what is done to an image before the noise"
    )


class Evaluate(Section):
    """Standard accuracy."""

    split: SplitName = "test"
    samples: Draws = [1, 64]
    rules: list[Rule] = Field(
        default=["majority", "mean"], min_length=1, description="by the vote of the draws, or by their mean probability"
    )


class Attack(Component):
    """One attack; its own options stand beside these keys."""

    NAMED_BY: ClassVar[str] = "type"

    type: str = Field(default="pgd", description="an attack of `rushkit plugins`")
    norm: Norm = Field(default="linf", description="of the ball that the attack stays in")
    eps: Number = Field(default=8 / 255, ge=0, description='radius of the ball, pixel units; "8/255" may be written')
    split: SplitName = "test"
    samples: GradientDraws = [1, 64]
    eot: int = Field(default=0, ge=0, le=_MAX_GRADIENT_DRAWS, description="draws a gradient; 0: as the protocol says")
    effort: Annotated[
        Literal[1, 2, 4], Field(description="budget of the search under strict: 1, 2 or 4 times its own")
    ] = 1
    limit: Limit = 0

    @field_validator("eps")
    @classmethod
    def _in_pixel_units(cls, eps: float, info: ValidationInfo) -> float:
        if problem := beyond_pixels(info.data.get("norm", ""), eps):
            raise ValueError(problem)
        return eps


class Certify(Section):
    """Certified robustness.

    With ``radii`` the claims "robust at this radius" are tested one by one, and ``samples`` is the most that a test
    may draw; without, all draws are made and every image gets the largest radius that they show.
    """

    norm: Norm = Field(default="l2", description="of the certified ball")
    samples: int = Field(
        default=100_000, ge=1, le=1_000_000_000, description="draws that bound the probability of the class"
    )
    selection: int = Field(default=100, ge=1, le=_MAX_DRAWS, description="draws that choose the class")
    alpha: float = Field(default=0.001, gt=0, lt=1, description="probability that an image's certificate is false")
    bound: Literal["auto", "clopper-pearson", "betting", "empirical-bernstein", "hoeffding"] = Field(
        default="auto", description="on the probability; auto: clopper-pearson for votes, empirical-bernstein for means"
    )
    two_class: bool = Field(default=False, description="bound the runner-up as well")
    rule: Rule = Field(
        default="majority", description="the classifier: the class of most draws, or of the highest mean"
    )
    radii: list[Annotated[float, Field(ge=0), BeforeValidator(parse_number)]] = Field(
        default=[], description="test these radii, pixel units; none: the largest radius of each image"
    )
    split: SplitName = "test"
    limit: Limit = 0
    skip: int = Field(default=1, ge=1, description="certify every n-th image; 1: every image")

    @field_validator("radii")
    @classmethod
    def _in_pixel_units(cls, radii: list[float], info: ValidationInfo) -> list[float]:
        for radius in radii:
            if problem := beyond_pixels(info.data.get("norm", ""), radius):
                raise ValueError(problem)
        return radii


class System(Section):
    """Where and how it runs. Folders change no figure; ``seed``, ``precision`` and ``device`` change draws or rounding.

    ``chunk`` changes no draw, and neither do the number of processes and ``limit``: an image has the same draws in any
    batch. Only a library's attack that draws for a whole batch at once (random starts of ``torchattacks/*``) depends on
    the 64 images that it attacks together, and so on ``limit``.
    """

    seed: int = Field(default=0, ge=0, description="every draw follows from it")
    device: str = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:1` or `mps`")
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto", description="of the network's arithmetic; auto: bf16 where the device is fast at it"
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile of the network in training; auto: on CUDA devices where it works"
    )
    chunk: int = Field(
        default=0, ge=0, description="images in one pass of evaluation and attack; 0: what the device has memory for"
    )
    data_dir: str = Field(default="data", min_length=1, description="the folder that data sets lie in")
    runs_dir: str = Field(default="runs", min_length=1, description="the folder that runs are made in")
    tensorboard: bool = Field(
        default=False, description="training also writes its metrics for TensorBoard, into the run's `tensorboard/`"
    )


class Recipe(Section):
    """A whole recipe, as ``recipe.load.load_recipe`` returns it."""

    schema_version: Literal[1] = Field(default=1, alias="schema", description="version of this format")
    name: str = Field(default="recipe", description="what runs are called by; the file's name where it says none")
    data: Data
    backbone: Backbone = Backbone()
    projector: Projector = Projector()
    noise: Noise = Noise()
    pretrain: Pretrain = Pretrain()
    finetune: Finetune = Finetune()
    evaluate: Evaluate = Evaluate()
    attack: list[Attack] = [Attack()]
    certify: Certify = Certify()
    system: System = System()

    # Dotted key -> where its value came from, such as "recipes/cifar10.toml:12" or "--set".
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __repr__(self) -> str:
        noise = " ".join([self.noise.name, *(f"{name} {value}" for name, value in self.noise.options.items())])
        stages = (f"{stage.objective} for {stage.epochs} epochs" for stage in (self.pretrain, self.finetune))
        words = [repr(self.name), self.data.name, self.backbone.name, noise, *stages]
        return showable(f"Recipe({', '.join(words)})")

    __str__ = __repr__

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from, by dotted key; values that are not listed are defaults."""
        return self._origins

    def resolved(self) -> Table:
        """Return every key with its value, defaults included, as plain data that loads back to the same recipe."""
        return self.model_dump(by_alias=True)


def section_at(path: str) -> type[Section] | None:
    """Return the model of the table at a path such as ``"pretrain.views"`` or ``"attack.0"``, or None."""
    model: type[Section] = Recipe
    for part in filter(None, path.split(".")):
        if part.isdecimal():
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        inner = next(iter(get_args(annotation)), annotation)
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            return None
        model = inner
    return model
