"""Pre-training without labels: eq. 11 of the RUSH paper, Algorithm 1, lines 2 to 8, or learning from a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from rushkit.data import Dataset
from rushkit.data.memory import Split, limit
from rushkit.models.network import num_parameters, set_modes
from rushkit.recipe.schema import Knn, Recipe
from rushkit.results.training import KnnProtocol, Pretraining
from rushkit.rounding import counted
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker
from rushkit.setup import components, networks
from rushkit.setup.start import machine_of, machine_of_run, mirror_metrics, run_or_new
from rushkit.setup.subject import fingerprint_of
from rushkit.system import Machine
from rushkit.training import knn
from rushkit.training.job import TrainingJob
from rushkit.training.labels import Table, check_labels, recorded_by, table_for
from rushkit.training.loop import train
from rushkit.training.starting import Start, check_start, say_start, take_weights
from rushkit.training.teacher import check_teacher, load_teacher, teacher_record


def pretrain(
    recipe: Recipe, run: Run | None = None, teacher: Checkpoint | None = None, start: Start | None = None
) -> Pretraining:
    """Pre-train the recipe's encoder on its data, without labels.

    Example::

        results = pretrain(load_recipe("digits"))
        print(results.loss, results.run)
        student = pretrain(load_recipe("deacl-digits"), teacher=open_checkpoint("digits"))
        again = pretrain(load_recipe("digits", ["system.seed=1"]), start=Start(open_checkpoint("digits")))

    Args:
        recipe: The sections data, backbone, projector, noise, pretrain and system are used.
        run: The run that checkpoints, metrics and results are written to; a stopped run is resumed. None starts a new
            one.
        teacher: A checkpoint with the encoder to learn from, for an objective that has a teacher.
        start: The weights to start from; None: random ones, or those that the backbone brings.

    Returns:
        The figures of the last epoch, as in results.json.

    Raises:
        UsageError: a teacher or a clustering is missing, is one too many, or does not suit the recipe; or the weights
            to start from are of another backbone.
        RushkitError: see ``training.loop.train``.
    """
    settings = recipe.pretrain
    check_teacher(recipe, None if teacher is None else str(teacher.path))
    check_labels(recipe)
    asked = None if start is None else start.facts()
    with run_or_new(run, "pretrain", recipe, None if teacher is None else teacher.path, asked) as run:
        machine = machine_of_run(recipe, run)
        mirror_metrics(recipe, run)
        # What is resumed has its weights.
        fetch = not run.checkpoints.paths() and start is None
        job, dataset = pretraining_job(
            recipe, machine, fetch=fetch, teacher=load_teacher(recipe, teacher), run=run, start=start
        )
        if start is not None:
            start.keep(run)
            say_start(recipe, start, run)
        searched = neighbours(recipe, dataset, job.split)
        if searched is not None:
            evaluate = partial(_knn_accuracy, job, settings.knn, searched, machine_of(recipe), run.speaker)
            # Test images choose nothing, not even a checkpoint.
            chooses = _query_split(recipe, dataset) == "validation"
            job = job.with_evaluation(evaluate, "knn_accuracy" if chooses else None)
        millions = num_parameters(job.network.encoder) / 1e6
        run.speaker.say(
            f"pretrain {recipe.name}: {components.describe_split(job.split)}, {counted(settings.epochs, 'epoch')} of "
            f"{job.steps_per_epoch} steps, batch {settings.batch_size}; {recipe.backbone.name} with {millions:.2f} M "
            f"parameters; objective {settings.objective}, noise {recipe.noise.name}; {machine}"
        )
        for words in components.describe_source(job.split):
            run.speaker.say(words)
        record = None if teacher is None else teacher_record(teacher)
        if record is not None:
            run.speaker.say(f"the teacher: {record.in_words()}")
        job.record_labels(run)
        trained = train(job, run, machine, recipe.system.seed)
        figures = trained.figures
        results = Pretraining(
            recipe=recipe.name,
            epochs=trained.epochs,
            loss=figures.get("loss"),
            knn_accuracy=figures.get("knn_accuracy"),
            knn_protocol=searched and knn_protocol(settings.knn, *searched, chooses=job.best_by is not None),
            teacher=record,
            started=job.started,
            labels=job.pseudo,
            notes=trained.notes,
        )
        return run.write_results(results)


def pretraining_job(
    recipe: Recipe,
    machine: Machine,
    split: Split | None = None,
    fetch: bool = False,
    teacher: nn.Module | None = None,
    run: Run | None = None,
    table: Table | None = None,
    start: Start | None = None,
) -> tuple[TrainingJob, Dataset]:
    """Return the job for the training loop, and the data set.

    Args:
        recipe: The sections data, backbone, projector, noise, pretrain and system are used.
        machine: Device and precision.
        split: Images to train on in place of those of the data set.
        fetch: Whether to fetch the pretrained weights that the recipe may ask for.
        teacher: The encoder to learn from, in eval mode and without gradients, for an objective that has a teacher.
        run: The run of the training, which may be a resumed one; None for none.
        table: Labels in place of those of the clustering that the recipe names.
        start: The weights to start from; None for those that are drawn or fetched.

    Raises:
        CheckpointError: the weights to start from are altered.
        UsageError: they are of another backbone; the teacher does not suit the recipe's network; ``pretrain.labels``
            names no clustering of these images, and the objective learns labels; or it names one, and the objective
            learns none.
    """
    settings = recipe.pretrain
    dataset = components.build_dataset(recipe)
    split = components.load_training_split(recipe, dataset, settings.split) if split is None else split
    shape = (split.images.shape[1], components.image_size(recipe, dataset))
    objective = components.build_objective(recipe, settings)
    check_labels(recipe)
    content = fingerprint_of(split)
    table = table or table_for(recipe, settings, split, content, recorded_by(run))
    columns = (len(dataset.classes),) if table is None else table.columns
    network = networks.build_network(recipe, objective, shape, columns, fetch=fetch)
    started = None
    if start is not None:
        check_start(recipe, start, shape[0], dataset.name)
        # Before the objective copies the network into its memory.
        started = take_weights(network, start)
    network = networks.channels_last(network.to(machine.device))
    teacher = teacher and networks.channels_last(teacher.to(machine.device))
    job = TrainingJob(
        recipe=recipe,
        settings=settings,
        network=network,
        objective=objective,
        memory=networks.build_memory(objective, network, settings.batch_size, shape, recipe.system.seed, teacher),
        split=split,
        fingerprint=content,
        image_size=shape[1],
        classes=tuple(dataset.classes),
        views=components.contrastive_views(recipe, shape[1]),
        noise=components.build_noise(recipe),
        # NT-Xent's difficulty depends on the number of negatives, so every batch is a full one.
        drop_last=True,
        set_modes=partial(set_modes, network, training=True, bn="train"),
        teacher=teacher,
        columns=columns,
        extends=None if start is None else start.extended,
        started=started,
    )
    return job.with_table(table), dataset


def neighbours(recipe: Recipe, dataset: Dataset, training: Split) -> tuple[Split, Split] | None:
    """Return (bank, queries) of the nearest-neighbour accuracy: training images, and validation or else test images.

    Returns None if the recipe switches it off, or there are no labels.
    """
    settings = recipe.pretrain.knn
    if not settings.every or "train" not in dataset.splits:
        return None
    bank = training if recipe.pretrain.split == "train" else components.load_split(recipe, dataset, "train")
    query_split = _query_split(recipe, dataset)
    if query_split == "test" and "test" not in dataset.splits:
        return None
    queries = components.load_split(recipe, dataset, query_split)
    if bank.labels is None or queries.labels is None:
        return None
    return limit(bank, settings.bank), limit(queries, settings.queries)


def _query_split(recipe: Recipe, dataset: Dataset) -> str:
    return "validation" if recipe.data.validation or "validation" in dataset.splits else "test"


def knn_protocol(settings: Knn, bank: Split, queries: Split, chooses: bool = False) -> KnnProtocol:
    """Return a record of how the nearest-neighbour accuracy is measured, and whether it picks the best checkpoint."""
    return KnnProtocol(
        k=min(settings.k, len(bank)),
        temperature=settings.temperature,
        bank=f"{len(bank)} clean images of {bank.name}",
        queries=f"{len(queries)} clean images of {queries.name}",
        use="shown; the best checkpoint is chosen by it" if chooses else "shown only; nothing is chosen by it",
    )


def _knn_accuracy(
    job: TrainingJob, settings: Knn, searched: tuple[Split, Split], machine: Machine, speaker: Speaker, epochs: int
) -> Iterator[tuple[str, float]]:
    """Measure the nearest-neighbour accuracy every few epochs, and after the last one."""
    if epochs % settings.every == 0 or epochs == job.settings.epochs:
        encoder, classes = job.network.encoder, len(job.classes)
        with speaker.progress(sum(map(len, searched)), "kNN", "images") as bar:
            k, temperature = settings.k, settings.temperature
            accuracy = knn.accuracy(encoder, *searched, k, temperature, classes, machine, bar.advance)
        yield "knn_accuracy", accuracy
