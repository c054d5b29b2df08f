"""Images of 24 x 16 pixels go through every stage; what takes squares alone says so, and a square is one number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import TINY, contents, only, sets
from PIL import Image

from rushkit.run.checkpoint import load_checkpoint

SIZE = ("data.image_size=[24, 16]",)
FEW = ("--limit", "3")
MODULE = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 2))
"""


@pytest.fixture
def photos(folder) -> Path:
    """Two classes of images that are 24 high and 16 wide: one brighter above, one brighter below."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for number in range(2 * count):
            pixels = draws.integers(0, 128, (24, 16, 3), dtype=np.uint8)
            half = slice(0, 12) if number % 2 else slice(12, 24)
            pixels[half] += 127
            path = Path("photos") / part / ("sky" if number % 2 else "sea") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return Path("photos")


def tiny(*changes):
    data = ("data.name=folder", f"data.path={Path('photos').resolve()}", "data.limit=0", "backbone.name=resnet10-small")
    return sets(*TINY, *data, *SIZE, *changes)


def facts_of(folder):
    return json.loads((folder / "results.json").read_text())


def size_of(path):
    with Image.open(path) as image:
        return image.size


def checkpoint_of(run):
    (latest,) = (run / "checkpoints").glob("step-*.safetensors")
    return load_checkpoint(latest)


def test_every_stage_takes_them(cli, fails, photos):
    def run(*arguments):
        said = cli(*arguments, "-q")
        assert said.code == 0, said.err
        return said

    run("pretrain", "--recipe", "digits", *tiny())
    encoder = only(Path("runs"), "pretrain")
    assert checkpoint_of(encoder).meta["image_size"] == [24, 16]
    run("probe", "--from", str(encoder), "--limit", "2", "--steps", "1")
    run("finetune", "--from", str(encoder), *sets("finetune.augment=crop-flip"))
    model = str(only(Path("runs"), "finetune"))
    run("evaluate", "--from", model, "--samples", "1,2")
    for kind, changes in (("pgd", ("attack.0.steps=2",)), ("square", ("attack.0.queries=5",))):
        for norm, eps in (("linf", "8/255"), ("l2", "0.5"), ("l1", "2")):
            limits = ("--protocol", "strict", "--norm", norm, "--eps", eps, "--samples", "1")
            run("attack", "--from", model, "--type", kind, *FEW, *limits, "--save", *sets(*changes))
    run("attack", "--from", model, "--type", "pgd", *FEW, "--eight-bit", "--export", "png", *sets("attack.0.steps=2"))
    assert {size_of(path) for path in Path("png").rglob("*.png")} == {(16, 24)}
    gaussian = sets("noise.name=gaussian", "noise.std=0.25", "certify.selection=10")
    run("certify", "--from", model, *FEW, "--samples", "30", *gaussian)
    counts = only(Path("runs"), "certify") / "counts" / "certify.jsonl"
    assert json.loads(counts.read_text().splitlines()[0])["subject"]["dim"] == 3 * 24 * 16
    said = cli("predict", str(photos / "test" / "sea" / "0.png"), "--from", model, "--samples", "30", *gaussian)
    assert said.code == 0, said.err
    assert "24x16 image that the model takes" in " ".join(said.out.split())
    assert "resized" not in said.out.partition("The radius")[0]
    run("report", model)
    run("export", "--from", model, "--to", "model.onnx")
    refused = fails(2, "export", "--from", model, "--to", "model.safetensors")
    assert "--format timm takes squares, and the images are 24x16" in refused.err
    run("finetune", "--from", str(encoder), "--to", "folder", "--dry-run", *sets(f"data.path={photos.resolve()}"))


def test_a_file_of_another_shape_is_fitted_as_in_training(cli, photos):
    assert cli("pretrain", "--recipe", "digits", *tiny(), "-q").code == 0
    assert cli("finetune", "--from", "digits", "-q").code == 0
    Image.new("RGB", (40, 40)).save("square.png")
    said = cli(
        "predict", "square.png", "--from", "digits", "--samples", "30", *sets("noise.name=gaussian", "noise.std=1")
    )
    assert said.code == 0, said.err
    assert "middle 27x40 of 40x40" in " ".join(said.out.split())
    assert "resized from 27x40 to 16x24" in " ".join(said.out.split())


def test_a_square_is_one_number_however_it_is_written(cli, photos):
    for size in ("[8, 8]", "8"):
        changes = sets(*TINY, f"data.image_size={size}", "backbone.name=resnet10-small")
        assert cli("pretrain", "--recipe", "digits", "-q", *changes).code == 0
    one, other = sorted(Path("runs").glob("*-pretrain-*"))
    assert (one / "recipe.toml").read_bytes() == (other / "recipe.toml").read_bytes()
    first, second = checkpoint_of(one), checkpoint_of(other)
    assert first.meta["image_size"] == second.meta["image_size"] == 8
    assert [name for name in first.tensors if not torch.equal(first.tensors[name], second.tensors[name])] == []


def test_the_check_of_a_folder_says_both_ways(cli, photos):
    said = " ".join(cli("data", "check", "photos").out.split())
    assert "images: 3 x 16 x 16" in said
    assert "or as rectangles of 24 x 16" in said
    assert "'data.image_size=[24,16]'" in said
    said = " ".join(cli("data", "check", "photos", "--set", "data.image_size=[24,16]").out.split())
    assert "images: 3 x 24 x 16" in said
    assert "or as rectangles" not in said
    assert "not square (fit" not in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("data.name=digits",), "makes squares, and data.image_size asks for 24x16"),
        (("data.image_size=[24]",), "must be a whole number from 0 to 2048, or [height, width]"),
        (("data.image_size=[24, 0]",), "must be a whole number from 0 to 2048, or [height, width]"),
        (("data.image_size=[24, 16, 3]",), "must be a whole number from 0 to 2048, or [height, width]"),
        (("data.image_size=[24, true]",), "must be a whole number from 0 to 2048, or [height, width]"),
        (("data.image_size=24x16",), "must be a whole number from 0 to 2048, or [height, width]"),
        (("data.image_size=[24, 4096]",), "must be a whole number from 0 to 2048, or [height, width]"),
    ],
)
def test_what_takes_squares_alone_says_so(fails, photos, changes, says):
    given = [change for change in changes if not change.startswith("data.name")]
    arguments = sets("data.name=digits", *SIZE) if len(given) < len(changes) else tiny(*given)
    assert says in " ".join(fails(2, "pretrain", "--recipe", "digits", *arguments).err.split())


def test_somebodys_module_takes_them(cli, fails, photos):
    Path("mine.py").write_text(MODULE)
    asked = ("--data", "photos/test", "--input-size", "24x16", *FEW, "-q")
    assert cli("evaluate", "--model", "mine.py:net", "--samples", "1", *asked).code == 0
    assert facts_of(only(Path("runs"), "evaluate"))["accuracy"][0]["images"] == 3
    assert "cannot take images of 3x24x16" in fails(3, "evaluate", "--model", "mine.py:flat", *asked).err
    for wrong in ("24x", "x16", "0", "24x16x3", "-3", "24 x 16", "9999"):
        said = fails(2, "evaluate", "--model", "mine.py:net", "--data", "photos/test", f"--input-size={wrong}")
        assert "--input-size is a number from 1 to 2048, or two such as 24x16" in " ".join(said.err.split())


def test_runs_of_squares_are_not_measured_on_rectangles(cli, fails, photos):
    square = tiny("data.image_size=16")
    assert cli("pretrain", "--recipe", "digits", "-q", *square).code == 0
    assert cli("finetune", "--from", "digits", "-q").code == 0
    before = contents(Path("runs"))
    said = fails(2, "evaluate", "--from", "digits", *sets(*SIZE))
    assert "are 3x24x16, and the model takes 3x16x16" in " ".join(said.err.split())
    assert contents(Path("runs")).keys() >= before.keys()
