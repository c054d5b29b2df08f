"""What a pre-training starts from in place of random weights: those of a run or a file, or a training that goes on."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.errors import CheckpointError, UsageError, shell_line
from rushkit.files import JSON
from rushkit.models.network import Network, load_weights
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.overrides import parse_changes
from rushkit.recipe.schema import Backbone, Recipe
from rushkit.recipe.toml import Given
from rushkit.registry import BUILTIN_OWNER
from rushkit.results.imported import Origin
from rushkit.results.training import Started
from rushkit.rounding import counted
from rushkit.run.checkpoint import Checkpoint, checkpoint_hash, save_checkpoint
from rushkit.run.folder import Run
from rushkit.run.names import SUFFIX
from rushkit.setup.model import check_channels, recipe_of
from rushkit.setup.resume import KEPT, check_changes, parent_checkpoint


@dataclass(frozen=True)
class Start:
    """The checkpoint that a pre-training starts from.

    Attributes:
        checkpoint: Its tensors and its recipe.
        goes_on: Whether the training of the checkpoint goes on, with its optimizer, its step and what its objective
            remembers; else its weights are taken, and all else begins anew.
        origin: Where the weights of somebody else's file are from; None for a checkpoint of rushkit.
    """

    checkpoint: Checkpoint
    goes_on: bool = False
    origin: Origin | None = None

    @property
    def extended(self) -> Checkpoint | None:
        """The checkpoint of the training that goes on; None where weights alone are taken."""
        return self.checkpoint if self.goes_on else None

    def facts(self) -> dict[str, JSON]:
        """Return what run.json records of it, so that a resumed run has the same."""
        path = str(self.checkpoint.path)
        if self.goes_on:
            return {"extends": path}
        return {"init": path} | ({} if self.origin is None else {"init_origin": self.origin.to_table()})

    def keep(self, run: Run) -> None:
        """Write the weights of somebody else's file into the run's folder, where a resumed run finds them."""
        if self.origin is None or not run.writes:
            return
        kept = run.path / f"init{SUFFIX}"
        save_checkpoint(kept, self.checkpoint.tensors, self.checkpoint.meta)
        run.update(hashes=run.about.hashes | {"init": str(checkpoint_hash(kept))})


def start_of(run: Run) -> Start | None:
    """Return what a resumed pre-training was started from; None for random weights.

    Raises:
        CheckpointError: the checkpoint is gone, or has been replaced by another.
    """
    about = run.about
    if about.extends:
        return Start(parent_checkpoint(run, "extends"), goes_on=True)
    if about.init:
        return Start(parent_checkpoint(run, "init"), origin=about.init_origin)
    return None


def extended_recipe(checkpoint: Checkpoint, changes: list[str], precision: str = "") -> Recipe:
    """Return the recipe of a finished pre-training for more epochs than it had, adapted to this machine.

    Args:
        checkpoint: The last one of the training.
        changes: ``pretrain.epochs``, and changes to settings that do not affect the results.
        precision: That of its passes; empty where it is not known.

    Raises:
        UsageError: it is no finished pre-training, or a change is missing or would affect what it had learnt.
    """
    check_changes("pretrain", changes, "--extend", ("pretrain.epochs",))
    stored, meta, path = recipe_of(checkpoint), checkpoint.meta, checkpoint.path
    had = stored.pretrain.epochs
    if meta.get("stage") != "pretrain" or "optimizer" not in meta or meta.get("epoch") != had:
        raise UsageError(
            f"{path} is not the end of a pre-training, which --extend goes on with",
            "--init takes the weights of any encoder; a training that stopped goes on with --resume",
        )
    given = ({"system.precision": precision} if precision else {}) | dict(parse_changes(changes))
    derived = derive_recipe(stored, given, system=KEPT)
    if derived.pretrain.epochs <= had:
        raise UsageError(
            f"{path} has had {counted(had, 'epoch')}, and is asked for {derived.pretrain.epochs} in all",
            f"--epochs says how many it has in the end, for example {shell_line('--epochs', 2 * had)}",
        )
    return derived


def check_same_teacher(hashed: str | None, named: Checkpoint | None) -> None:
    """Raise UsageError if a training is to go on with another teacher than it had, which ``hashed`` identifies."""
    if hashed is not None and named is not None and named.hash != hashed:
        raise UsageError(
            f"{named.path} is not the teacher that the training had", "name that one with --from: its run.json does"
        )


def say_start(recipe: Recipe, start: Start, run: Run) -> None:
    """Say in the run what it starts from, and that draws are repeated where they are."""
    source = start.checkpoint
    before = recipe_of(source)
    if start.goes_on:
        run.speaker.say(
            f"start: the training of {source.path} goes on after its {counted(before.pretrain.epochs, 'epoch')}"
        )
        return
    run.speaker.say(f"start: the encoder of {source.path}; optimizer and schedule begin anew")
    if source.meta.get("stage") == "pretrain" and start.origin is None and before.system.seed == recipe.system.seed:
        run.speaker.say(
            f"seed {recipe.system.seed} is that of the training before, whose order of images, views and noise come "
            "again; --seed says another"
        )


def check_start(recipe: Recipe, start: Start, channels: int, data: str) -> None:
    """Check that a checkpoint's encoder is that of the recipe, with the same normalisation.

    Args:
        recipe: Of the training that starts.
        start: What it starts from.
        channels: Of the images.
        data: Name of the data set.

    Raises:
        UsageError: another backbone, other options of it, another normalisation, or images of other channels.
    """
    source = start.checkpoint
    check_channels(source, channels, data)
    theirs, ours = recipe_of(source).backbone, recipe.backbone
    if _facts(theirs) != _facts(ours):
        changes = [f"backbone.{key}={_written(value)}" for key, value in _facts(theirs).items()]
        line = shell_line(*(word for change in changes for word in ("--set", change)))
        raise UsageError(
            f"{source.path} has the backbone {_words(theirs)}, and the recipe {_words(ours)}",
            f"for a training with that backbone: {line}",
        )


def take_weights(network: Network, start: Start) -> Started:
    """Load the encoder of a checkpoint, and its projector if it has one of the same names and shapes.

    Args:
        network: The fresh network of a pre-training.
        start: What it starts from.

    Raises:
        CheckpointError: the encoder has other tensors, or tensors of other shapes.
    """
    source = start.checkpoint
    report = load_weights(network.encoder, source.tensors, "encoder.")
    if not report.complete:
        lacking = ", ".join([*report.missing, *report.unexpected][:3])
        raise CheckpointError(f"{source.path} has another encoder than its recipe: {lacking}", "it was altered")
    own = {name: tensor.shape for name, tensor in network.head.state_dict().items()}
    before = f"{network.kind}."
    theirs = {name.removeprefix(before): t.shape for name, t in source.tensors.items() if name.startswith(before)}
    fits = bool(own) and own == theirs
    if fits:
        load_weights(network.head, source.tensors, before)
    return Started(
        source=str(source.path),
        hash=source.hash if start.origin is None else start.origin.sha256,
        way="extension" if start.goes_on else "weights",
        tensors=len(report.loaded),
        projector=fits,
        epochs=int(source.meta["epoch"]) if start.goes_on else None,
        imported=start.origin,
    )


def _facts(backbone: Backbone) -> dict[str, Given]:
    """Return what makes a backbone's function, without the option that brings pretrained weights."""
    options = {key: value for key, value in backbone.options.items() if key != "pretrained"}
    name = backbone.name.removeprefix(f"{BUILTIN_OWNER}/")
    return {"name": name, **options, "mean": list(backbone.mean), "std": list(backbone.std)}


def _words(backbone: Backbone) -> str:
    facts = {key: value for key, value in _facts(backbone).items() if value not in ([], None)}
    return " ".join([str(facts.pop("name")), *(f"{key} {value}" for key, value in facts.items())])


def _written(value: Given) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
