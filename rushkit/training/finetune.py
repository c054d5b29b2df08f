"""Training with labels, from a pre-trained encoder or from random weights, on the same or other data.

RUSH's fine-tuning under noise is eq. 12 of its paper, and Algorithm 1, lines 9-14.
"""

from __future__ import annotations

from functools import partial

from rushkit.data.memory import Split
from rushkit.errors import DataError, UsageError
from rushkit.image_size import ImageSize
from rushkit.models.network import (
    LoadReport,
    Network,
    freeze_encoder,
    load_weights,
    num_parameters,
    set_modes,
    zero_head,
)
from rushkit.recipe.load import build_recipe, derive_recipe, transfer_recipe
from rushkit.recipe.schema import Recipe
from rushkit.results.training import Finetuning
from rushkit.rounding import counted
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup import components, networks
from rushkit.setup.model import PSEUDO_LABELS, check_channels
from rushkit.setup.start import machine_of_run, mirror_metrics, run_or_new
from rushkit.setup.subject import fingerprint_of
from rushkit.system import Machine
from rushkit.training.accuracy import end_accuracy
from rushkit.training.average import Average
from rushkit.training.job import TrainingJob
from rushkit.training.labels import Table, recorded_by, table_for
from rushkit.training.loop import train
from rushkit.training.mixing import extra_of, fingerprint_with
from rushkit.training.validation import CLEAN, ROBUST, HeldOut, validated

# In words, what ``finetune.freeze`` makes of the encoder.
_FROZEN = {"encoder": "frozen but for its BatchNorm biases", "all": "frozen", "none": "not frozen"}

# And what ``finetune.head_start`` makes of the head: whether it is new, and how it starts.
_HEADS = {"random": ("new", ""), "zero": ("new", " that starts at zero"), "source": ("from the source", "")}


def finetune(recipe: Recipe, source: Checkpoint | None, run: Run | None = None) -> Finetuning:
    """Train a linear head, and the parameters that the recipe does not freeze, on noisy images.

    Example::

        encoder = open_checkpoint("cifar10")
        results = finetune(load_recipe("cifar10"), encoder)

    Args:
        recipe: The sections data, backbone, noise, finetune and system are used.
        source: The pre-trained checkpoint whose encoder is loaded; None starts from random weights, which makes sense
            only with ``finetune.freeze = "none"`` (a supervised baseline).
        run: The run that checkpoints, metrics and results are written to; a stopped run is resumed. None starts a new
            one.

    Returns:
        The figures of the last epoch, as in results.json.

    Raises:
        CheckpointError: the source's encoder does not fit the recipe's backbone.
        UsageError: it takes images of other channels.
        RushkitError: see ``training.loop.train``.
    """
    settings = recipe.finetune
    with run_or_new(run, "finetune", recipe, None if source is None else source.path) as run:
        machine = machine_of_run(recipe, run)
        mirror_metrics(recipe, run)
        # What starts from a checkpoint, or is resumed, has its weights.
        fetch = source is None and not run.checkpoints.paths()
        job, report, trainable = finetuning_job(recipe, source, machine, fetch, run)
        run.speaker.say(
            f"finetune {recipe.name}: {job.images} in {len(job.classes)} classes, "
            f"{counted(settings.epochs, 'epoch')} of {job.steps_per_epoch} steps, batch {settings.batch_size}; "
            f"noise {recipe.noise.name} on every image; {machine}"
        )
        for words in components.describe_source(job.split):
            run.speaker.say(words)
        run.speaker.say(describe_loading(source, report, with_head=settings.head_start == "source"))
        made, start = _HEADS[settings.head_start]
        run.speaker.say(
            f"{made}: a head for {len(job.classes)} classes{start}; the encoder is {_FROZEN[settings.freeze]}; "
            f"{len(trainable)} tensors with {num_parameters(job.network, trainable=True)} numbers train; "
            f"BatchNorm statistics: {settings.bn}"
        )
        attacked = job.evaluate.protocol() if isinstance(job.evaluate, HeldOut) else None
        if attacked is not None:
            run.speaker.say(f"validation: {attacked.attack}, on {attacked.images}; {attacked.use}")
        if job.average is not None:
            run.speaker.say(f"the weights are averaged: their moving average, decay {settings.average.decay}, is saved")
        job.record_labels(run)
        trained = train(job, run, machine, recipe.system.seed)
        figures = trained.figures
        accuracy = end_accuracy(job, recipe, job.best_by is not None, run.speaker)
        results = Finetuning(
            recipe=recipe.name,
            epochs=trained.epochs,
            source=None if source is None else str(source.path),
            loaded=0 if report is None else len(report.loaded),
            trainable=trainable,
            loss=figures.get("loss"),
            validation_accuracy=figures.get(CLEAN),
            validation_robust_accuracy=figures.get(ROBUST),
            validation_protocol=attacked,
            accuracy=accuracy,
            average_decay=settings.average.decay or None,
            labels=job.pseudo,
            notes=trained.notes,
        )
        return run.write_results(results)


def supervised_recipe(recipe: Recipe, by_itself: bool = False) -> Recipe:
    """Return the recipe of a training that starts from random weights, and so must train all of them.

    Args:
        recipe: The recipe, as changed by flags.
        by_itself: Whether the recipe trains all weights by itself, and keeps its name. Any other is a supervised
            baseline of the same data, and is called ``NAME-supervised``.

    Raises:
        UsageError: the recipe freezes the encoder, which would stay random.
    """
    if recipe.finetune.freeze != "none":
        raise UsageError(
            "an encoder of random weights that is frozen learns nothing",
            "add --set finetune.freeze=none, or start from a pre-trained encoder: rushkit finetune --from RUN",
        )
    if by_itself:
        return recipe
    return build_recipe(recipe.resolved() | {"name": f"{recipe.name}-supervised"}, recipe.origins)


def tuned_recipe(encoder: Recipe, knows_clusters: bool, target: str | None, image_size: ImageSize = 0) -> Recipe:
    """Return the recipe by which an encoder is fine-tuned, before flags: its own, or on a target's data.

    Args:
        encoder: The recipe that the encoder was trained with.
        knows_clusters: Whether it was fine-tuned on the labels of a clustering.
        target: A recipe or a data set; None for the encoder's own data.
        image_size: The size of the images that the encoder has seen; only a target needs it.

    Raises:
        UsageError: there is no such target.
    """
    if knows_clusters:
        # What follows learns classes, unless it is told otherwise.
        encoder = derive_recipe(encoder, {"finetune.labels": "", "finetune.labels_clusters": []}, {})
    return encoder if target is None else transfer_recipe(encoder, target, image_size)


def finetuning_job(
    recipe: Recipe, source: Checkpoint | None, machine: Machine, fetch: bool = False, run: Run | None = None
) -> tuple[TrainingJob, LoadReport | None, list[str]]:
    """Return the job for the loop, the report of loading the source, and the names of trainable parameters.

    ``fetch`` says whether to fetch the pretrained weights that the recipe may ask for; ``run``, which may be a resumed
    one, knows the clustering that its labels come from.
    """
    settings = recipe.finetune
    dataset = components.build_dataset(recipe)
    split = components.load_training_split(recipe, dataset, settings.split)
    table = _clusters(recipe, split, run)
    if split.labels is None and table is None:
        raise DataError(f"{split.name} has no labels", "fine-tune on a labelled split: --split train")
    classes = tuple(dataset.classes) if table is None else table.names
    components.check_several_classes(split.name, len(classes))
    shape = components.image_shape(recipe, dataset)
    if source is not None:
        check_channels(source, shape[0], dataset.name)
    extra = extra_of(recipe, dataset)
    objective = components.build_objective(recipe, settings)
    network = networks.build_network(recipe, objective, shape, len(classes), fetch=fetch)
    report = None if source is None else load_weights(network.encoder, source.tensors, "encoder.")
    if settings.head_start == "zero":
        zero_head(network)
    resumed = run is not None and bool(run.checkpoints.paths())
    if settings.head_start == "source" and not resumed:
        _take_head(network, source, classes, table)
    trainable = freeze_encoder(network, settings.freeze)
    network = networks.channels_last(network.to(machine.device))
    decay = settings.average.decay
    job = TrainingJob(
        recipe=recipe,
        settings=settings,
        network=network,
        objective=objective,
        memory=networks.build_memory(objective, network, settings.batch_size, shape, recipe.system.seed),
        split=split,
        fingerprint=fingerprint_with(split, extra),
        image_size=shape[1],
        classes=classes,
        views=components.training_views(settings.augment),
        noise=components.build_noise(recipe),
        drop_last=settings.drop_last,
        set_modes=partial(set_modes, network, training=True, bn=settings.bn),
        extra=extra,
        average=Average(network, decay) if decay else None,
        labels=split.labels,
        columns=(len(classes),),
    ).with_table(table)
    # Validation images have classes, which are nothing to tell clusters by.
    speaker = None if run is None else run.speaker
    measured = validated(job, dataset, machine, speaker) if table is None else job
    return measured, report, trainable


def _clusters(recipe: Recipe, split: Split, run: Run | None) -> Table | None:
    """Return the pseudo-labels of a fine-tuning; None where it has the data set's labels.

    Raises:
        UsageError: several columns of them, or together with what knows classes alone.
    """
    settings = recipe.finetune
    if not settings.labels:
        return None
    checks = settings.validation
    of_classes = {
        "extra.path": settings.extra.path,
        "validation.steps": checks.steps,
        "validation.patience": checks.patience,
    }
    for key, said in of_classes.items():
        if said:
            raise UsageError(
                f"finetune.{key} = {said} is about images with classes, and finetune.labels names clusters",
                "leave one of them out",
            )
    table = table_for(recipe, settings, split, fingerprint_of(split), recorded_by(run))
    assert table is not None
    if len(table.columns) > 1:
        raise UsageError(
            f"finetune.labels: {settings.labels} has {len(table.columns)} columns, and fine-tuning takes one",
            f"choose one, for example --set finetune.labels_clusters=[{table.columns[0]}]",
        )
    return table


def _take_head(network: Network, source: Checkpoint | None, classes: tuple[str, ...], table: Table | None) -> None:
    """Load the head of the source. Raises UsageError if it has none, or one for other classes or clusters."""
    hint = "--set finetune.head_start=zero starts with a new one"
    if source is None or not any(name.startswith("head.") for name in source.tensors):
        where = "random weights" if source is None else source.path
        raise UsageError(f"finetune.head_start = source: {where} has no head to start from", hint)
    clustering = source.meta.get(PSEUDO_LABELS, {})
    own = {} if table is None else table.origin.to_table()
    # The clusters of two tables have the same names, and nothing else in common.
    alike = all(clustering.get(key) == own.get(key) for key in ("table", "clusters"))
    if not alike or source.meta.get("classes") != list(classes):
        raise UsageError(f"finetune.head_start = source: the head of {source.path} is for other classes", hint)
    load_weights(network.head, source.tensors, "head.")


def describe_loading(source: Checkpoint | None, report: LoadReport | None, with_head: bool = False) -> str:
    """Return a sentence on which tensors were loaded from the source and which were not, ``with_head`` or without."""
    if source is None or report is None:
        return "the encoder starts from random weights"
    left = sorted({name.partition(".")[0] for name in source.tensors} - {"encoder", *(["head"] if with_head else [])})
    head = " and the head" if with_head else ""
    sentence = (
        f"loaded {len(report.loaded)} encoder tensors{head} from {source.path}; "
        f"not loaded: {', '.join(left) or 'nothing'}"
    )
    if report.missing:
        sentence += f"; not in it, so fresh: {', '.join(report.missing[:5])}"
    if report.unexpected:
        sentence += f"; no place for: {', '.join(report.unexpected[:5])}"
    return sentence
