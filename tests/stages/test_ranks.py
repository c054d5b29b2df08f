"""Two and three gloo processes against one: training, resuming, evaluating and attacking come to the same."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
from tiny_runs import QUIET, TINY, checkpoint_of
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F

from rushkit import registries
from rushkit.errors import Interrupted, UsageError
from rushkit.models.batch_norm import synchronise_batch_norm
from rushkit.recipe.load import load_recipe
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.stages import loop, ranks
from rushkit.stages.attack import attack
from rushkit.stages.evaluate import evaluate
from rushkit.stages.finetune import finetune
from rushkit.stages.pretrain import pretrain
from rushkit.stages.start import start_run
from rushkit.system import generator
from rushkit.views import CropFlip, Views, ViewSettings

# 20 steps of pre-training; of fine-tuning, whose last batch of each epoch has a single image: some ranks have none.
CHANGES = (
    "backbone.name=smooth",
    "data.limit=49",
    "pretrain.batch_size=12",
    "pretrain.epochs=5",
    "pretrain.knn.every=0",
    "finetune.batch_size=16",
    "finetune.epochs=5",
    "attack=[{type='pgd', samples=[2], limit=7, steps=2}]",
    # Blocks of two images.
    "system.chunk=4",
)
STOP_AT = 7


def smooth(in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """A network without kinks: at one of them, rounding decides a gradient, and 20 steps make much of that."""
    model = nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        nn.Conv2d(8, 8, 2),
        nn.BatchNorm2d(8),
        nn.Softplus(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    model.num_features = 8
    return model


def whole_job(folder: Path) -> None:
    """Pre-train, fine-tune, evaluate, attack; and a pre-training that rank 1 alone is asked to stop."""
    recipe = load_recipe("digits", [*TINY, *CHANGES, f"system.runs_dir={folder}"], {})
    with start_run("pretrain", recipe, QUIET) as run:
        pretrain(recipe, run)
    encoder = checkpoint_of(run)
    with start_run("finetune", recipe, QUIET) as run:
        finetune(recipe, encoder, run)
    model = checkpoint_of(run)
    with start_run("evaluate", recipe, QUIET) as run:
        evaluate(recipe, model, run)
    with start_run("attack", recipe, QUIET) as run:
        attack(recipe, model, run, ("paper",), save=True)
    if ranks.world() > 1:
        original, calls = loop.train_step, 0

        def step(*arguments):
            nonlocal calls
            calls += 1
            if calls == STOP_AT and ranks.rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(*arguments)

        loop.train_step = step
        recipe = load_recipe("digits", [*TINY, *CHANGES, f"system.runs_dir={folder / 'stopped'}"], {})
        with pytest.raises(Interrupted, match=f"step {STOP_AT} of 20"), start_run("pretrain", recipe, QUIET) as run:
            pretrain(recipe, run)


def one_rank(rank: int, world: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    registries.backbones.register("smooth")(smooth)
    ranks.join()
    check_batch_norm()
    whole_job(Path(folder))
    distributed.destroy_process_group()


def check_batch_norm() -> None:
    """Outputs, gradients and running statistics of 7 rows, split unevenly, as of torch's BatchNorm on all of them."""
    draws = generator(0, "batch norm")
    x, target = torch.randn(2, 7, 4, 3, 3, generator=draws, dtype=torch.float64)
    plain, split = (nn.Sequential(nn.BatchNorm2d(4)).double() for _ in range(2))
    with torch.no_grad():
        for layer in (plain[0], split[0]):
            layer.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 1.0]))
    names = list(split.state_dict())
    split = synchronise_batch_norm(split)
    assert list(split.state_dict()) == names
    whole = x.clone().requires_grad_()
    expected = plain(whole)
    F.mse_loss(expected, target, reduction="sum").backward()
    rows = ranks.share_of(7).rows
    own = x[rows].clone().requires_grad_()
    got = split(own)
    F.mse_loss(got, target[rows], reduction="sum").backward()
    torch.testing.assert_close(got, expected[rows])
    torch.testing.assert_close(own.grad, whole.grad[rows])
    for mine, theirs in zip(split.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ranks.total(mine.grad), theirs.grad)
    torch.testing.assert_close(split.state_dict(), plain.state_dict())
    torch.testing.assert_close(split.eval()(own), plain.eval()(whole)[rows])


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> dict[str, Run]:
    registries.backbones.register("smooth")(smooth)
    folder = tmp_path_factory.mktemp("single")
    whole_job(folder)
    yield runs_of(folder)
    registries.backbones.unregister("smooth", smooth.__module__.partition(".")[0])


@pytest.fixture(scope="module", params=[2, 3])
def several(request, tmp_path_factory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(one_rank, args=(request.param, port, str(folder)), nprocs=request.param)
    return runs_of(folder) | {"stopped": next((folder / "stopped").iterdir())}


def runs_of(folder: Path) -> dict[str, Path]:
    return {path.name.split("-")[2]: path for path in folder.iterdir() if path.name != "stopped"}


def results(path: Path) -> dict:
    return json.loads((path / "results.json").read_text())


def assert_same_training(got: Path, expected: Path) -> None:
    for mine, theirs in zip(*(read_metrics(path / "metrics.jsonl") for path in (got, expected)), strict=True):
        assert mine["step"] == theirs["step"]
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    mine, theirs = (Run.open(path, QUIET, rank=1).checkpoints.load_latest() for path in (got, expected))
    assert mine.tensors.keys() == theirs.tensors.keys()
    for name, tensor in theirs.tensors.items():
        torch.testing.assert_close(mine.tensors[name], tensor, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_ranks_train_as_one_process_does(single, several, stage):
    assert len(read_metrics(single[stage] / "metrics.jsonl")) >= 20
    assert_same_training(several[stage], single[stage])


@pytest.mark.slow
def test_ranks_evaluate_as_one_process_does(single, several):
    """On the model that each trained: a vote may turn where logits differ in their last bits, and hardly does."""
    mine, theirs = (results(path["evaluate"]) for path in (several, single))
    for row, other in zip(mine["accuracy"], theirs["accuracy"], strict=True):
        assert abs(row["correct"] - other["correct"]) <= 1
    assert len(mine["outcomes"]["labels"]) == len(theirs["outcomes"]["labels"]) == 49


@pytest.mark.slow
def test_ranks_attack_every_image_once_and_in_order(single, several):
    mine, theirs = (results(path["attack"]) for path in (several, single))
    for row, other in zip(mine["attacks"], theirs["attacks"], strict=True):
        assert row["outcomes"]["images"] == list(range(7))
        assert row["outcomes"]["labels"] == other["outcomes"]["labels"]
        assert (several["attack"] / row["saved"]).is_file()


@pytest.mark.slow
def test_a_stop_of_one_rank_stops_all_and_one_process_goes_on(single, several, tmp_path):
    assert read_metrics(several["stopped"] / "metrics.jsonl")[-1]["step"] == STOP_AT
    with Run.open(several["stopped"], QUIET) as run:
        pretrain(load_recipe(str(several["stopped"] / "recipe.toml"), [], {}), run)
    assert_same_training(several["stopped"], single["pretrain"])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("images", [1, 4, 12, 13])
def test_shares_tile_the_batch(monkeypatch, world, images):
    monkeypatch.setattr(ranks, "world", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(ranks.share_of(images))
    rows = [row for share in shares for row in range(images)[share.rows]]
    assert rows == list(range(images))
    assert max(share.count for share in shares) - min(share.count for share in shares) <= 1
    assert sum(share.weight for share in shares) == pytest.approx(world)


@pytest.mark.parametrize("views", [Views(ViewSettings(size=8)), CropFlip(padding=2)], ids=["views", "crop-flip"])
@pytest.mark.parametrize("first, count", [(0, 3), (3, 2), (5, 0)])
def test_a_share_sees_the_views_and_the_noise_of_the_whole_batch(views, first, count):
    images = torch.randint(256, (5, 3, 9, 9), generator=generator(0, "images"), dtype=torch.uint8)
    noise = registries.noises.create("gaussian", scale=0.1)
    share = ranks.Share(first, count, 5)
    whole = views(images, generator(1, "views"))
    torch.testing.assert_close(share.views(views)(images[share.rows], generator(1, "views")), whole[share.rows])
    # Two views of each image one after the other, as an objective may join them.
    twice = torch.cat([whole, whole])
    drawn = noise.sample(twice, generator(2, "noise")).view(2, 5, 3, *whole.shape[2:])
    mine = torch.cat([whole[share.rows], whole[share.rows]])
    got = share.noise(noise).sample(mine, generator(2, "noise"))
    torch.testing.assert_close(got, drawn[:, share.rows].flatten(0, 1))
    assert share.noise(noise).std == noise.std


def test_a_batch_that_does_not_divide_is_refused(monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(ranks, "world", lambda: 3)
    run = Run.create(tmp_path, "pretrain", "tiny", {}, "", QUIET)
    with pytest.raises(UsageError, match="does not divide over 3 ranks") as raised, run:
        pretrain(tiny("pretrain.batch_size=16"), run)
    assert "pretrain.batch_size=15" in raised.value.hint
