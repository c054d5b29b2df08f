"""The section [model]: a classifier that rushkit did not build, as ``--model`` names it.

It is the record of what was measured. Reading it runs nothing: code is only run where the command line names it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rushkit.recipe.sections import Option, OptionName, Section

# What a model returns for an image: real scores, shares that add up to 1, or the class alone.
Answer = Literal["logits", "probabilities", "labels"]


class Model(Section):
    """Somebody's classifier, in Python or as an ONNX file. Only the flag ``--model`` makes rushkit run it."""

    code: str = Field(
        default="",
        description="`FILE.py:NAME`, `MODULE:NAME` of an installed package, or `onnx:FILE`; NAME is a torch module, or "
        "a callable that returns one; none: a module in memory, or the run that `--from` named",
    )
    fronts: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[], description="`FILE.py:NAME` of callables that change the images, the first of them first"
    )
    arguments: dict[OptionName, Option] = Field(default={}, description="arguments of the callable, by name")
    weights: str = Field(
        default="", description="a .safetensors, .pt or .pth file, loaded into the module; none: as it is"
    )
    classes: list[str] = Field(default=[], description="names in the order of the outputs; none: the data's")
    mean: list[float] = Field(
        default=[], description="one number a channel, pixel units, where the module does not normalise; none: it does"
    )
    std: list[Annotated[float, Field(gt=0)]] = Field(default=[], description="one number a channel, pixel units")
    output: str = Field(
        default="", description="key or index of the logits where the module returns several things; none: found"
    )
    answers: Answer = Field(
        default="logits", description="what the module returns: `logits`, `probabilities`, `labels`"
    )
    random: Literal["auto", "yes", "no"] = Field(
        default="auto", description="whether two passes over an image may differ; auto: it is tried"
    )

    @model_validator(mode="after")
    def _one_std_a_mean(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std need one number a channel each")
        return self

    @property
    def short(self) -> str:
        """The code without its folders: ``"defence.py:Net"``."""
        return short(self.code)


def short(code: str) -> str:
    """Return what names code without its folders: ``"defence.py:Net"``."""
    head, colon, name = code.rpartition(":")
    return f"{head.replace(chr(92), '/').rpartition('/')[2]}{colon}{name}"
