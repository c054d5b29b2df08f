"""Contrastive pre-training: eq. 11 of the RUSH paper, Algorithm 1, lines 2 to 8."""

from __future__ import annotations

from functools import partial
from typing import Any

from rushkit.data import Dataset
from rushkit.data.memory import Split, limit
from rushkit.models.network import num_parameters, set_modes
from rushkit.recipe import toml
from rushkit.recipe.schema import Knn, Recipe
from rushkit.run.folder import Run
from rushkit.setup import components
from rushkit.setup.start import machine_of, mirror_metrics, start_run
from rushkit.setup.subject import fingerprint_of
from rushkit.system import Machine
from rushkit.training import knn
from rushkit.training.loop import TrainingJob, train


def pretrain(recipe: Recipe, run: Run | None = None) -> dict[str, Any]:
    """Pre-train the recipe's encoder on its data, without labels.

    Args:
        recipe: Sections data, backbone, projector, noise, pretrain, system.
        run: Takes checkpoints, metrics and results; a run that was stopped goes on. None: a new one.

    Returns:
        The figures of the last epoch, as in results.json.

    Raises:
        RushkitError: see ``training.loop.train``.
    """
    if run is None:
        with start_run("pretrain", recipe) as run:
            return pretrain(recipe, run)
    machine, settings, seed = machine_of(recipe), recipe.pretrain, recipe.system.seed
    mirror_metrics(recipe, run)
    # What is resumed has its weights.
    job, dataset = pretraining_job(recipe, machine, fetch=not run.checkpoints.paths())
    looks = neighbours(recipe, dataset, job.split)
    if looks is not None:
        look = partial(_look, job, settings.knn, looks, len(dataset.classes), machine)
        # Test images choose nothing, not even a checkpoint.
        job = job.with_after_epoch(look, "knn_accuracy" if _query_split(recipe, dataset) == "validation" else None)
    millions = num_parameters(job.network.encoder) / 1e6
    run.speaker.say(
        f"pretrain {recipe.name}: {components.describe_split(job.split)}, {settings.epochs} epochs of "
        f"{job.steps_per_epoch} steps, batch {settings.batch_size}; {recipe.backbone.name} with {millions:.2f} M "
        f"parameters; objective {settings.objective}, noise {recipe.noise.name}; {machine}"
    )
    figures = train(job, run, machine, seed)
    protocol = None if looks is None else knn_protocol(settings.knn, *looks, chooses=job.best_by is not None)
    results = {
        "stage": "pretrain",
        "recipe": recipe.name,
        "epochs": settings.epochs,
        **figures,
        "knn_protocol": protocol,
    }
    return run.write_results(results)


def pretraining_job(
    recipe: Recipe, machine: Machine, split: Split | None = None, fetch: bool = False
) -> tuple[TrainingJob, Dataset]:
    """Everything that the loop needs, and the data set.

    Args:
        recipe: Sections data, backbone, projector, noise, pretrain, system.
        machine: Where to.
        split: Takes the place of the data set's own images.
        fetch: Whether the encoder brings the pretrained weights that the recipe may ask for.
    """
    settings = recipe.pretrain
    dataset = components.build_dataset(recipe)
    split = components.load_split(recipe, dataset, settings.split) if split is None else split
    size = components.image_size(recipe, dataset)
    objective = components.build_objective(recipe, settings)
    network = components.build_network(recipe, objective, size, len(dataset.classes), fetch=fetch)
    network = components.channels_last(network.to(machine.device))
    job = TrainingJob(
        network=network,
        objective=objective,
        split=split,
        settings=settings,
        views=components.contrastive_views(recipe, size),
        noise=components.build_noise(recipe),
        # NT-Xent's difficulty depends on the number of negatives, so every batch is a full one.
        drop_last=True,
        set_modes=partial(set_modes, network, training=True, bn="train"),
        meta={
            "stage": "pretrain",
            "recipe": toml.dumps(recipe.resolved()),
            "image_size": size,
            "classes": list(dataset.classes),
            "content": fingerprint_of(split),
        },
    )
    return job, dataset


def neighbours(recipe: Recipe, dataset: Dataset, training: Split) -> tuple[Split, Split] | None:
    """(bank, queries) of the look at the features: clean training images, and validation images or else test images.

    None where it is switched off or there are no labels to look at.
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


def knn_protocol(settings: Knn, bank: Split, queries: Split, chooses: bool = False) -> dict[str, Any]:
    """What a nearest-neighbour accuracy means, and whether it chooses the best checkpoint: stored beside it."""
    return {
        "k": min(settings.k, len(bank)),
        "temperature": settings.temperature,
        "bank": f"{len(bank)} clean images of {bank.name}",
        "queries": f"{len(queries)} clean images of {queries.name}",
        "use": "shown; the best checkpoint is chosen by it" if chooses else "shown only; nothing is chosen by it",
    }


def _look(
    job: TrainingJob, settings: Knn, looks: tuple[Split, Split], classes: int, machine: Machine, epochs: int
) -> dict[str, Any]:
    if epochs % settings.every and epochs != job.settings.epochs:
        return {}
    bank, queries = looks
    found = knn.accuracy(job.network.encoder, bank, queries, settings.k, settings.temperature, classes, machine)
    return {"knn_accuracy": found}
