"""What only a GPU can show: graph capture, bf16, draws and memory there. Where it can, a test runs on the CPU, too.

Skipped without a CUDA device; ``pytest -m cuda`` runs them alone, and so does benchmarks/gpu.sh.
"""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from tiny_runs import TINY, checkpoint_of, finetuned, pretrained, toy
from torch import Tensor, nn

from rushkit import noises, objectives
from rushkit.attacks.pgd import PGD
from rushkit.data.memory import Split
from rushkit.distributed.share import Share
from rushkit.evaluation.evaluate import evaluate
from rushkit.models.network import Network, build_backbone
from rushkit.models.passes import MOST, memory_an_image, pass_size
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Optimizer
from rushkit.setup.components import to_float
from rushkit.setup.subject import smoothed
from rushkit.system import Machine, choose_machine, device_memory, generator
from rushkit.training.batch import Draws, StepBatch
from rushkit.training.loop import given_channels_last
from rushkit.training.mixing import Feed, resident
from rushkit.training.optimizer import build_optimizer
from rushkit.units import noisy_unit
from rushkit.views import CropFlip, Views

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
NOISES = ["uniform", "gaussian", "laplace"]


def images_on(device: str, count: int = 8) -> Tensor:
    drawn = torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator(0, "images"))
    return drawn.to(device)


def network_on(device: str, objective, classes: int = 10) -> Network:
    torch.manual_seed(0)
    encoder = toy(image_size=16)
    return Network(encoder, objective.head(encoder.num_features, [classes])).to(device)


class Training:
    """A pre-training step of one batch; ``step`` makes it in full, and ``source`` is where it draws from."""

    def __init__(self, device: str, machine: Machine) -> None:
        self.objective = objectives.create("rush", hidden=16, out=8)
        self.network = network_on(device, self.objective).train()
        self.optimizer = build_optimizer(Optimizer(lr=0.1), list(self.network.parameters()), machine.device)
        self.machine, self.images = machine, images_on(device)
        self.source = generator(0, "step", device=device)
        self.draws = Draws(Views(16), noises.create("uniform", scale=0.3))

    def step(self) -> Tensor:
        count = len(self.images)
        batch = StepBatch(self.images, None, 0.0, 0.0, Share(0, count, count), self.source, self.draws)
        with given_channels_last(self.network), self.machine.autocast():
            (loss,) = self.objective.losses(self.network, nn.Module(), batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@pytest.mark.cuda
def test_a_whole_step_is_captured_in_a_graph_and_replays_to_the_same_weights():
    """Draws, views, noise, passes, loss and optimizer: nothing in it asks the device or makes the host decide."""
    machine = Machine(torch.device("cuda"), "float32")
    eager, graphed = Training("cuda", machine), Training("cuda", machine)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for training in (eager, graphed):
            for _ in range(3):
                training.optimizer.zero_grad(set_to_none=True)
                training.step()
    torch.cuda.current_stream().wait_stream(aside)
    graphed.optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(graphed.source)
    with torch.cuda.graph(graph):
        graphed.step()
    for _ in range(3):
        graph.replay()
        eager.optimizer.zero_grad(set_to_none=True)
        eager.step()
    for one, other in zip(eager.network.parameters(), graphed.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_in_bf16_has_the_loss_of_one_in_float32_to_two_digits(device):
    losses = {
        precision: Training(device, Machine(torch.device(device), precision)).step()
        for precision in ("float32", "bf16")
    }
    assert losses["bf16"].dtype == torch.float32
    torch.testing.assert_close(losses["bf16"], losses["float32"], rtol=2e-2, atol=0)


@pytest.mark.cuda
def test_a_gpu_computes_in_bf16_where_it_has_units_for_it_and_never_in_tf32():
    machine = choose_machine("cuda")
    assert machine.precision == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "float32")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("noise", NOISES)
def test_the_noisy_copies_of_an_image_repeat_on_their_device(device, noise):
    x = to_float(images_on(device)[0])
    draw = partial(noisy_unit, noises.create(noise, std=0.2), x, 50, 7, "test", 3)
    first, other = draw(0), draw(1)
    assert first.device.type == device
    assert torch.equal(first, draw(0))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_repeats_on_its_device(device):
    machine = Machine(torch.device(device), "float32")
    first, second = Training(device, machine), Training(device, machine)
    # Convolutions of a GPU may add in another order.
    torch.testing.assert_close(first.step(), second.step(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("views", [Views(16), CropFlip()], ids=["views", "crop-flip"])
def test_draws_of_the_cpu_make_the_views_of_the_cpu_anywhere(device, views):
    here = views(images_on("cpu"), generator(5, "views"))
    there = views(images_on(device), generator(5, "views"))
    assert there.device.type == device
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_the_images_of_an_epoch_are_the_same_on_any_device(device):
    split = Split(images_on("cpu", 40), torch.arange(40), "numbers")
    labels = torch.cat(
        [Feed(split, None, 8, 3, "finetune", torch.device(device)).rows(1, index, 5).labels.cpu() for index in range(5)]
    )
    assert torch.equal(labels, torch.randperm(40, generator=generator(3, "finetune-order", 1)))


@pytest.mark.cuda
def test_small_data_lies_on_the_gpu_and_what_would_fill_it_does_not(monkeypatch):
    split = Split(images_on("cpu"), torch.zeros(8, dtype=torch.int64), "few")
    device = torch.device("cuda")
    assert all(part.device.type == "cuda" for part in resident(split, device))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (split.images.numel(), 0))
    assert all(part.device.type == "cpu" for part in resident(split, device))


@pytest.mark.cuda
def test_passes_are_sized_by_the_memory_of_the_gpu_and_fit_into_it():
    machine = choose_machine("cuda")
    network = build_backbone("resnet18", {}, 3, 32, 0).cuda().to(memory_format=torch.channels_last)
    network.requires_grad_(False)
    shape = (3, 32, 32)
    size = pass_size(network, shape, machine)
    assert 1 < size <= MOST["cuda"]
    assert size * memory_an_image(network, shape, machine) <= device_memory(machine.device)
    torch.cuda.reset_peak_memory_stats()
    x = torch.rand(size, *shape, device="cuda", requires_grad=True)
    with machine.autocast():
        network.eval()(x).float().sum().backward()
    assert torch.cuda.max_memory_allocated() < device_memory(machine.device)


@pytest.mark.parametrize("device", DEVICES)
def test_votes_and_an_attack_run_on_their_device_and_repeat(device):
    machine = choose_machine(device)
    network = network_on(device, objectives.create("cross-entropy")).eval().requires_grad_(False)
    g = smoothed(network, noises.create("gaussian", scale=0.25), 8, machine=machine)
    x, y = to_float(images_on(device)), torch.arange(8, device=device)
    keys = torch.arange(8)
    votes = g.keyed_tally(x, keys, 0, "test", 20).votes
    assert torch.equal(votes, g.keyed_tally(x, keys, 0, "test", 20).votes)
    assert votes.sum(1).tolist() == [20] * 8
    attacked = PGD("linf", 8 / 255, steps=3, samples=4)(g, x, y)
    assert attacked.device.type == device
    assert (attacked - x).abs().max() <= 8 / 255 + 1e-6


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_goes_from_pre_training_to_votes_on_its_device(device, tmp_path):
    changes = [change for change in TINY if "device" not in change and "backbone" not in change]
    recipe = load_recipe("digits", [*changes, f"system.device={device}", f"system.runs_dir={tmp_path}"])
    run = finetuned(recipe, checkpoint_of(pretrained(recipe)))
    assert json.loads((run.path / "run.json").read_text())["device"] == device
    rows = evaluate(recipe, checkpoint_of(run)).accuracy
    assert [row.samples for row in rows] == [1, 1, 4, 4]
