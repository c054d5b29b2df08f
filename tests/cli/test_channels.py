"""Images of one and of four channels go through every stage; what does not fit says what it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import TINY, only, sets
from safetensors import safe_open

from rushkit import registries
from rushkit.data.digits import digits
from rushkit.run.checkpoint import load_checkpoint

FEW = ("--limit", "4")


class Recoloured:
    """The digits in a number of channels; the fourth is their negative."""

    classes, splits = digits().classes, digits().splits

    def __init__(self, name: str, channels: int, image_size: int) -> None:
        self.name, self.channels, self.image_size = name, channels, image_size

    def split(self, name):
        split = digits(image_size=self.image_size).split(name)
        images = torch.cat((split.images, 255 - split.images[:, :1]), 1)
        return replace(split, images=images[:, : self.channels].contiguous())


class Silent(Recoloured):
    """One that has grey images, and does not say so."""

    def __getattribute__(self, name):
        if name == "channels":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def split(self, name):
        split = digits(image_size=self.image_size).split(name)
        return replace(split, images=split.images[:, :1].contiguous())


@pytest.fixture(autouse=True)
def data_sets() -> Iterator[None]:
    with registries.datasets.restored():
        for name, channels, kind in (("grey", 1, Recoloured), ("four", 4, Recoloured), ("silent", 1, Silent)):

            def made(root: str = "", image_size: int = 8, name=name, channels=channels, kind=kind) -> Recoloured:
                return kind(name, channels, image_size)

            registries.datasets.register(name)(made)
        yield


def tiny(name, *changes):
    return sets(*TINY, f"data.name={name}", "backbone.name=resnet10-small", *changes)


def facts_of(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(("name", "channels"), [("grey", 1), ("four", 4)])
def test_every_stage_takes_them(cli, folder, name, channels):
    def run(*arguments):
        said = cli(*arguments, "-q")
        assert said.code == 0, said.err
        return said

    run("pretrain", "--recipe", "digits", *tiny(name))
    checkpoint = only(Path("runs"), "pretrain") / "checkpoints"
    (latest,) = checkpoint.glob("step-*.safetensors")
    stored = load_checkpoint(latest)
    assert stored.meta["channels"] == channels
    assert stored.tensors["encoder.conv1.weight"].shape[1] == channels
    run("probe", "--from", str(checkpoint.parent), "--limit", "2", "--steps", "1")
    run("finetune", "--from", str(checkpoint.parent), *sets("finetune.epochs=1", "finetune.batch_size=16"))
    model = str(only(Path("runs"), "finetune"))
    run("evaluate", "--from", model, "--samples", "1,2")
    run("attack", "--from", model, "--type", "pgd", *FEW, "--protocol", "both", *sets("attack.0.steps=2"))
    gaussian = sets("noise.name=gaussian", "noise.std=0.25", "certify.selection=10")
    run("certify", "--from", model, *FEW, "--samples", "30", *gaussian)
    counts = only(Path("runs"), "certify") / "counts" / "certify.jsonl"
    assert json.loads(counts.read_text().splitlines()[0])["subject"]["dim"] == channels * 8 * 8
    certified = str(only(Path("runs"), "certify"))
    run("certify", "--from-counts", certified, *gaussian)
    run("report", model)
    for suffix in ("safetensors", "onnx"):
        run("export", "--from", model, "--to", f"model.{suffix}")
    with safe_open("model.safetensors", "pt") as exported:
        assert exported.get_tensor("conv1.weight").shape[1] == channels
        assert json.loads(exported.metadata()["rushkit-export"])["channels"] == channels
    run(
        "import",
        "model.safetensors",
        "--backbone",
        "resnet10-small",
        "--data",
        name,
        "--check",
        "8",
        *sets("data.image_size=8"),
    )
    assert facts_of(only(Path("runs"), "import"))["channels"] == channels


def test_an_encoder_of_colours_is_not_fine_tuned_on_grey_images(cli, fails, folder):
    assert cli("pretrain", "--recipe", "digits", *tiny("digits"), "-q").code == 0
    said = fails(2, "finetune", "--from", "digits", *sets("data.name=grey"))
    assert "takes images of 3 channels, and grey has 1" in said.err


def test_images_that_are_not_what_their_data_set_says_are_no_runtime_error(fails, folder):
    said = fails(1, "pretrain", "--recipe", "digits", *tiny("silent"))
    assert "silent/train has images of 1 channel, and says that they have 3" in said.err
    assert "`channels = 1`" in said.err


@pytest.mark.parametrize("changes", [(), ("pretrain.views.jitter_p=0", "pretrain.views.grayscale=0")])
def test_with_or_without_colour_jitter(cli, folder, changes):
    assert cli("pretrain", "--recipe", "digits", "--dry-run", *tiny("grey", *changes)).code == 0


def test_a_normalisation_has_one_number_a_channel(cli, fails, folder):
    three = ("backbone.mean=[0.5, 0.5, 0.5]", "backbone.std=[0.5, 0.5, 0.5]")
    said = fails(2, "pretrain", "--recipe", "digits", *tiny("grey", *three))
    assert "images of 1 channels are normalised by as many means" in said.err
    one = ("backbone.mean=[0.5]", "backbone.std=[0.5]")
    assert cli("pretrain", "--recipe", "digits", "--dry-run", *tiny("grey", *one)).code == 0


def test_a_backbone_that_takes_colours_alone_says_so(fails, folder):
    said = fails(2, "pretrain", "--recipe", "digits", *tiny("grey", "backbone.name=torchvision/resnet18"))
    assert "it takes 3 channels, not 1" in said.err
