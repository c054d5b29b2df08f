"""Measure how fast this machine does the work of a recipe, compared with the same passes bare, in float32."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from rushkit.attacks.pgd import PGD
from rushkit.data.memory import Split
from rushkit.distributed.share import Share
from rushkit.errors import DataError, UsageError
from rushkit.image_size import sides
from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import Network
from rushkit.noises import Noise
from rushkit.recipe.schema import Recipe
from rushkit.rounding import size_words
from rushkit.run.speaker import Speaker
from rushkit.setup import components, networks
from rushkit.setup.start import machine_of
from rushkit.setup.subject import in_precision, smoothed
from rushkit.smoothing import SmoothedClassifier
from rushkit.speed.figures import Benchmark, Cost, Estimate, Row
from rushkit.system import Machine, device_memory, generator
from rushkit.training.bare_passes import Seen, replay, watching
from rushkit.training.batch import Draws, StepBatch
from rushkit.training.job import TrainingJob
from rushkit.training.labels import random_table
from rushkit.training.loop import given_channels_last, train_batch
from rushkit.training.optimizer import build_optimizer
from rushkit.training.pretrain import pretraining_job
from rushkit.training.recomputation import step_memory
from rushkit.training.teacher import stand_in

# Draws of noise for each image, in the attack and in the votes.
SAMPLES = 8
_EPS = 8 / 255
# A training step costs about three forward passes; the two contestants take a warm-up and a few rounds.
_PASSES_A_ROUND = 6
_ROUNDS = 5


def bench(recipe: Recipe, seconds: float = 20.0, speaker: Speaker | None = None, batch: int = 0) -> Benchmark:
    """Measure views, training steps, attack and votes of a recipe on random images, and estimate its pre-training.

    rushkit's code and the bare passes take turns, and the fastest round of each counts, so that a busy machine slows
    both alike. Speeds are wall-clock speeds; on a CPU the fractions compare processor time.

    >>> rushkit.bench(rushkit.load_recipe("cifar10"), seconds=20, batch=128)

    Args:
        recipe: Sections data, backbone, projector, noise, pretrain, system.
        seconds: About how long to measure; a large batch may take longer.
        speaker: Is told what is measured.
        batch: Images in a training step, which the parts that draw noise divide into images and draws; 0: as many as
            the time allows, and at most those of the recipe.

    Raises:
        UsageError: a step of that batch does not fit into the memory of the device.
    """
    speaker, machine, figures = speaker or Speaker(), machine_of(recipe, "training"), machine_of(recipe)
    job, images_an_epoch = job_of_batch(recipe, machine, seconds, batch)
    batch = len(job.split)
    speaker.say(f"bench {recipe.name}: {recipe.backbone.name}, batch {batch}, about {seconds:.0f} s; {machine}")

    views = race({"ours": lambda: job.views(job.split.images[:], _draws(machine))}, seconds / 10, machine)
    steps = race(step_contestants(job, machine)[0], seconds / 2, machine)
    network = inference_network(job, figures)
    x = components.to_float(job.split.images[: max(1, batch // SAMPLES)])
    attack = race(attack_contestants(network, job.noise, x, SAMPLES, figures), seconds / 4, figures)
    votes = race(vote_contestants(network, job.noise, x, SAMPLES, figures), seconds / 4, figures)
    copies, precision = len(x) * SAMPLES, figures.precision
    alike_step, alike = (_name_beside(each) for each in (machine, figures))
    # The step sees two views of an image.
    rows = (
        Row("views", "views/s", batch, "float32", batch, views["ours"], steps[BARE], per_bare=2 * batch),
        Row("training", "steps/s", 1, machine.precision, batch, steps["ours"], steps[BARE], steps.get(alike_step)),
        Row("attack", "samples/s", copies, precision, copies, _a_step(attack), attack[BARE], attack.get(alike)),
        Row("votes", "samples/s", copies, precision, copies, votes["ours"], votes[BARE], votes.get(alike)),
    )
    return Benchmark(
        recipe=recipe.name,
        machine=str(machine),
        batch=batch,
        recipe_batch=recipe.pretrain.batch_size,
        rows=rows,
        memory_bytes=peak_memory(machine),
        estimate=estimate(recipe, images_an_epoch, steps["ours"].wall / batch),
    )


def job_of_batch(recipe: Recipe, machine: Machine, seconds: float, batch: int) -> tuple[TrainingJob, int | None]:
    """Return what ``bench_job`` does, for a batch of so many images; 0: as many as fit into the time.

    Raises:
        UsageError: a step does not fit into the memory of the device.
    """
    fitted = not batch
    if not fitted:
        check_memory(recipe, machine, batch)
        section = recipe.pretrain.model_copy(update={"batch_size": batch})
        recipe = recipe.model_copy(update={"pretrain": section})
    job, images_an_epoch = bench_job(recipe, machine)
    if fitted:
        affordable = int(seconds / 2 / (_forward_seconds(job, machine) * _PASSES_A_ROUND * _ROUNDS))
        batch = max(2, min(recipe.pretrain.batch_size, affordable // 2))
        smaller = job.settings.model_copy(update={"batch_size": batch})
        job = replace(job, split=Split(job.split.images[:batch], None, job.split.name), settings=smaller)
    return job, images_an_epoch


def check_memory(recipe: Recipe, machine: Machine, batch: int) -> None:
    """Raise UsageError where a training step on so many images does not fit into the memory of the device."""
    few = recipe.pretrain.model_copy(update={"batch_size": 2})
    job, _ = bench_job(recipe.model_copy(update={"pretrain": few}), machine)
    an_image = step_memory(job, machine) / 2
    room = device_memory(machine.device)
    if batch * an_image > room:
        raise UsageError(
            f"a training step on {batch} images takes about {size_words(batch * an_image)}, and the device has "
            f"{size_words(room)}",
            f"at most --batch {max(2, int(room / 2 / an_image))} is safe here",
        )


def estimate(recipe: Recipe, images: int | None, seconds_an_image: float) -> Estimate | None:
    """Return how long the recipe's pre-training takes, without nearest neighbours.

    Args:
        recipe: Section pretrain.
        images: Images of the training split; None if the data is not here to be counted.
        seconds_an_image: Time of a training step, divided by its images.

    Returns:
        None if the images are not known.
    """
    if images is None:
        return None
    batch, epochs = recipe.pretrain.batch_size, recipe.pretrain.epochs
    epoch = images // batch * batch * seconds_an_image
    return Estimate(epochs, epoch, epoch * epochs)


def bench_job(recipe: Recipe, machine: Machine) -> tuple[TrainingJob, int | None]:
    """Return the pre-training of a recipe on one batch of random images, and how many images an epoch really has."""
    dataset = components.build_dataset(recipe)
    try:
        count: int | None = len(components.load_split(recipe, dataset, recipe.pretrain.split))
    except DataError:
        count = None
    channels, size = components.image_shape(recipe, dataset)
    shape = (recipe.pretrain.batch_size, channels, *sides(size))
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator(0, "bench images")).to(machine.device)
    split, table = Split(images, None, "random images"), random_table(recipe.pretrain, len(images))
    job, _ = pretraining_job(recipe, machine, split, teacher=stand_in(recipe), table=table)
    return job, count


def step_contestants(job: TrainingJob, machine: Machine) -> tuple[dict[str, Callable[[], object]], Seen]:
    """Return a training step, from uint8 images to the optimizer's, beside its bare passes; and these, as seen.

    The bare passes are those that the step makes of the network, of others in the objective's memory and of the
    teacher, on prepared inputs: in float32, and in the machine's precision where that is another one.
    """
    job.set_modes()
    optimizer = build_optimizer(job.settings.optimizer, job.trained, machine.device, job.norms)
    # A step at rate 0 is the same work, and the weights do not run off to where arithmetic is slow or not finite.
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    count, draws = job.settings.batch_size, Draws(job.views, job.noise)
    images = job.split.images[:count].to(machine.device)
    labels = None if job.labels is None else job.labels[:count].to(machine.device)
    share = Share(0, count, count)

    def ours() -> None:
        # Half-way: no warm-up of a radius, no epoch without the objective's second part.
        batch = StepBatch(images, labels, 0.5, job.settings.epochs / 2, share, _draws(machine), draws, len(job.classes))
        batch.columns = job.columns or batch.columns
        with given_channels_last(job.network):
            train_batch(batch, job, optimizer, machine, (0, 0, 0))

    with watching(job, optimizer) as seen:
        ours()
    machine.compile_in_place(job.network, *job.memory.children())
    contestants: dict[str, Callable[[], object]] = {"ours": ours}
    for precision in dict.fromkeys(("float32", machine.precision)):
        contestants[bare_name(precision)] = partial(replay, seen, optimizer, replace(machine, precision=precision))
    return contestants, seen


def inference_network(job: TrainingJob, machine: Machine) -> nn.Module:
    """Return the encoder with a head of ten random classes, as evaluation and attack would load it: folded."""
    head = nn.Linear(networks.num_features(job.network.encoder), 10).to(machine.device)
    encoder = fold_batch_norm(job.network.encoder.eval(), components.to_float(job.split.images[:2]))
    return Network(encoder, head).eval().requires_grad_(False)


def attack_contestants(
    network: nn.Module, noise: Noise, x: Tensor, samples: int, machine: Machine
) -> dict[str, Callable[[], object]]:
    """Return a smoothed PGD of one step and of three; and the bare passes of a step.

    Args:
        network: What is attacked, with BatchNorm folded.
        noise: The smoothing distribution.
        x: (N, C, H, W) images.
        samples: Draws of each image.
        machine: The precision of the attack's passes.

    Returns:
        "one" and "three" steps; and forward and backward to the input of as many images as a step has noisy copies, by
        ``bare_name`` of their precision.
    """
    g = smoothed(_Decided(network), noise, samples, machine=machine)
    y = torch.arange(len(x), device=x.device) % 9 + 1
    noisy = x.repeat(samples, 1, 1, 1)
    one, three = (PGD("linf", _EPS, steps=steps, best="last", samples=samples) for steps in (1, 3))

    def passes(model: nn.Module) -> Callable[[], object]:
        def bare() -> None:
            copies = noisy.clone().requires_grad_()
            torch.autograd.grad(model(copies).float().logsumexp(1).sum(), copies)

        return bare

    bare = {name: passes(model) for name, model in _bare_models(network, machine).items()}
    return {**bare, "one": lambda: one(g, x, y), "three": lambda: three(g, x, y)}


def vote_contestants(
    network: nn.Module, noise: Noise, x: Tensor, samples: int, machine: Machine
) -> dict[str, Callable[[], object]]:
    """Return a vote on each image, "ours"; and the bare passes of as many copies, without noise and counting.

    The arguments are those of ``attack_contestants``.
    """
    g: SmoothedClassifier = smoothed(network, noise, samples, machine=machine)
    noisy = x.repeat(samples, 1, 1, 1)

    def passes(model: nn.Module) -> Callable[[], object]:
        return torch.no_grad()(lambda: model(noisy))

    bare = {name: passes(model) for name, model in _bare_models(network, machine).items()}
    return {**bare, "ours": lambda: g.votes(x)}


def bare_name(precision: str) -> str:
    """Return the name of the contestant that makes bare passes in a precision."""
    return f"bare {precision}"


BARE = bare_name("float32")


def _bare_models(network: nn.Module, machine: Machine) -> dict[str, nn.Module]:
    """Return the models of the bare passes: the network in the machine's precision, and in float32."""
    return {bare_name(machine.precision): in_precision(network, machine), BARE: network}


def _name_beside(machine: Machine) -> str:
    """Return the name of the bare passes in a machine's precision, or "" where that is float32."""
    return "" if machine.precision == "float32" else bare_name(machine.precision)


def _a_step(attack: Mapping[str, Cost]) -> Cost:
    return attack["one"].a_step(attack["three"])


class _Decided(nn.Module):
    """A network that votes for class 0 in every draw.

    If a vote is close, an attack takes a second, longer one. With this network no vote is close, so attacks of one and
    of three steps differ only in their steps.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits = self.network(x)
        return torch.cat([logits[:, :1] + 100, logits[:, 1:]], dim=1)


def race(contestants: Mapping[str, Callable[[], object]], seconds: float, machine: Machine) -> dict[str, Cost]:
    """Let contestants take turns, after a warm-up, until the time is over, and return the lowest cost of each.

    There are at least three rounds.

    Args:
        contestants: Name -> call.
        seconds: Time limit.
        machine: The machine; on a GPU each call is synchronised.
    """
    best = dict.fromkeys(contestants, Cost())
    for contestant in contestants.values():
        contestant()
    finish, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < finish:
        for name, contestant in contestants.items():
            best[name] = best[name].least(_cost(contestant, machine))
        rounds += 1
    return best


def _cost(call: Callable[[], object], machine: Machine) -> Cost:
    _synchronise(machine)
    wall, work = time.perf_counter(), time.process_time()
    call()
    _synchronise(machine)
    wall, work = time.perf_counter() - wall, time.process_time() - work
    return Cost(wall, work if machine.device.type == "cpu" else wall)


def peak_memory(machine: Machine) -> int:
    """Return the peak memory in bytes: what the device held for us, or on a CPU what the process held."""
    if machine.device.type == "cuda":
        return torch.cuda.max_memory_allocated(machine.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _forward_seconds(job: TrainingJob, machine: Machine) -> float:
    """Return how long the encoder takes for one image, without gradients."""
    images = min(16, len(job.split))
    inputs = components.to_float(job.split.images[:images]).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def once() -> None:
        with machine.autocast():
            job.network.encoder(inputs)

    return race({"once": once}, 0.0, machine)["once"].wall / images


def _draws(machine: Machine) -> torch.Generator:
    return generator(0, "bench", device=machine.device)


def _synchronise(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
