"""The sections of a recipe. Defaults are the RUSH paper's settings (appendix B) where the paper has one.

A section that names a component (data, backbone, noise, pretrain, finetune, attack) takes that component's own
options beside the keys listed here; they are checked against its signature by ``recipe.components``.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rushkit import registries
from rushkit.errors import showable
from rushkit.image_size import ImageSize, size_from_json, size_to_json
from rushkit.paths import expand_text
from rushkit.recipe.model_section import Model
from rushkit.recipe.radius import beyond_pixels

# pydantic before 2.13 looks for the types of Component's options in the module of a class below it.
from rushkit.recipe.sections import (
    MAX_DRAWS,
    MAX_GRADIENT_DRAWS,
    MAX_IMAGE_SIZE,
    MAX_LAYERS,
    MAX_WIDTH,
    MIN_ALPHA,
    Component,
    Corruption,
    Corruptions,
    Draws,
    GradientDraws,
    GridCounts,
    Limit,
    Norm,
    Number,
    Option,  # noqa: F401
    OptionName,  # noqa: F401
    Radius,
    Rule,
    Section,
    Skip,
    SplitName,
    Strengths,
    Translation,
    parse_number,
)
from rushkit.recipe.toml import Table
from rushkit.recipe.training_sections import Finetune, Knn, Optimizer, Pretrain, Training, Validation, ViewSettings
from rushkit.registry import Registry
from rushkit.rounding import counted

__all__ = [
    "MAX_IMAGE_SIZE",
    "Attack",
    "Backbone",
    "Certify",
    "Component",
    "Corruption",
    "Data",
    "Evaluate",
    "Finetune",
    "Knn",
    "Model",
    "Noise",
    "Norm",
    "Optimizer",
    "Pretrain",
    "Projector",
    "Recipe",
    "Rule",
    "Section",
    "System",
    "Training",
    "Validation",
    "ViewSettings",
    "parse_number",
    "section_at",
    "with_paper_scale",
]

# The paper's noise, and its scale.
_PAPER_NOISE = "uniform"
_PAPER_SCALE = 0.3


def _one_size(value: Any) -> Any:
    """Return the sides of a square as one number. Raises ValueError for what is no size."""
    size = size_from_json(value, 0, MAX_IMAGE_SIZE)
    if size is None or (isinstance(size, tuple) and 0 in size):
        raise ValueError(f"must be a whole number from 0 to {MAX_IMAGE_SIZE}, or [height, width] of such from 1 on")
    return size_to_json(size)


class Data(Component):
    """The images."""

    REGISTRY: ClassVar[Registry] = registries.datasets

    name: str = Field(description="a data set of `rushkit data list`")
    limit: int = Field(
        default=0, ge=0, description="number of images of each split, the same ones for every seed; 0: all"
    )
    validation: int = Field(
        default=0, ge=0, description="images held out of the training split as the split `validation`; 0: none"
    )
    image_size: Annotated[int | list[int], BeforeValidator(_one_size)] = Field(
        default=0,
        description=f"side in pixels, {MAX_IMAGE_SIZE} at most, or [height, width] of a folder's rectangles; 0: the "
        "data set's own",
    )

    @property
    def size(self) -> ImageSize:
        """``image_size`` as one number, or as height and width."""
        return self.image_size if isinstance(self.image_size, int) else (self.image_size[0], self.image_size[1])


class Backbone(Component):
    """The encoder. With ``mean`` and ``std`` it takes (x − mean) / std of the noisy pixels x, channel by channel."""

    REGISTRY: ClassVar[Registry] = registries.backbones

    name: str = Field(
        default="resnet18",
        description="`resnet18`, others of docs/backbones.md, `timm/NAME`, `torchvision/NAME` or a plugin's",
    )
    mean: list[float] = Field(
        default=[], description="one number a channel, pixel units; none: the encoder gets the pixels as they are"
    )
    std: list[Annotated[float, Field(gt=0)]] = Field(default=[], description="one number a channel, pixel units")

    @model_validator(mode="after")
    def _one_std_a_mean(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std need one number a channel each")
        return self


class Projector(Section):
    """The MLP that pre-training puts on the encoder."""

    hidden: int = Field(default=2048, ge=1, le=MAX_WIDTH, description="width of each hidden layer")
    out: int = Field(default=128, ge=1, le=MAX_WIDTH, description="length of a projection")
    batch_norm: bool = Field(default=False, description="whether the hidden layers are batch-normalised")
    layers: int = Field(default=2, ge=2, le=MAX_LAYERS, description="number of linear layers")
    norm_out: bool = Field(default=False, description="whether the projections are batch-normalised too")
    biases: Literal["needed", "first"] = Field(
        default="needed",
        description="which linear layers have a bias: those that no batch norm follows, or the first alone",
    )


class Noise(Component):
    """The smoothing distribution of all stages, in pixel units; most take exactly one of ``scale`` and ``std``."""

    EXCLUSIVE: ClassVar[frozenset[str]] = frozenset({"scale", "std"})
    REGISTRY: ClassVar[Registry] = registries.noises

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
    name = noise.get("name", _PAPER_NOISE)
    if not isinstance(name, str) or registries.noises.written(name) != _PAPER_NOISE or Noise.EXCLUSIVE & noise.keys():
        return noise
    return noise | {"scale": _PAPER_SCALE}


class Evaluate(Section):
    """Standard accuracy, and accuracy under common corruptions and under rotations and translations."""

    split: SplitName = "test"
    limit: Limit = 0
    skip: Skip = 1
    samples: Draws = Field(default=[1, 64])
    rules: list[Rule] = Field(
        default=["majority", "mean"],
        min_length=1,
        description="`majority`: the class of most draws; `mean`: that of the highest mean probability",
    )
    corruptions: Corruptions = Field(default=[])
    strengths: Strengths = Field(default=[1, 2, 3, 4, 5])
    shift: bool = Field(
        default=False, description="search the worst rotation and translation of each image on a grid too"
    )
    rotation: Number = Field(default=30.0, ge=0, le=180, description="largest rotation of the grid, degrees")
    translation: Translation = Field(
        default="auto", description="largest translation of the grid, pixels; auto: 3/32 of the image's side"
    )
    grid: GridCounts = Field(default=[31, 5, 5])


def _as_text(value: object) -> object:
    """Return the index of a class as text; a name stays, and what is neither stays to be refused."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Attack(Component):
    """One attack. The options of the attack itself are further keys."""

    NAMED_BY: ClassVar[str] = "type"
    REGISTRY: ClassVar[Registry] = registries.attacks

    type: str = Field(default="pgd", description="an attack of `rushkit plugins`")
    norm: Norm = Field(default="linf", description="norm of the ball that the attack stays in")
    eps: Number = Field(default=8 / 255, ge=0, description='radius of the ball, pixel units; "8/255" may be written')
    split: SplitName = "test"
    samples: GradientDraws = Field(default=[1, 64])
    score_samples: list[Annotated[int, Field(ge=1, le=MAX_DRAWS)]] = Field(
        default=[], description="m of further votes on the images that were attacked for the m of `samples`"
    )
    eot: int = Field(default=0, ge=0, le=MAX_GRADIENT_DRAWS, description="draws a gradient; 0: as the protocol says")
    effort: Annotated[
        Literal[1, 2, 4], Field(description="budget of the search under strict: 1, 2 or 4 times its own")
    ] = 1
    target: Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int)] = Field(
        default="", description="a class, by name or index, that every image of another class is to be taken for"
    )
    eight_bit: bool = Field(default=False, description="offer only images of 8-bit pixels: whole multiples of 1/255")
    smallest: bool = Field(
        default=False, description="search the smallest distance up to eps at which strict breaks each image"
    )
    surrogate: str = Field(
        default="",
        description="`FILE.py:NAME` of a differentiable stand-in for the model or for what stands before it, or "
        "`identity`: gradients are its own, values the model's",
    )
    also: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[], description="`FILE.py:NAME` of attacks of one's own, which take part in strict"
    )
    limit: Limit = 0
    skip: Skip = 1

    @field_validator("eps")
    @classmethod
    def _in_pixel_units(cls, eps: float, info: ValidationInfo) -> float:
        if problem := beyond_pixels(info.data.get("norm", ""), eps):
            raise ValueError(problem)
        return eps


class Published(Attack):
    """An attack that the recipe's method was published with, for ``--protocol published``; it runs as it is written."""


class Certify(Section):
    """Certified robustness.

    With ``radii`` the claims "robust at this radius" are tested one by one, and ``samples`` is the most that a test
    may draw; without, all draws are made and every image gets the largest radius that they show.
    """

    norm: Norm | Literal["auto"] = Field(
        default="auto",
        description="norm of the certified ball; auto: the noise's own, in which its theorem is tight (l1 under "
        "uniform, Laplace and split noise, l2 under Gaussian noise)",
    )
    samples: int = Field(
        default=100_000, ge=1, le=1_000_000_000, description="draws that bound the probability of the class"
    )
    selection: int = Field(default=100, ge=1, le=MAX_DRAWS, description="draws that choose the class")
    alpha: float = Field(default=0.001, gt=0, lt=1, description="probability that an image's certificate is false")
    bound: Literal["auto", "clopper-pearson", "randomized", "betting", "empirical-bernstein", "hoeffding"] = Field(
        default="auto",
        description="bound on the probability; auto: clopper-pearson for votes, empirical-bernstein for means",
    )
    two_class: bool = Field(default=False, description="bound the runner-up as well")
    rule: Rule = Field(
        default="majority", description="the classifier: the class of most draws, or of the highest mean"
    )
    radii: list[Radius] = Field(
        default=[], description="test these radii, pixel units; none: the largest radius of each image"
    )
    split: SplitName = "test"
    limit: Limit = 0
    skip: Skip = 1

    @field_validator("alpha")
    @classmethod
    def _can_be_bounded(cls, alpha: float) -> float:
        if alpha < MIN_ALPHA:
            raise ValueError(
                f"must be at least {MIN_ALPHA:g}: shared by all images, less is smaller than float64 can bound "
                "a probability with"
            )
        return alpha

    @field_validator("radii")
    @classmethod
    def _in_pixel_units(cls, radii: list[float], info: ValidationInfo) -> list[float]:
        for radius in radii:
            if problem := beyond_pixels(info.data.get("norm", ""), radius):
                raise ValueError(problem)
        return radii


# They say where this machine keeps things, so ``~`` is this machine's, and not that of who reads the recipe elsewhere.
FolderName = Annotated[str, AfterValidator(expand_text)]


class System(Section):
    """Where and how it runs. Folders change no figure; ``seed``, ``precision`` and ``device`` change draws or rounding.

    ``chunk`` changes no draw, and neither do the number of processes and ``limit``: an image has the same draws in any
    batch. Only a library's attack that draws for a whole batch at once (random starts of ``torchattacks/*``) depends on
    the 64 images that it attacks together, and so on ``limit``.
    """

    seed: int = Field(default=0, ge=0, description="the seed of every draw")
    device: str = Field(default="auto", description="`auto`, `cpu`, `cuda`, `cuda:1` or `mps`")
    precision: Literal["auto", "float32", "bf16"] = Field(
        default="auto",
        description="precision of the network's arithmetic; auto: on GPUs bf16 where they have units for it; on a CPU "
        "bf16 for training where it has such units and a short trial shows them faster, and float32 for all figures",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile of the network in training; auto: on CUDA devices where it works"
    )
    recompute: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="whether the backward pass of training computes the activations of the network's blocks again "
        "instead of keeping them; auto: where memory does not suffice",
    )
    chunk: int = Field(
        default=0, ge=0, description="images in one pass of evaluation and attack; 0: what the device has memory for"
    )
    data_dir: FolderName = Field(default="data", min_length=1, description="the folder of the data sets")
    runs_dir: FolderName = Field(default="runs", min_length=1, description="the folder of the runs")
    trackers: list[str] = Field(
        default=[],
        description="training also sends its metrics to these trackers: `tensorboard`, `wandb` or a plugin's; "
        "docs/trackers.md",
    )


class Recipe(Section):
    """A whole recipe, as ``recipe.load.load_recipe`` returns it."""

    schema_version: Literal[1] = Field(default=1, alias="schema", description="version of this format")
    name: str = Field(default="recipe", description="the name of its runs; default: the file's name")
    data: Data
    backbone: Backbone = Backbone()
    projector: Projector = Projector()
    noise: Noise = Noise()
    pretrain: Pretrain = Pretrain()
    finetune: Finetune = Finetune()
    evaluate: Evaluate = Evaluate()
    attack: list[Attack] = Field(default=[Attack()])
    published: list[Published] = Field(default=[])
    certify: Certify = Certify()
    model: Model | None = Field(default=None)
    system: System = System()

    # Dotted key -> where its value came from, such as "recipes/cifar10.toml:12" or "--set".
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __repr__(self) -> str:
        noise = " ".join([self.noise.name, *(f"{name} {value}" for name, value in self.noise.options.items())])
        stages = (f"{stage.objective} for {counted(stage.epochs, 'epoch')}" for stage in (self.pretrain, self.finetune))
        words = [repr(self.name), self.data.name, self.backbone.name, noise, *stages]
        return showable(f"Recipe({', '.join(words)})")

    __str__ = __repr__

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from, by dotted key; values that are not listed are defaults."""
        return self._origins

    def resolved(self) -> Table:
        """Return every key with its value, defaults included, as plain data that loads back to the same recipe."""
        return self.model_dump(by_alias=True, exclude={"model"} if self.model is None else None)


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
