"""``rushkit import``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.complete import complete_backbones, complete_datasets
from rushkit.cli.options import MOST, Changes, Computing, Output, decimals
from rushkit.cli.verb import verb
from rushkit.errors import UsageError, shell_line

NAME = "import"
EXAMPLE = (
    "Example: rushkit import weights.pt --backbone resnet18 --data cifar10 --mean .4914,.4822,.4465 --std .2,.2,.2"
)


class BranchName(StrEnum):
    """The branches that published pre-training gives BatchNorm sets of their own."""

    ADVERSARIAL = "adversarial"
    CLEAN = "clean"
    LABELS = "labels"


@dataclass(frozen=True)
class Options:
    """What the weights are of, how their tensors are called, and what is made of them."""

    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            help="The network of the weights: resnet18, timm/NAME, torchvision/NAME, ...",
            autocompletion=complete_backbones,
        ),
    ] = "resnet18"
    data: Annotated[
        str,
        typer.Option(
            "--data", help="The data set whose classes the model tells apart.", autocompletion=complete_datasets
        ),
    ] = "cifar10"
    name: Annotated[str | None, typer.Option("--name", help="The name for --from; default: the file's name.")] = None
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="What the model wants subtracted from pixels in [0,1]."),
    ] = None
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="What it then wants them divided by.")] = (
        None
    )
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="OLD=NEW",
            help="Change a name or its beginning; *.OLD=*.NEW anywhere. May be repeated.",
        ),
    ] = None
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="PATTERN", help="Tensors to leave out, such as 'projector*'. May be repeated."
        ),
    ] = None
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="FILE", help="A TOML file of such rules: a table `rename` and a list `ignore`."),
    ] = None
    encoder_only: Annotated[
        bool, typer.Option("--encoder-only", help="Leave the head out; `rushkit finetune` trains another.")
    ] = False
    branch: Annotated[
        BranchName | None,
        typer.Option(
            "--branch",
            case_sensitive=False,
            help="Which set of BatchNorm layers to take from a file with several; default: adversarial.",
        ),
    ] = None
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained", help="Download the weights that timm or torchvision offer, instead of reading a file."
        ),
    ] = False
    check: Annotated[
        int,
        typer.Option(
            "--check",
            metavar="N",
            min=0,
            max=MOST,
            help="Classify N clean images, to see whether normalisation and classes are right.",
        ),
    ] = 500

    def normalisation(self) -> tuple[list[float], list[float]]:
        """Return the numbers of --mean and --std, one for each channel; empty lists where they are not given.

        Raises:
            UsageError: one is no list of numbers, or only one of them is given.
        """
        means, stds = decimals(self.mean, "--mean") or [], decimals(self.std, "--std") or []
        if bool(means) != bool(stds):
            raise UsageError(
                "--mean and --std belong together, and only one is given",
                "for example --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25; --mean 0,0,0 or --std 1,1,1 changes nothing",
            )
        return means, stds

    def run_name(self, weights: str | None) -> str:
        """Return the name that ``--from`` will know: --name, or else that of the file or the backbone."""
        return self.name or (Path(weights).stem if weights else self.backbone.rpartition("/")[2])


@verb
def command(
    *,
    weights: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A state dict: .pt, .pth or .safetensors.")
    ] = None,
    options: Options,
    changes: Changes = None,
    computing: Computing,
    output: Output,
) -> None:
    """Make a run of somebody else's model. It has no noise, unless --set names one."""
    if (weights is None) != options.pretrained:
        raise UsageError(
            "name a file of weights, or --pretrained, and not both", "for example: rushkit import weights.pt"
        )
    from rich.console import Group
    from rich.text import Text

    from rushkit.exchange.import_model import write_import
    from rushkit.exchange.plan import import_recipe, plan_import
    from rushkit.exchange.pretrained import pretrained_weights
    from rushkit.exchange.rules import read_rules
    from rushkit.foreign.file import read_foreign
    from rushkit.recipe.overrides import parse_changes
    from rushkit.report.terminal.tables import record_table
    from rushkit.setup.start import start_run

    speaker, changes = output.speaker(), computing.changes(changes)
    normalisation = options.normalisation()
    recipe = import_recipe(options.run_name(weights), options.data, options.backbone, changes, *normalisation)
    rules = read_rules(options.keys, options.rename or [], options.ignore or [])
    foreign = read_foreign(weights) if weights else pretrained_weights(recipe)
    branch = options.branch
    plan = plan_import(recipe, foreign, rules, options.encoder_only, branch.value if branch else None)
    if "noise.name" not in dict(parse_changes(changes)):
        speaker.say(
            "no noise: the model is taken as it is; one that was trained under noise wants --set noise.name=..."
        )
    with start_run(NAME, plan.recipe, speaker) as run:
        results = write_import(plan, run, options.check)
    next_verb = "finetune" if options.encoder_only else "evaluate"
    next_command = shell_line("rushkit", next_verb, "--from", run.path)
    output.result(results.to_json(), Group(record_table(results), Text(f"run: {run.path}\nnext: {next_command}")))
