"""``rushkit import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.complete import complete_backbones, complete_datasets
from rushkit.cli.options import MOST, Changes, Debug, Json, Output, Quiet, Verbose
from rushkit.errors import UsageError, shell_line

NAME = "import"
EXAMPLE = (
    "Example: rushkit import weights.pt --backbone resnet18 --data cifar10 --mean .4914,.4822,.4465 --std .2,.2,.2"
)


def command(
    weights: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A state dict: .pt, .pth or .safetensors.")
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            help="What the weights are of: resnet18, timm/NAME, torchvision/NAME, ...",
            autocompletion=complete_backbones,
        ),
    ] = "resnet18",
    data: Annotated[
        str,
        typer.Option(
            "--data", help="The data set whose classes the model tells apart.", autocompletion=complete_datasets
        ),
    ] = "cifar10",
    name: Annotated[str | None, typer.Option("--name", help="What --from will call it; else the file's name.")] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="What the model wants subtracted from pixels in [0,1]."),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", metavar="R,G,B", help="What it then wants them divided by.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="OLD=NEW",
            help="What is called otherwise here: a name or its beginning; *.OLD=*.NEW anywhere. Again and again.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="PATTERN", help="Tensors to leave out, such as 'projector*'. Again and again."
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="FILE", help="A TOML file of such rules: a table `rename` and a list `ignore`."),
    ] = None,
    encoder_only: Annotated[
        bool, typer.Option("--encoder-only", help="Leave the head out; `rushkit finetune` trains another.")
    ] = False,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="No file: the weights that timm or torchvision offer for download.")
    ] = False,
    check: Annotated[
        int,
        typer.Option(
            "--check", metavar="N", min=0, max=MOST, help="Classify N clean images to see whether all is right."
        ),
    ] = 500,
    changes: Changes = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make a run of somebody else's model. It has no noise, unless --set names one."""
    if (weights is None) != pretrained:
        raise UsageError(
            "name a file of weights, or --pretrained, and not both", "for example: rushkit import weights.pt"
        )
    from rich.console import Group
    from rich.text import Text

    from rushkit.exchange.foreign_file import read_foreign
    from rushkit.exchange.foreign_names import read_rules
    from rushkit.exchange.import_model import import_model, import_recipe, plan_import, pretrained_weights
    from rushkit.recipe.overrides import parse_changes
    from rushkit.report.imported import import_table
    from rushkit.setup.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    means, stds = _channels(mean, "--mean"), _channels(std, "--std")
    if bool(means) != bool(stds):
        raise UsageError(
            "--mean and --std belong together, and only one is given",
            "for example --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25; --mean 0,0,0 or --std 1,1,1 changes nothing",
        )
    called = name or (Path(weights).stem if weights else backbone.rpartition("/")[2])
    recipe = import_recipe(called, data, backbone, changes or [], means, stds)
    rules = read_rules(keys, rename or [], ignore or [])
    found = read_foreign(weights) if weights else pretrained_weights(recipe)
    plan = plan_import(recipe, found, rules, encoder_only)
    if "noise.name" not in dict(parse_changes(changes or [])):
        speaker.say(
            "no noise: the model is taken as it is; one that was trained under noise wants --set noise.name=..."
        )
    with start_run("import", plan.recipe, speaker, parent=None) as run:
        results = import_model(plan, run, check)
    following = shell_line("rushkit", "finetune" if encoder_only else "evaluate", "--from", run.path)
    output.result(results, Group(import_table(results), Text(f"run: {run.path}\nnext: {following}")))


def _channels(text: str | None, option: str) -> list[float]:
    """``"0.49,0.48,0.45"`` -> three numbers; none for None."""
    if text is None:
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of numbers", f"for example {option} 0.5,0.5,0.5") from None
