"""Every bad input of the issue: one message that names the thing and the fix, the right exit code, nothing touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import TINY, contents, only, sets
from PIL import Image

from rushkit.run.checkpoint import load_checkpoint, save_checkpoint


def test_an_unknown_recipe(fails):
    said = fails(2, "pretrain", "--recipe", "cifar11")
    assert "unknown recipe 'cifar11'" in said.err
    assert "did you mean cifar10" in said.err


@pytest.mark.parametrize(
    "change, words",
    [
        ("pretrain.epoch=1", "pretrain.epoch: unknown key; did you mean epochs?"),
        ("pretrainn.epochs=1", "pretrainn: unknown key; did you mean pretrain?"),
        ("pretrain.epochs=many", "pretrain.epochs: must be a whole number (got 'many')"),
        ("pretrain.epochs=1.5", "pretrain.epochs: must be a whole number (got 1.5)"),
        ("data.name=cifar11", "data.name: unknown data set 'cifar11' (did you mean cifar10"),
        ("backbone.name=resnet10", "backbone.name: unknown backbone 'resnet10' (did you mean resnet"),
        ("backbone.stem=small", "backbone.stem: unknown key of backbone resnet10-small"),
        ("noise.name=unifrom", "noise.name: unknown noise 'unifrom' (did you mean uniform"),
        ("noise.scale=wide", "noise.scale: must be a number (got 'wide')"),
        ("pretrain.objective=cross-entropy", "'cross-entropy' is an objective of finetune, not of pretrain"),
        ("pretrain.epochs", "--set 'pretrain.epochs' is not KEY=VALUE"),
        ("attack.3.eps=1", "--set attack.3.eps: '3' must be an index below 1"),
    ],
)
def test_a_bad_change_of_a_recipe(fails, folder, change, words):
    said = fails(2, "pretrain", "--recipe", "digits", *sets(change))
    assert words in said.err
    assert not (folder / "runs").exists()


def test_a_recipe_file_with_errors(fails, folder):
    (folder / "mine.toml").write_text(
        'schema = 1\nextends = "digits"\n[pretrain]\nepochs = 0\nbatchsize = 3\n[nosie]\n'
    )
    said = fails(2, "pretrain", "--recipe", "mine.toml")
    assert "mine.toml:4: pretrain.epochs: must be greater than or equal to 1 (got 0)" in said.err
    assert "mine.toml:6: nosie: unknown key; did you mean noise?" in said.err


CIFAR = ("data.name=cifar10", "data.limit=20", "data.image_size=32", "pretrain.batch_size=10")


def cifar(folder: Path, records: int = 4, label: int = 3) -> Path:
    """A data folder whose files have ``records`` images each: what is short of the official files is an error."""
    place = folder / "data" / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (place / name).write_bytes(bytes([label, *[128] * 3072]) * records)
    return place


def test_a_missing_data_file(fails, folder):
    said = fails(1, "pretrain", "--recipe", "digits", *sets(*TINY, *CIFAR))
    assert "data_batch_1.bin" in said.err
    assert "cifar-10-binary.tar.gz" in said.err


def test_a_short_data_file(fails, folder):
    place = cifar(folder)
    before = contents(folder / "data")
    said = fails(1, "pretrain", "--recipe", "digits", *sets(*TINY, *CIFAR))
    assert str(place.relative_to(folder) / "data_batch_1.bin") in said.err
    assert "short" in said.err
    assert contents(folder / "data") == before


def test_a_label_out_of_range(fails, folder):
    cifar(folder, records=10_000, label=10)
    said = fails(1, "pretrain", "--recipe", "digits", *sets(*TINY, *CIFAR))
    assert "record 0 has label 10, outside 0..9" in said.err


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_batch_larger_than_the_data_set(fails, runs, verb):
    start, changes = (["--recipe", "digits"], TINY) if verb == "pretrain" else (["--from", "digits"], ())
    said = fails(2, verb, *start, *sets(*changes, f"{verb}.batch_size=33"))
    assert "a batch of 33 is larger than digits/train with 32 images" in said.err
    assert f"--set {verb}.batch_size=8" in said.err


@pytest.mark.parametrize("verb", ["finetune", "evaluate", "attack"])
def test_from_with_no_such_run(fails, runs, verb):
    before = contents(runs)
    said = fails(2, verb, "--from", "cifar10")
    needed = "pretrain" if verb == "finetune" else "finetune"
    assert f"no finished run of {needed} of recipe 'cifar10' in runs" in said.err
    assert "there are: " in said.err
    assert "make one with: rushkit" in said.err
    assert contents(runs) == before


@pytest.mark.parametrize("verb", ["finetune", "evaluate", "attack"])
def test_no_run_at_all(fails, folder, verb):
    assert "there are no runs in runs" in fails(2, verb).err
    assert contents(folder) == {}


def test_from_a_run_of_another_kind(fails, runs):
    run = only(runs, "pretrain")
    said = fails(2, "evaluate", "--from", run.name)
    assert "is a run of pretrain; this needs one of finetune" in said.err


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "attack", "audit", "certify"])
def test_a_run_to_go_on_with_wants_resume(fails, runs, verb):
    before = contents(runs)
    assert "--run without --resume" in fails(2, verb, "--run", "runs/x").err
    assert contents(runs) == before


def test_from_a_file_that_is_not_there_or_not_ours(fails, folder):
    assert "there is no checkpoint gone.safetensors" in fails(1, "evaluate", "--from", "gone.safetensors").err
    (folder / "model.pt").write_bytes(b"PK\x03\x04")
    assert "not a checkpoint of rushkit" in fails(2, "evaluate", "--from", "model.pt").err


@pytest.fixture
def checkpoint(runs, folder) -> Path:
    """A copy of the fine-tuned checkpoint outside of its run."""
    (stored,) = (only(runs, "finetune") / "checkpoints").glob("*.safetensors")
    copy = folder / "copy.safetensors"
    copy.write_bytes(stored.read_bytes())
    return copy


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_checkpoint(fails, checkpoint, keep):
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    said = fails(1, "evaluate", "--from", str(checkpoint))
    assert "copy.safetensors" in said.err


def test_an_altered_checkpoint(fails, checkpoint):
    data = bytearray(checkpoint.read_bytes())
    data[-3] ^= 1
    checkpoint.write_bytes(bytes(data))
    assert "copy.safetensors is altered" in fails(1, "evaluate", "--from", str(checkpoint)).err


def test_a_checkpoint_that_is_not_ours(fails, folder):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, folder / "other.safetensors")
    assert (
        "is a safetensors file, but not a rushkit checkpoint" in fails(1, "evaluate", "--from", "other.safetensors").err
    )
    (folder / "text.safetensors").write_text("words and more words")
    assert "is not a safetensors file" in fails(1, "evaluate", "--from", "text.safetensors").err


def test_a_checkpoint_of_no_stage(fails, folder):
    save_checkpoint(folder / "bare.safetensors", {"weight": torch.zeros(3)}, {})
    for verb in ("evaluate", "attack", "finetune"):
        assert "bare.safetensors" in fails(1, verb, "--from", "bare.safetensors").err


def test_a_checkpoint_of_another_architecture(fails, runs):
    before = contents(only(runs, "pretrain"))
    said = fails(1, "finetune", "--from", "digits", *sets("backbone.name=resnet18"))
    assert "checkpoint" in said.err
    assert "[backbone]" in said.err
    assert contents(only(runs, "pretrain")) == before


@pytest.mark.parametrize("verb", ["evaluate", "attack"])
def test_another_backbone_for_a_trained_model(fails, runs, verb):
    before = contents(runs)
    said = fails(2, verb, *sets("backbone.name=resnet18"))
    assert "holds a resnet10-small, and --set cannot make another backbone of it" in said.err
    assert contents(runs) == before


def test_a_checkpoint_whose_recipe_does_not_load(fails, checkpoint, folder):
    stored = load_checkpoint(checkpoint)
    save_checkpoint(folder / "odd.safetensors", stored.tensors, stored.meta | {"recipe": "[data]\nnmae = 1\n"})
    assert "odd.safetensors" in fails(2, "evaluate", "--from", "odd.safetensors").err


def test_the_newest_checkpoint_of_a_run_torn_falls_back_with_a_warning(cli, runs):
    store = only(runs, "finetune") / "checkpoints"
    (whole,) = store.glob("*.safetensors")
    (store / "step-000009.safetensors").write_bytes(whole.read_bytes()[:-1])
    (store / "last").write_text("step-000009.safetensors\n")
    said = cli("evaluate", "--samples", "1")
    assert said.code == 0
    assert "warning: " in said.err
    assert "step-000009" in said.err


@pytest.mark.parametrize("verb", ["pretrain", "evaluate"])
def test_a_folder_of_runs_that_cannot_be_written(fails, runs, folder, verb):
    (folder / "blocked").write_text("a file in the way")
    start = ["--recipe", "digits", *sets(*TINY)] if verb == "pretrain" else ["--from", str(only(runs, "finetune"))]
    said = fails(1, verb, *start, *sets("system.runs_dir=blocked"))
    assert "blocked" in said.err
    assert (folder / "blocked").read_text() == "a file in the way"


def images(folder: Path, sizes=(8,)) -> None:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            place = folder / "data" / split / label
            place.mkdir(parents=True)
            for index in range(10):
                size = sizes[index % len(sizes)]
                Image.new("RGB", (size, size), (20 * index, 0, 9)).save(place / f"{index}.png")


FOLDER = ("data.name=folder", "pretrain.batch_size=10", "data.image_size=0", "data.limit=0")


def test_a_folder_with_images_of_several_sizes(fails, cli, folder):
    images(folder, sizes=(8, 9))
    said = fails(1, "pretrain", "--recipe", "digits", *sets(*TINY, *FOLDER))
    assert "1.png" in said.err
    assert "image_size" in said.err
    assert cli("pretrain", "--recipe", "digits", *sets(*TINY, *FOLDER, "data.image_size=8")).code == 0


def test_an_unreadable_image_stops_or_is_skipped_as_the_recipe_says(fails, cli, folder):
    images(folder)
    (folder / "data" / "train" / "dog" / "3.png").write_bytes(b"not an image")
    before = contents(folder / "data")
    said = fails(1, "pretrain", "--recipe", "digits", *sets(*TINY, *FOLDER))
    assert "dog/3.png" in said.err
    assert "skip" in said.err
    said = cli("pretrain", "--recipe", "digits", *sets(*TINY, *FOLDER, "data.on_unreadable=skip"))
    assert said.code == 0, said.err
    assert "19 images of data/train (1 left out: unreadable)" in said.out
    assert contents(folder / "data") == before


def test_no_such_folder_of_images(fails, folder):
    assert "data cannot be listed" in fails(1, "pretrain", "--recipe", "digits", *sets(*TINY, *FOLDER)).err


@pytest.mark.parametrize("samples", ["", "1,x", "0", "1.5", ","])
def test_bad_numbers_of_samples(fails, runs, samples):
    before = contents(runs)
    assert "samples" in fails(2, "evaluate", "--samples", samples).err
    assert contents(runs) == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--type", "pgdd"], "unknown attack 'pgdd'"),
        (["--eps", "big"], "--eps: attack.0.eps: must be a number such as 0.03 or 8/255 (got 'big')"),
        (["--eps", "-1"], "--eps: attack.0.eps: must be greater than or equal to 0"),
        (["--norm", "l3"], "--norm: attack.0.norm: must be 'linf', 'l2' or 'l1' (got 'l3')"),
        (["--set", "attack.0.stepz=3"], "attack.0.stepz: unknown key; did you mean steps?"),
    ],
)
def test_bad_flags_of_an_attack(fails, runs, arguments, words):
    before = contents(runs)
    assert words in fails(2, "attack", *arguments).err
    assert contents(runs) == before


def test_a_transfer_to_nothing_known(fails, runs):
    assert "'stl1' is neither a recipe nor a data set" in fails(2, "finetune", "--from", "digits", "--to", "stl1").err


@pytest.mark.parametrize("device", ["cuda:77", "nothing"])
def test_a_device_that_is_not_there(fails, folder, device):
    said = fails(2, "pretrain", "--recipe", "digits", *sets(*TINY, f"system.device={device}"))
    assert f"device {device!r} cannot be used" in said.err
    assert not (folder / "runs").exists()


def test_a_run_without_its_data_leaves_no_folder(fails, folder):
    fails(1, "pretrain", "--recipe", "digits", *sets(*TINY, *CIFAR))
    assert list((folder / "runs").iterdir()) == []
