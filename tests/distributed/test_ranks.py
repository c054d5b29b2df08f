"""Two and three gloo processes against one: training and resuming come to the same, and every look at a model does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from gloo_ranks import run_ranks
from PIL import Image
from teacher import Teacher
from timm.layers import BatchNormAct2d
from tiny_runs import QUIET, TINY, checkpoint_of, folder_of_images
from torch import nn
from torch.nn import functional as F

from rushkit import registries
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.audit import audit
from rushkit.auditing.plan import Settings, plan
from rushkit.certification.predict import predict
from rushkit.data.folder import Folder
from rushkit.distributed import ranks
from rushkit.distributed.share import Share, share_of
from rushkit.errors import Interrupted, UsageError
from rushkit.evaluation import probe as probe_module
from rushkit.evaluation.evaluate import evaluate
from rushkit.evaluation.probe import Ball, probe
from rushkit.models.batch_norm import synchronise_batch_norm
from rushkit.models.network import build_backbone
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.results.run_file import Facts
from rushkit.robustness import attack as attack_module
from rushkit.robustness.attack import attack
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup import components
from rushkit.setup.model import load_classifier
from rushkit.setup.start import machine_of, start_run
from rushkit.system import generator
from rushkit.training import knn, loop
from rushkit.training.finetune import finetune
from rushkit.training.pretrain import pretrain
from rushkit.views import CropFlip, Views

# 20 steps of each stage. The last batch of an epoch of fine-tuning has two images: one of three ranks has none.
CHANGES = (
    "backbone.name=smooth",
    "data.limit=50",
    "pretrain.batch_size=12",
    "pretrain.epochs=5",
    "pretrain.knn.every=0",
    "finetune.batch_size=16",
    "finetune.epochs=5",
    # PGD with settings of its own, and under strict the cascade.
    "attack=[{type='pgd', samples=[2], limit=7, steps=2}, {type='pgd', samples=[2], limit=7}]",
    "certify.norm=l1",
    "certify.samples=250",
    "certify.selection=150",
    "system.chunk=4",
)
# With two steps a batch and a memory.
TAUGHT = ("finetune.objective=teacher", "finetune.freeze=none", "finetune.optimizer.lr=0.01")
STEPS, STOP_AT = 20, 7
DECODE_ALL = Folder._decode_all
AUDIT, AUDITED = Settings("linf", 0.1, steps=2, eot=2, queries=5, planted=2), 20


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


def recipe_in(folder: Path) -> Recipe:
    return load_recipe("digits", [*TINY, *CHANGES, f"system.runs_dir={folder}"], {})


def train(folder: Path) -> Path:
    """Pre-train and fine-tune; the checkpoint of the classifier."""
    recipe = recipe_in(folder)
    with start_run("pretrain", recipe, QUIET) as run:
        pretrain(recipe, run)
    encoder = checkpoint_of(run)
    with start_run("finetune", recipe, QUIET) as run:
        finetune(recipe, encoder, run)
    taught = load_recipe("digits", [*TINY, *CHANGES, *TAUGHT, f"system.runs_dir={folder / 'taught'}"], {})
    with start_run("finetune", taught, QUIET) as other:
        finetune(taught, encoder, other)
    return checkpoint_of(run).path


def look(folder: Path, model: Path) -> None:
    """Every verb that looks at a model; what comes without a run goes to a file."""
    recipe, checkpoint = recipe_in(folder), load_checkpoint(model)
    with start_run("evaluate", recipe, QUIET) as run:
        evaluate(recipe, checkpoint, run)
    with start_run("attack", recipe, QUIET) as run, blocks_of(attack_module, "BLOCK", 2):
        attack(recipe, checkpoint, run, ("paper", "strict"), save=True, transfer=checkpoint)
    with start_run("audit", recipe, QUIET) as run:
        audit(recipe, checkpoint, AUDIT, run, AUDITED)
    with start_run("probe", recipe, QUIET) as run, blocks_of(probe_module, "_BLOCK", 8):
        probe(recipe, checkpoint, Ball(steps=2), run, images=20)
    found = predict(recipe, checkpoint, [folder / "images"], QUIET).to_table()
    machine = machine_of(recipe)
    encoder = load_classifier(checkpoint, machine).network.encoder
    digits = components.load_split(recipe, components.build_dataset(recipe), "train")
    with blocks_of(knn, "_BATCH", 16):
        found["knn"] = knn.accuracy(encoder, digits, digits, 5, 0.1, 10, machine)
    if ranks.rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))


@contextmanager
def blocks_of(module: ModuleType, name: str, size: int) -> Iterator[None]:
    """Blocks so small that every rank gets some of the few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, size)
        yield


def stopped_by_rank_1(
    verb: str, folder: Path, owner: Any, name: str, call: int, work: Callable[[Recipe, Run], Any]
) -> None:
    """Do a verb's work, of which rank 1 alone is asked to stop, in one of its calls of a function."""
    recipe, original, calls = recipe_in(folder), getattr(owner, name), 0

    def counting(*arguments):
        nonlocal calls
        calls += 1
        if calls == call and ranks.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch, start_run(verb, recipe, QUIET) as run:
        patch.setattr(owner, name, counting)
        work(recipe, run)


def whole_job(folder: Path, model: Path) -> None:
    """What ranks do: everything, the looks at the single process's model; and two runs that rank 1 stops."""
    registries.backbones.register("smooth")(smooth)
    registries.objectives.register("teacher")(Teacher)
    check_batch_norm()
    check_fused_batch_norm()
    check_decoding(folder)
    train(folder)
    look(folder, model)
    with pytest.raises(Interrupted, match=f"step {STOP_AT} of {STEPS}"):
        stopped_by_rank_1("pretrain", folder / "stopped", loop, "train_batch", STOP_AT, pretrain)

    def audit_model(recipe: Recipe, run: Run) -> None:
        audit(recipe, load_checkpoint(model), AUDIT, run, AUDITED)

    with pytest.raises(Interrupted, match="measurements that are done are kept"):
        stopped_by_rank_1("audit", folder / "stopped", Attacks, "measure", 2, audit_model)


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
    rows = share_of(7).rows
    own = x[rows].clone().requires_grad_()
    got = split(own)
    F.mse_loss(got, target[rows], reduction="sum").backward()
    torch.testing.assert_close(got, expected[rows])
    torch.testing.assert_close(own.grad, whole.grad[rows])
    for mine, theirs in zip(split.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ranks.total(mine.grad), theirs.grad)
    torch.testing.assert_close(split.state_dict(), plain.state_dict())
    # Without a momentum the running statistics are the mean over all batches so far.
    plain[0].momentum = split[0].momentum = None
    for batch in (target, x + 1):
        plain(batch)
        split(batch[rows])
    torch.testing.assert_close(split.state_dict(), plain.state_dict())
    torch.testing.assert_close(split.eval()(own), plain.eval()(whole)[rows])


def check_fused_batch_norm() -> None:
    """A network of timm whose BatchNorm has the activation built in: training on shares as on the whole batch."""
    x = torch.randn(7, 3, 16, 16, generator=generator(0, "fused batch norm"), dtype=torch.float64)
    whole, split = (build_backbone("timm/lcnet_035", {}, 3, 16, seed=0).double().train() for _ in range(2))
    assert any(isinstance(layer, BatchNormAct2d) for layer in whole.modules())
    names = list(split.state_dict())
    split = synchronise_batch_norm(split)
    assert list(split.state_dict()) == names
    expected = whole(x)
    expected.square().sum().backward()
    rows = share_of(7).rows
    got = split(x[rows])
    got.square().sum().backward()
    torch.testing.assert_close(got, expected[rows])
    for mine, theirs in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ranks.total(mine.grad), theirs.grad)
    torch.testing.assert_close(split.state_dict(), whole.state_dict())
    torch.testing.assert_close(split.eval()(x), whole.eval()(x))


def check_decoding(folder: Path) -> None:
    """Images in a folder are decoded by rank 0 alone."""
    if ranks.rank() == 0:
        folder_of_images(folder / "photos", classes=2, images=3)
    ranks.wait()
    recipe = load_recipe("digits", ["data.name=folder", f"data.path={folder / 'photos'}"], {})
    decoded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUSHKIT_CACHE", str(folder / "cache"))
        patch.setattr(Folder, "_decode_all", lambda *arguments: decoded.append(1) or DECODE_ALL(*arguments))
        split = components.load_split(recipe, components.build_dataset(recipe), "train")
    assert len(split) == 6
    assert ranks.gather(len(decoded)) == [1] + [0] * (ranks.world() - 1)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Iterator[Path]:
    registries.backbones.register("smooth")(smooth)
    registries.objectives.register("teacher")(Teacher)
    folder = with_images(tmp_path_factory.mktemp("single"))
    look(folder, train(folder))
    yield folder
    registries.objectives.unregister("teacher", Teacher.__module__.partition(".")[0])
    registries.backbones.unregister("smooth", smooth.__module__.partition(".")[0])


@pytest.fixture(scope="module", params=[2, 3])
def several(request, single, tmp_path_factory) -> Path:
    folder = with_images(tmp_path_factory.mktemp(f"ranks{request.param}"))
    run_ranks(whole_job, request.param, folder, checkpoint_of(opened(single, "finetune")).path)
    return folder


def with_images(folder: Path) -> Path:
    (folder / "images").mkdir()
    for index in range(2):
        pixels = torch.randint(256, (8, 8, 3), generator=generator(index, "image"), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / "images" / f"{index}.png")
    return folder


def run_of(folder: Path, verb: str) -> Path:
    (path,) = folder.glob(f"*-{verb}-*")
    return path


def opened(folder: Path, verb: str) -> Run:
    return Run.open(run_of(folder, verb), QUIET, rank=1)


def results(folder: Path, verb: str) -> Any:
    return json.loads((run_of(folder, verb) / "results.json").read_text())


def assert_same_training(got: Path, expected: Path, verb: str) -> None:
    mine, theirs = (read_metrics(run_of(folder, verb) / "metrics.jsonl") for folder in (got, expected))
    assert sum(row["kind"] == "step" for row in mine) == STEPS
    for row, other in zip(mine, theirs, strict=True):
        assert row["step"] == other["step"]
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
    mine, theirs = (checkpoint_of(opened(folder, verb)).tensors for folder in (got, expected))
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_ranks_train_as_one_process_does(single, several, stage):
    assert_same_training(several, single, stage)


@pytest.mark.slow
def test_ranks_take_several_steps_a_batch_and_remember_as_one_process_does(single, several):
    assert_same_training(several / "taught", single / "taught", "finetune")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["evaluate", "audit", "probe"])
def test_ranks_find_in_a_model_what_one_process_does(single, several, verb):
    assert results(several, verb) == results(single, verb)


@pytest.mark.slow
def test_ranks_classify_as_one_process_does(single, several):
    """By noise and by neighbours."""
    mine, theirs = (json.loads((folder / "found.json").read_text()) for folder in (several, single))
    for row, other in zip(mine["predictions"], theirs["predictions"], strict=True):
        assert Path(row.pop("image")).name == Path(other.pop("image")).name
    assert mine == theirs


@pytest.mark.slow
def test_ranks_attack_as_one_process_does(single, several):
    mine, theirs = (results(folder, "attack") for folder in (several, single))
    for row, other in zip(mine["attacks"], theirs["attacks"], strict=True):
        assert row["outcomes"]["images"] == row["transfer"]["outcomes"]["images"] == list(range(7))
        saved = [load_checkpoint(run_of(folder, "attack") / row["saved"]).tensors for folder in (several, single)]
        torch.testing.assert_close(*saved, rtol=0, atol=0)
        row["seconds"] = other["seconds"]
    assert mine == theirs


@pytest.mark.slow
def test_a_stop_of_one_rank_stops_all_and_one_process_goes_on(single, several):
    folder = several / "stopped"
    path = run_of(folder, "pretrain")
    assert read_metrics(path / "metrics.jsonl")[-1]["step"] == STOP_AT
    with Run.open(path, QUIET) as run:
        pretrain(recipe_in(folder), run)
    assert_same_training(folder, single, "pretrain")


@pytest.mark.slow
def test_an_audit_that_one_rank_stopped_goes_on_where_it_was(single, several, monkeypatch):
    path, model = run_of(several / "stopped", "audit"), checkpoint_of(opened(single, "finetune"))
    kept = len(list((path / "counts").iterdir()))
    measured, measure = [], Attacks.measure
    monkeypatch.setattr(Attacks, "measure", lambda self, what: measured.append(what) or measure(self, what))
    with Run.open(path, QUIET) as run:
        audit(recipe_in(several), model, AUDIT, run, AUDITED)
    assert results(several / "stopped", "audit") == results(single, "audit")
    # Two of rank 1, and what the others had done before they heard of it.
    assert kept >= 2
    planned = plan(AUDIT, 2, 10, (AUDITED, 3, 8, 8), training=AUDITED)
    assert kept + len(measured) == len(planned)
    assert not list((path / "counts").iterdir())


def test_a_batch_norm_of_somebodys_own_is_refused_on_cpus():
    class Own(nn.BatchNorm2d):
        """May compute anything."""

    with pytest.raises(UsageError, match="Own cannot be synchronised over processes on cpu"):
        synchronise_batch_norm(nn.Sequential(Own(2)))


def test_the_dearest_items_are_dealt_out_first_and_keep_their_order(monkeypatch):
    costs = [1, 5, 2, 2, 4, 3]
    monkeypatch.setattr(ranks, "world", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(ranks.own_by_cost(list(enumerate(costs)), lambda item: item[1]))
    # 5 | 4, 3 to the second, 2 to the first, 2 to the first of equals, 1 to the second.
    assert shares == [[(1, 5), (2, 2), (3, 2)], [(0, 1), (4, 4), (5, 3)]]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("images", [1, 4, 12, 13])
def test_shares_tile_the_batch(monkeypatch, world, images):
    monkeypatch.setattr(ranks, "world", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(share_of(images))
    rows = [row for share in shares for row in range(images)[share.rows]]
    assert rows == list(range(images))
    assert max(share.count for share in shares) - min(share.count for share in shares) <= 1
    assert sum(share.weight for share in shares) == pytest.approx(world)


@pytest.mark.parametrize("views", [Views(8), CropFlip(padding=2)], ids=["views", "crop-flip"])
@pytest.mark.parametrize("first, count", [(0, 3), (3, 2), (5, 0)])
def test_a_share_sees_the_views_and_the_noise_of_the_whole_batch(views, first, count):
    images = torch.randint(256, (5, 3, 9, 9), generator=generator(0, "images"), dtype=torch.uint8)
    noise = registries.noises.create("gaussian", scale=0.1)
    share = Share(first, count, 5)
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
    monkeypatch.setattr(ranks, "wait", lambda: None)
    monkeypatch.setattr(ranks, "broadcast", lambda value: value)
    run = Run.create(tmp_path, "pretrain", "tiny", Facts(), "", QUIET)
    with pytest.raises(UsageError, match="does not divide over 3 ranks") as raised, run:
        pretrain(tiny("pretrain.batch_size=16"), run)
    assert "pretrain.batch_size=15" in raised.value.hint
