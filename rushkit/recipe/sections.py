"""What the tables of a recipe have in common: the values that keys may hold, and the form of a table."""

from __future__ import annotations

import keyword
import math
import re
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rushkit.ratio import number
from rushkit.recipe.toml import Table
from rushkit.registry import Registry


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
STEPS = re.compile(r"([1-9][0-9]{0,17})steps")


def check_option_name(name: str) -> str:
    """Accept what can name a Python argument; factories with ``**options`` check no names."""
    if _IDENTIFIER.fullmatch(name) and not keyword.iskeyword(name):
        return name
    raise ValueError("must be a name such as width or drop_rate")


def check_interval(value: Any) -> Any:
    """Accept a number of epochs, such as 5, or a number of steps, such as ``"500steps"``."""
    if isinstance(value, str) and STEPS.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("must be a number of epochs such as 5, or of steps such as 500steps")


def check_order(bounds: list[float]) -> list[float]:
    """Check that the lower bound comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError("must be a lower and an upper bound, in this order")
    return bounds


def all_corruptions(names: Any) -> Any:
    """``"all"`` -> every kind of corruption; names are taken with ``_`` for ``-``, as the published files have them."""
    if names in ("all", ["all"]):
        return list(get_args(Corruption))
    if isinstance(names, list):
        return [name.lower().replace("_", "-") if isinstance(name, str) else name for name in names]
    return names


def check_translation(value: Any) -> Any:
    """Accept a number of pixels, such as 3, or ``"auto"``."""
    try:
        number = parse_number(value) if value != "auto" else 0.0
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
        raise ValueError("must be a number of pixels, 0 or more, or auto")
    return value if value == "auto" else float(number)


def check_distinct(values: list[Any]) -> list[Any]:
    """Check that no value comes twice."""
    if len({str(value) for value in values}) < len(values):
        raise ValueError("must not have one of them twice")
    return values


def check_odd(counts: list[int]) -> list[int]:
    """Check that a grid has no shift among its points, and not more points than can be searched."""
    if any(count % 2 == 0 for count in counts):
        raise ValueError("must be odd numbers, so that no shift is a point of the grid")
    if math.prod(counts) > MAX_POINTS:
        raise ValueError(f"must have {MAX_POINTS} points at most")
    return counts


def check_rising(shares: list[float]) -> list[float]:
    """Check that each share of the run comes after the one before it."""
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise ValueError("must rise from each to the next")
    return shares


OptionName = Annotated[str, AfterValidator(check_option_name)]
Option = Annotated[Any, AfterValidator(check_option)]
Interval = Annotated[int | str, BeforeValidator(check_interval)]
# What may be written as text too says so in its JSON Schema.
Number = Annotated[float, BeforeValidator(parse_number, json_schema_input_type=float | str)]
Radius = Annotated[float, Field(ge=0), BeforeValidator(parse_number, json_schema_input_type=float | str)]
Translation = Annotated[float | str, BeforeValidator(check_translation)]
Milestone = Annotated[float, BeforeValidator(parse_number, json_schema_input_type=float | str), Field(gt=0, lt=1)]
Norm = Literal["linf", "l2", "l1"]
Corruption = Literal[
    "gaussian-noise",
    "shot-noise",
    "impulse-noise",
    "defocus-blur",
    "glass-blur",
    "motion-blur",
    "zoom-blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic-transform",
    "pixelate",
    "jpeg-compression",
]
Rule = Literal["majority", "mean"]

# Bounds on what takes memory: anybody's recipe or checkpoint may ask for more than any machine has.
MAX_IMAGE_SIZE = 2048
MAX_WIDTH = 1 << 18
MAX_LAYERS = 16
MAX_DRAWS = 1_000_000
MAX_GRADIENT_DRAWS = 10_000
MAX_POINTS = 100_000
# What images and classes share of it is still an alpha that bounds take (statistics.SMALLEST_ALPHA).
MIN_ALPHA = 1e-290

# Keys that several sections have.
SplitName = Annotated[
    str, Field(description="part of the data set: `train`, `test`, `validation` or another of its own")
]
Limit = Annotated[int, Field(ge=0, description="number of images, the same ones for every seed; 0: all")]
Skip = Annotated[int, Field(ge=1, description="look at every n-th image, before the limit; 1: every image")]
Draws = Annotated[
    list[Annotated[int, Field(ge=1, le=MAX_DRAWS)]],
    Field(min_length=1, description="numbers m of noise draws a prediction; each is evaluated"),
]
# An attack keeps what each of them has passed through, for the gradient.
GradientDraws = Annotated[
    list[Annotated[int, Field(ge=1, le=MAX_GRADIENT_DRAWS)]],
    Field(min_length=1, description="numbers m of noise draws a prediction; each is evaluated"),
]
Corruptions = Annotated[
    list[Corruption],
    BeforeValidator(all_corruptions, json_schema_input_type=list[str] | Literal["all"]),
    AfterValidator(check_distinct),
    Field(
        description="kinds of common corruption that accuracy is measured under too, or `all`; none: it is not measured"
    ),
]
Strengths = Annotated[
    list[Annotated[int, Field(ge=1, le=5)]],
    AfterValidator(check_distinct),
    Field(min_length=1, description="strengths of the corruptions"),
]
GridCounts = Annotated[
    list[Annotated[int, Field(ge=1)]],
    AfterValidator(check_odd),
    Field(min_length=3, max_length=3, description="numbers of rotations, of translations to the right, and down"),
]
LearningRate = Annotated[float, Field(gt=0, description="largest learning rate, of the whole batch")]
WeightDecay = Annotated[float, Field(ge=0, description="l2 penalty on the weights; decoupled in adamw")]
Epochs = Annotated[int, Field(ge=1, description="passes over the training images")]


class Section(BaseModel):
    """A table of a recipe: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)

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
    # Those that it may name.
    REGISTRY: ClassVar[Registry]
    __pydantic_extra__: dict[OptionName, Option]

    @model_validator(mode="before")
    @classmethod
    def _named_without_case(cls, table: Any) -> Any:
        name = table.get(cls.NAMED_BY) if isinstance(table, dict) else None
        return table | {cls.NAMED_BY: cls.REGISTRY.written(name)} if isinstance(name, str) else table

    @property
    def options(self) -> Table:
        """The keys that belong to the component."""
        return dict(self.model_extra or {})
