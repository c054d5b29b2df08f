"""The sections of a recipe that say how a stage trains: objective, optimizer, schedule, views."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from rushkit import registries
from rushkit.recipe.radius import beyond_pixels

# pydantic before 2.13 looks for the types of Component's options in the module of a class below it.
from rushkit.recipe.sections import (
    MAX_GRADIENT_DRAWS,
    STEPS,
    Component,
    Epochs,
    Interval,
    LearningRate,
    Limit,
    Milestone,
    Norm,
    Number,
    Option,  # noqa: F401
    OptionName,  # noqa: F401
    Section,
    SplitName,
    WeightDecay,
    check_order,
    check_rising,
)
from rushkit.registry import Registry


class Optimizer(Section):
    """The optimizer."""

    name: Literal["sgd", "adamw", "lars"] = Field(default="sgd", description="the update rule")
    lr: LearningRate
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of sgd and lars; adamw has its own")
    weight_decay: WeightDecay = 0.0
    decay: Literal["all", "weights", "not-norm"] = Field(
        default="all",
        description="what `weight_decay` acts on: everything; tensors of two dimensions or more; or everything but "
        "normalisation layers",
    )
    nesterov: bool = Field(default=False, description="Nesterov's momentum, for sgd only")

    eta: float = Field(
        default=0.001,
        gt=0,
        le=1,
        description="of lars: η of the trust ratio η‖w‖ / (‖g‖ + λ‖w‖) that scales a gradient",
    )
    lr_inside: bool = Field(
        default=False, description="of lars: whether the rate enters the momentum, or multiplies it when it is applied"
    )
    exclude: bool = Field(
        default=False, description="of lars: whether normalisation layers and biases have ratio 1 and no weight decay"
    )
    clip: bool = Field(default=False, description="of lars: whether the ratio is cut to min(ratio / rate, 1)")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.nesterov and self.name == "lars":
            raise ValueError("nesterov is of sgd: lars has no such momentum")
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
    min_lr: float = Field(default=0.001, ge=0, description="learning rate at the end of the cosine")
    warmup_epochs: int = Field(default=0, ge=0, description="epochs of linear rise to `lr` before it; 0: none")
    warmup_from: float = Field(
        default=0.0, ge=0, description="the rate of the first step, or epoch, of that rise; 0: a step or epoch after 0"
    )
    milestones: Annotated[list[Milestone], Field(min_length=1), AfterValidator(check_rising)] = Field(
        default=[0.5, 0.75], description='of `steps`: shares of the run; "2/3" may be written'
    )
    factor: float = Field(default=0.1, gt=0, lt=1, description="of `steps`: of the rate, at each milestone")
    per: Literal["step", "epoch"] = Field(
        default="step", description="whether the rate changes at each step or each epoch"
    )

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
    interpolation: Literal["bilinear", "bicubic"] = Field(
        default="bilinear", description="how a crop is resized; both with antialiasing"
    )
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

    every: int = Field(default=10, ge=0, description="epochs between measurements; 0: none")
    k: int = Field(default=200, ge=1, description="neighbours that vote")
    temperature: float = Field(
        default=0.1, ge=1e-4, description="T of a neighbour's weight exp(cosine / T); at 1e-4 the nearest one decides"
    )
    bank: int = Field(default=0, ge=0, description="training images in the bank; 0: all")
    queries: int = Field(default=0, ge=0, description="images to classify; 0: all")


class Training(Component):
    """The settings that both training stages share."""

    NAMED_BY: ClassVar[str] = "objective"
    REGISTRY: ClassVar[Registry] = registries.objectives

    objective: str = Field(description="the objective of the training")
    split: SplitName = "train"
    labels: str = Field(
        default="",
        description="a run of `rushkit cluster` whose table gives the labels: its name, a unique end of it, its "
        "folder, or a recipe (its newest one); empty: the data set's own in fine-tuning, none in pre-training",
    )
    labels_clusters: list[Annotated[int, Field(ge=2)]] = Field(
        default=[],
        description="the columns of that table, by their numbers of clusters; none: all; fine-tuning takes one column",
    )
    epochs: Epochs
    batch_size: int = Field(default=512, ge=2, description="images in a step, over all ranks")
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    save_every: Interval = Field(default=1, description="epochs between checkpoints; or steps, such as `500steps`")
    keep: int = Field(default=2, ge=2, description="newest checkpoints that are kept; the best is kept as well")

    @model_validator(mode="after")
    def _columns_of_a_table(self) -> Self:
        if self.labels_clusters and not self.labels:
            raise ValueError("labels_clusters chooses columns of a table of clusters: name its run by labels")
        if len(set(self.labels_clusters)) < len(self.labels_clusters):
            raise ValueError("labels_clusters names a column twice")
        return self

    def steps_between_checkpoints(self, steps_per_epoch: int) -> int:
        """Return ``save_every`` in steps."""
        steps = STEPS.fullmatch(str(self.save_every))
        return int(steps[1]) if steps else int(self.save_every) * steps_per_epoch


class Pretrain(Training):
    """Contrastive pre-training, eq. 11."""

    objective: str = Field(default="rush", description="`rush`, `simclr` or a plugin's")
    epochs: Epochs = 1000
    optimizer: PretrainOptimizer = PretrainOptimizer()
    views: ViewSettings = ViewSettings()
    knn: Knn = Knn()


class Extra(Section):
    """Extra training images beside those of the split, such as generated ones: a fixed part of every batch."""

    path: str = Field(
        default="",
        description="an `.npz` file with `image` (uint8, N x H x W x 3) and `label`, below `system.data_dir` or "
        "absolute; empty: no extra images",
    )
    share: float = Field(default=0.7, gt=0, lt=1, description="the part of each batch that they make up")
    smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of their labels that is spread over all classes"
    )
    limit: int = Field(default=0, ge=0, description="number of extra images, the same ones for every seed; 0: all")


class Average(Section):
    """The moving average of the weights, which is then what is measured and saved; batch norm keeps its own figures."""

    decay: float = Field(
        default=0.0, ge=0, lt=1, description="τ of a ← τa + (1 − τ)θ after each batch, smaller at first; 0: no average"
    )


class Validation(Section):
    """An attack on the validation images while fine-tuning: PGD from a random start, whose last step counts."""

    steps: int = Field(default=0, ge=0, description="steps of the attack; 0: no attack, only clean images")
    norm: Norm = Field(default="linf", description="norm of the ball that the attack stays in")
    eps: Number = Field(default=8 / 255, gt=0, description='radius of the ball, pixel units; "8/255" may be written')
    step_size: Number = Field(
        default=0.0, ge=0, description="length of a step, pixel units; 0: eps / 4 in l-inf, else 2 eps / steps"
    )
    samples: int = Field(
        default=1, ge=1, le=MAX_GRADIENT_DRAWS, description="draws m of the noise, for gradient and vote"
    )
    every: int = Field(default=1, ge=1, description="epochs between attacks; the last one is always attacked")
    limit: Limit = 0
    choose: Literal["clean", "robust"] = Field(
        default="clean", description="the accuracy whose maximum marks the best checkpoint"
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="epochs without a better accuracy, of those that `choose` looks at, after which the training ends "
        "early; 0: never",
    )

    @field_validator("eps", "step_size")
    @classmethod
    def _in_pixel_units(cls, length: float, info: ValidationInfo) -> float:
        if problem := beyond_pixels(info.data.get("norm", ""), length):
            raise ValueError(problem)
        return length

    @model_validator(mode="after")
    def _chooses_by_what_is_measured(self) -> Self:
        if self.choose == "robust" and not self.steps:
            raise ValueError("choose = robust needs an attack: steps above 0")
        return self


class Finetune(Training):
    """Training with labels: RUSH's fine-tuning under noise (eq. 12), or another method, from scratch as well."""

    objective: str = Field(
        default="cross-entropy", description="`cross-entropy`, others of docs/objectives.md or a plugin's"
    )
    epochs: Epochs = 25
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    drop_last: bool = Field(
        default=False,
        description="whether an epoch leaves out a last batch that is not full; one of a single image is always left "
        "out",
    )
    freeze: Literal["encoder", "all", "none"] = Field(
        default="encoder",
        description="what stays as pre-trained: `encoder`, all but the biases of its batch norm; `all` of it, so that "
        "only the head trains; `none`",
    )
    head_start: Literal["random", "zero", "source"] = Field(
        default="random",
        description="how the head starts; `zero`: its last linear layer is 0, and so is every logit; `source`: as that "
        "of the run that it starts from, which was trained on the same labels",
    )
    bn: Literal["train", "eval"] = Field(
        default="train", description="whether a frozen encoder's batch norm sees the noisy batches or stays as it is"
    )
    augment: Literal["none", "crop-flip"] = Field(
        default="none", description="augmentation of an image before the noise"
    )
    extra: Extra = Extra()
    average: Average = Average()
    validation: Validation = Validation()
