"""The options for somebody's classifier: what makes it, how it is read, and the data that it is measured on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.options import From, decimals
from rushkit.errors import UsageError, shell_line, shorten
from rushkit.named_code import FLAG, FRONT, Code, name_code

if TYPE_CHECKING:
    from rushkit.recipe.overrides import Override
    from rushkit.recipe.schema import Recipe
    from rushkit.recipe.toml import Toml
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker
    from rushkit.setup.given import GivenModel, Purpose

# More classes than any data set has.
_MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class Measured:
    """What is measured: a model of rushkit's, or somebody's classifier, with how it is made and read."""

    source: From = None
    model: Annotated[
        str | None,
        typer.Option(
            FLAG,
            metavar="FILE.py:NAME",
            help="Anybody's classifier: a torch module, or a callable that returns one; MODULE:NAME; onnx:FILE. With "
            "--answers also a callable from numpy images.",
        ),
    ] = None
    fronts: Annotated[
        list[str] | None,
        typer.Option(
            FRONT,
            metavar="FILE.py:NAME",
            help="A defence before the model: a callable from images to images. May be repeated.",
        ),
    ] = None
    model_arguments: Annotated[
        list[str] | None,
        typer.Option("--model-arg", metavar="KEY=VALUE", help="An argument of that callable; may be repeated."),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="FILE", help="A .safetensors or .pt file to load into the module."),
    ] = None
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="NAME|PATH", help="A data set, or a folder or file of images, to measure on."),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", metavar="NAME,...|N", help="The classes in the order of the outputs; default: the data's."
        ),
    ] = None
    mean: Annotated[
        str | None, typer.Option("--mean", metavar="R,G,B", help="Normalisation before the module: subtract this.")
    ] = None
    std: Annotated[
        str | None, typer.Option("--std", metavar="R,G,B", help="Normalisation before the module: then divide by this.")
    ] = None
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size",
            metavar="N|HxW",
            help="Resize the images to N x N, or those of a folder to H x W; default: the data's size.",
        ),
    ] = None
    output_name: Annotated[
        str | None,
        typer.Option("--output", metavar="NAME", help="Which of several outputs has the logits: its key or index."),
    ] = None
    answers: Annotated[
        str | None,
        typer.Option(
            "--answers",
            metavar="KIND",
            help="What it returns: logits, probabilities or labels; with the last two it may take float32 numpy images "
            "(N, C, H, W).",
        ),
    ] = None

    def keys(self) -> list[Override]:
        """Return the keys of the recipe that the flags set, but for the code."""
        return [
            *self._arguments(),
            ("model.weights", self.weights and str(_absolute(self.weights)), "--weights"),
            ("model.classes", _classes(self.classes), "--classes"),
            ("model.mean", decimals(self.mean, "--mean"), "--mean"),
            ("model.std", decimals(self.std, "--std"), "--std"),
            ("model.output", self.output_name, "--output"),
            ("model.answers", self.answers, "--answers"),
            ("data.image_size", _input_size(self.input_size), "--input-size"),
        ]

    def _arguments(self) -> list[Override]:
        from rushkit.recipe.overrides import parse_changes

        arguments: list[Override] = []
        for said in self.model_arguments or []:
            name, equals, _ = said.partition("=")
            if not equals or not name.strip().isidentifier():
                raise UsageError(f"--model-arg {shorten(said)!r} is not KEY=VALUE", "for example --model-arg depth=18")
            key, value = parse_changes([f"model.arguments.{said}"])[0]
            arguments.append((key, value, "--model-arg"))
        return arguments

    def flags(self) -> dict[str, object]:
        """Return the flags that only a new run takes: a resumed one knows them, but for the code."""
        return {"--from": self.source, **{flag: value for _, value, flag in self.keys()}, "--data": self.data}

    def check(self, resumes: bool = False) -> None:
        """Raise UsageError for options of a model without ``--model``, and for a run beside it."""
        from rushkit.recipe.command_line import check_command_line

        if resumes:
            return
        if self.model is None:
            if given := [flag for flag, value in {**self.flags(), "--from": None}.items() if value is not None]:
                noise = f"did you mean {shell_line('--set', f'noise.std={self.std}')}? " if given[0] == "--std" else ""
                raise UsageError(
                    f"{given[0]} without {FLAG}",
                    f"{noise}{given[0]} says how a classifier of {FLAG} FILE.py:NAME is read; of a run its recipe says "
                    "that, and --set changes it",
                )
            return
        if self.source is not None:
            raise UsageError(f"--from and {FLAG} both name a model", "leave one of them out")
        check_command_line([], [("model.code", self.model, FLAG), *self.keys()])

    def name(self) -> Code | None:
        """Take down that the user names the code, and return that of the model.

        Raises:
            UsageError: there is no such file, or a name is missing.
        """
        self.name_fronts()
        return None if self.model is None else name_code(self.model)

    def name_fronts(self) -> list[str]:
        """Take down that the user names the code of the fronts, and return them by their whole paths."""
        return [str(name_code(front, FRONT)) for front in self.fronts or ()]


def resolve_given(
    given: Measured, changes: list[str] | None, speaker: Speaker, flags: list[Override], purpose: Purpose = "data"
) -> tuple[Recipe, Checkpoint]:
    """Return the recipe that somebody's classifier is measured by, and the classifier.

    Args:
        given: The flags.
        changes: As for ``--set``.
        speaker: Says what is measured.
        flags: Other flags of the command.
        purpose: As for ``given_model``; single image files need no data set.

    Raises:
        UsageError: no data is named, or as ``setup.given.given_model``.
    """
    from rushkit.recipe.load import build_recipe, derive_recipe
    from rushkit.recipe.overrides import parse_changes
    from rushkit.setup.given import given_model, of_size

    code, fronts = given.name(), given.name_fronts()
    assert code is not None
    named = dict(parse_changes(changes or [])).get("data.name")
    data: dict[str, Toml]
    if given.data is not None:
        data = data_options(given.data)
    elif isinstance(named, str):
        data = {"name": named}
    elif purpose == "files":
        # Of the folder there are the options that say how an image is read.
        data = {"name": "folder"}
    else:
        raise UsageError(
            f"{FLAG} needs images to measure the classifier on",
            "--data NAME or PATH; `rushkit data list` shows the names",
        )
    section: dict[str, Toml] = {"code": str(code), "fronts": [*fronts]}
    base = build_recipe({"name": _run_name(code), "data": data, "noise": {"name": "none"}, "model": section})
    recipe = derive_recipe(base, changes or [], flags=[*given.keys(), *flags])
    has_data = given.data is not None or isinstance(named, str)
    model = given_model(recipe, "data" if purpose == "files" and has_data else purpose)
    _announce(model, speaker)
    if model.own_size:
        side = f"{model.own_size}x{model.own_size}"
        speaker.say(f"images are brought to {side}, which {model.path} names for itself; --input-size says another")
        recipe = of_size(recipe, model.own_size)
    return recipe, model


def put_fronts(given: Measured, recipe: Recipe, checkpoint: Checkpoint, speaker: Speaker) -> tuple[Recipe, Checkpoint]:
    """Return the recipe and the classifier of a run behind the fronts that the user names; without fronts, as they are.

    Raises:
        UsageError: ``--set`` names code, or as ``setup.fronted.fronted``.
    """
    from rushkit.setup.fronted import fronted, with_fronts

    if recipe.model is not None:
        raise UsageError(
            "the keys of [model] are not those of a run", f"{FLAG} FILE.py:NAME measures a classifier of your own"
        )
    if not given.fronts:
        return recipe, checkpoint
    recipe = with_fronts(recipe, given.name_fronts())
    model = fronted(recipe, checkpoint)
    _announce(model, speaker)
    return recipe, model


def _announce(model: GivenModel, speaker: Speaker) -> None:
    """Say what is measured, and what its trial showed."""
    parts = [*(front.file for front in model.facts.fronts), str(model.path)]
    kind = ", random by itself" if model.random else ""
    speaker.say(f"model: {' before '.join(parts)}, {model.facts.hash[:12]}{kind}")
    for note in model.notes:
        speaker.warn(f"{model.facts.code}: {note}")


def data_options(spec: str) -> dict[str, Toml]:
    """Return the section [data] for a data set's name, or for a folder or a file of images."""
    from rushkit.data import default_root
    from rushkit.data.recognise import recognise

    found = recognise(spec, default_root())
    # None of the images was trained on here, so those of no named split are all for the test.
    holdout: dict[str, Toml] = {"holdout": 1} if found.name in ("folder", "npz", "parquet") else {}
    return {"name": found.name, **found.options, **(holdout if found.options else {})}


def _input_size(said: str | None) -> int | list[Toml] | None:
    """Return the size of ``--input-size``. Raises UsageError for what is none."""
    if said is None:
        return None
    from rushkit.image_size import size_from_json, size_to_json
    from rushkit.recipe.schema import MAX_IMAGE_SIZE

    numbers = [int(side) if side.isascii() and side.isdecimal() else 0 for side in said.split("x")]
    size = size_from_json(numbers * 2 if len(numbers) == 1 else numbers, 1, MAX_IMAGE_SIZE)
    if size is None:
        raise UsageError(
            f"--input-size is a number from 1 to {MAX_IMAGE_SIZE}, or two such as 24x16 (got {shorten(repr(said))})",
            "for example --input-size 224, or height and width: --input-size 240x320",
        )
    return size_to_json(size)


def _absolute(path: str) -> Path:
    from rushkit.paths import expand

    return expand(path).absolute()


def _run_name(code: Code) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", code.key.replace(".py:", "-")).strip("-").lower() or "model"


def _classes(said: str | None) -> list[str] | None:
    """``"cat,dog"`` -> its names, ``"10"`` -> ``["0", .., "9"]``, a file -> its lines."""
    if said is None:
        return None
    if said.isdecimal() and 2 <= int(said[:8]) <= _MOST_CLASSES and len(said) < 8:
        return [str(number) for number in range(int(said))]
    from rushkit.paths import is_file, read_text, reason

    path = _absolute(said)
    if is_file(path):
        try:
            names = [line.strip() for line in read_text(path, 1 << 24).splitlines() if line.strip()]
        except OSError as error:
            raise UsageError(f"--classes {shorten(said)} cannot be read: {reason(error)}", "one name a line") from error
    else:
        names = [name.strip() for name in said.split(",")]
    if len(names) < 2 or not all(names):
        raise UsageError(
            f"--classes {shorten(said)!r} are no two classes or more",
            "for example --classes cat,dog, --classes 10, or a file with one name a line",
        )
    return names
