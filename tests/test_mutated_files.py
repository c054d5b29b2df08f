"""Files altered at random: each loads as what it was, or is refused in one sentence that names it.

Never a traceback, a hang, or a wrong load. What a format cannot tell (a pixel of a binary without a checksum) may
change; shapes and the range of labels may not. ``run/test_checkpoint.py`` alters checkpoint files in 900 more ways.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from rushkit import data, registries
from rushkit.data import cifar, stl10
from rushkit.data.cache import cache_root, cached
from rushkit.data.cifar import CIFAR10, CIFAR100
from rushkit.data.memory import Split
from rushkit.errors import RushkitError
from rushkit.recipe import toml
from rushkit.recipe.load import load_recipe, read_recipe
from rushkit.recipe.schema import Recipe, parse_number
from rushkit.results.run_file import Facts
from rushkit.results.training import Pretraining
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.info import find_runs
from rushkit.run.source import resolve_from
from rushkit.run.speaker import Speaker
from rushkit.run.store import CheckpointStore
from rushkit.setup.resume import Stopped, reopen
from rushkit.setup.start import start_run
from rushkit.training.pretrain import pretrain

QUIET = Speaker(-1, rank=0)
# What a value may be swapped for: other types, and what parsers stumble over.
VALUES = ("true", "-1", "0", "1e999", "nan", '""', '"8/0"', "[]", "[1, 'a']", "{}", "{a = 1}", "2020-01-01", "9" * 5000)
TINY_TRAINING = (
    "data.limit=16",
    "data.image_size=8",
    "backbone.name=tiny",
    "projector.hidden=4",
    "projector.out=4",
    "pretrain.epochs=3",
    "pretrain.batch_size=8",
    "pretrain.knn.every=0",
    "pretrain.save_every=4steps",
    "system.device=cpu",
)


@pytest.fixture(autouse=True)
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, no network, and an end to whatever hangs."""
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)

    def hangs(number: int, frame: object) -> None:
        raise AssertionError("it hangs")

    old = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


def flip(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def leave_out(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + content[at + chance.randrange(1, 40) :]


def repeat(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + content[at : at + chance.randrange(1, 40)] + content[at:]


def blank(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    count = min(chance.randrange(1, 600), len(content) - at)
    return content[:at] + bytes(count) + content[at + count :]


def append(content: bytes, chance: random.Random) -> bytes:
    return content + chance.randbytes(chance.randrange(1, 50))


def empty(content: bytes, chance: random.Random) -> bytes:
    return b""


def change_length(content: bytes, chance: random.Random) -> bytes:
    """Another number in the first eight bytes, where safetensors has the length of its header."""
    old = int.from_bytes(content[:8], "little")
    new = chance.choice([0, 1, old - 1, old + 1, old // 2, len(content), 2**31, 2**63, 2**64 - 1])
    return max(new, 0).to_bytes(8, "little") + content[8:]


def change_lines(content: bytes, chance: random.Random) -> bytes:
    """A line doubled, left out, or moved."""
    lines = content.split(b"\n")
    at, to = chance.randrange(len(lines)), chance.randrange(len(lines))
    line = lines[at]
    if chance.random() < 0.7:
        del lines[at]
    if chance.random() < 0.7:
        lines.insert(to, line)
    return b"\n".join(lines)


def change_value(content: bytes, chance: random.Random) -> bytes:
    """The value of a line, after its = or :, swapped for one of another type or of another line."""
    lines = content.decode(errors="replace").split("\n")
    sign = "=" if "=" in content.decode(errors="replace") else ":"
    places = [index for index, line in enumerate(lines) if sign in line]
    if not places:
        return flip(content, chance)
    at, other = chance.choice(places), chance.choice(places)
    value = chance.choice([chance.choice(VALUES), lines[other].partition(sign)[2]])
    lines[at] = f"{lines[at].partition(sign)[0]}{sign} {value}"
    return "\n".join(lines).encode()


BYTES = (flip, flip, flip, cut, leave_out, repeat, blank, append, empty)
TEXT = (*BYTES, change_lines, change_value, change_value, change_value)


def mutate(path: Path, kinds: tuple[Callable[[bytes, random.Random], bytes], ...], chance: random.Random) -> bytes:
    """Alter a file in place, once as a rule; returns what it holds now."""
    content = path.read_bytes()
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        content = chance.choice(kinds)(content or b"\0", chance)
    path.write_bytes(content)
    return content


def outcome(read: Callable[[], Any], *names: str) -> Any:
    """What ``read`` gives, or the RushkitError that it raises, whose message names one of these files."""
    try:
        return read()
    except RushkitError as error:
        refusal = error
    assert any(name in refusal.message for name in names), refusal.message
    return refusal


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def meanings(key: str, value: object) -> list[object]:
    """What a value in a recipe may be read as: itself, or the number, the class or the component that it says."""
    if key.endswith((".target", ".name", ".type")):
        return [value, str(value).lower()]
    with suppress(ValueError):
        return [value, parse_number(value)]
    return [value]


def test_recipes(tmp_path: Path) -> None:
    """300 recipes. One that loads has the very values that its text says, and its resolved text loads back to it."""
    chance, path = random.Random(1), tmp_path / "mine.toml"
    whole = toml.dumps(load_recipe("cifar10-cpu", {"data.name": "digits"}, {}).resolved()).encode()
    loaded = 0

    for _ in range(300):
        path.write_bytes(whole)
        content = mutate(path, TEXT, chance)
        recipe = outcome(lambda: load_recipe(str(path), (), {}), "mine.toml")
        if isinstance(recipe, Recipe):
            loaded += 1
            found = toml.flatten(recipe.resolved())
            for key, value in toml.flatten(tomllib.loads(content.decode())).items():
                assert found[key] in meanings(key, value), key
            assert read_recipe(toml.dumps(recipe.resolved()), "again").resolved() == recipe.resolved()
    assert loaded > 10


@pytest.fixture
def run_of_checkpoints(tmp_path: Path) -> Path:
    with Run.create(tmp_path / "runs", "pretrain", "mine", Facts(), 'name = "mine"\n', QUIET) as run:
        for step in (1, 2, 3, 4):
            run.metrics.append(step=step, epoch=step, kind="epoch", loss=1 / step)
            run.save_checkpoint(step, {"w": torch.full((30,), step), "n": torch.ones(())}, {"step": step}, step == 1)
        run.write_results(Pretraining(recipe="mine", epochs=4, loss=0.25, knn_protocol=None))
    return run.path


def test_checkpoints_of_a_run(tmp_path: Path, run_of_checkpoints: Path) -> None:
    """300 folders with one or two of their checkpoints and pointers altered: what loads is one that was saved."""
    chance, place = random.Random(2), tmp_path / "altered"
    whole = {step: load_checkpoint(path) for step, path in steps_of(run_of_checkpoints).items()}
    assert sorted(whole) == [1, 3, 4]
    found = []
    for _ in range(300):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(run_of_checkpoints / "checkpoints", place)
        for path in chance.sample(sorted(place.iterdir()), chance.choice([1, 1, 2])):
            mutate(path, (*BYTES, change_length) if path.suffix else TEXT, chance)
        loaded = outcome(CheckpointStore(place, writable=False, warn=lambda _: None).load_latest, str(place))
        expected = whole[loaded.meta["step"]]
        assert same(loaded.tensors, expected.tensors)
        assert loaded.meta == expected.meta
        found.append(loaded.meta["step"])
        best = CheckpointStore(place, writable=False).pointed("best")
        if best is not None:
            outcome(lambda best=best: load_checkpoint(best), str(best))
    assert found.count(4) > 150
    assert found.count(3) > 30


def tiny(in_channels: int, image_size: int) -> nn.Module:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_channels, 4))
    model.num_features = 4
    return model


def test_runs_that_are_resumed(tmp_path: Path) -> None:
    """60 stopped runs with one file altered: they end with the weights of a whole one, or the file is named."""
    chance = random.Random(8)
    registries.backbones.register("tiny")(tiny)
    try:
        recipe = load_recipe("digits", [*TINY_TRAINING, f"system.runs_dir={tmp_path / 'runs'}"], {})
        with start_run("pretrain", recipe, QUIET) as run:
            pretrain(recipe, run)
        whole = run.checkpoints.load_latest()
        # As a kill after four of the six steps leaves it.
        (run.path / "results.json").unlink()
        facts = run.path / "run.json"
        facts.write_text(facts.read_text().replace('"status": "finished"', '"status": "running"'))
        steps_of(run.path)[6].unlink()
        (run.path / "checkpoints" / "last").write_text("step-000004.safetensors\n")
        names = ("recipe.toml", "recipe.toml", "metrics.jsonl", "metrics.jsonl", "run.json", "checkpoints/last")
        finished = 0
        for _ in range(60):
            path = tmp_path / "altered"
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(run.path, path)
            mutate(path / chance.choice(names), TEXT, chance)

            def resume(path: Path = path) -> Run:
                again, resumed = reopen(Stopped("pretrain", str(tmp_path), str(path)), speaker=QUIET)
                with resumed:
                    pretrain(again, resumed)
                return resumed

            resumed = outcome(resume, str(path))
            if isinstance(resumed, Run):
                finished += 1
                assert same(resumed.checkpoints.load_latest().tensors, whole.tensors)
        assert 10 < finished < 50
    finally:
        registries.backbones.unregister("tiny", __name__)


def steps_of(run: Path) -> dict[int, Path]:
    return {int(path.stem.removeprefix("step-")): path for path in (run / "checkpoints").glob("step-*")}


def test_run_folders(tmp_path: Path, run_of_checkpoints: Path) -> None:
    """100 run folders with one text file altered: listed, resolved, opened, and their metrics read."""
    chance = random.Random(3)
    root = tmp_path / "altered"
    names = ("run.json", "run.json", "results.json", "metrics.jsonl", "metrics.jsonl", "lock")
    for _ in range(100):
        shutil.rmtree(root, ignore_errors=True)
        path = root / run_of_checkpoints.name
        shutil.copytree(run_of_checkpoints, path)
        name = chance.choice(names)
        mutate(path / name, TEXT, chance)
        (info,) = find_runs(root)
        assert info.record() is None or info.record().recipe
        source = outcome(lambda path=path, root=root: resolve_from(path, root, "pretrain"), str(path))
        if not isinstance(source, RushkitError):
            assert source.load().meta["step"] in (1, 3, 4)
        run = outcome(lambda path=path: Run.open(path, QUIET), str(path))
        if isinstance(run, Run):
            outcome(lambda run=run: run.metrics.keep_until(3), "metrics.jsonl")
            run.close()


def small(layout: cifar.Layout) -> cifar.Layout:
    """The official layout with four records a file."""
    parts = {name: tuple(replace(file, records=4) for file in files) for name, files in layout.parts.items()}
    return replace(layout, parts=parts)


def read_all(name: str, root: Path, **options: Any) -> dict[str, Split]:
    """Every split of a data set, decoded anew; shapes and labels are within what the data set says of itself."""
    shutil.rmtree(cache_root(), ignore_errors=True)
    dataset = data.create(name, root=str(root), **options)
    splits = {split: dataset.split(split) for split in dataset.splits}
    for split in splits.values():
        assert split.images.shape[1:] == (3, dataset.image_size, dataset.image_size)
        assert split.images.dtype == torch.uint8
        assert split.labels is None or split.labels.shape == (len(split.images),)
        assert split.labels is None or all(0 <= label < len(dataset.classes) for label in split.labels.tolist())
    return splits


def records(root: Path, *names: str, size: int) -> Tensor:
    content = bytearray(b"".join((root / name).read_bytes() for name in names))
    return torch.frombuffer(content, dtype=torch.uint8).view(-1, size)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_binaries_of_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """2 x 100 data sets with one file altered: what loads are the bytes of the files."""
    chance = random.Random(4)
    layout = small({"cifar10": CIFAR10, "cifar100": CIFAR100}[name])
    monkeypatch.setattr(cifar, name.upper(), layout)
    count = len(layout.labels)
    for file in layout.archive.files:
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        content = b"".join(bytes([label] * count) + chance.randbytes(cifar.PIXELS) for label in range(4))
        (tmp_path / file.path).write_bytes(content)
    for kind in layout.labels.values():
        (tmp_path / kind.names_file).write_text("\n".join(kind.names))
    files = [*(file.path for file in layout.archive.files), layout.labels["fine"].names_file]
    loaded = 0
    for _ in range(100):
        path = tmp_path / chance.choice(files)
        whole = path.read_bytes()
        mutate(path, TEXT if path.suffix == ".txt" else BYTES, chance)
        splits = outcome(lambda: read_all(name, tmp_path), str(path))
        if isinstance(splits, dict):
            loaded += 1
            for split, parts in layout.parts.items():
                expected = records(tmp_path, *(file.path for file in parts), size=count + cifar.PIXELS)
                assert torch.equal(splits[split].images.flatten(1), expected[:, count:])
                assert torch.equal(splits[split].labels, expected[:, count - 1].long())
        path.write_bytes(whole)
    assert 10 < loaded < 90


def test_binaries_of_stl10(tmp_path: Path) -> None:
    """100 data sets with one file altered: what loads are the bytes of the files, fewer images where one is cut."""
    chance, folder = random.Random(5), tmp_path / "stl10_binary"
    folder.mkdir()
    for name in ("train", "test", "unlabeled"):
        (folder / f"{name}_X.bin").write_bytes(chance.randbytes(3 * stl10.PIXELS))
    for name in ("train", "test"):
        (folder / f"{name}_y.bin").write_bytes(bytes([1, 10, 5]))
    (folder / "class_names.txt").write_text("\n".join(stl10.CLASSES))
    loaded = 0
    for _ in range(100):
        path = chance.choice(sorted(folder.iterdir()))
        whole = path.read_bytes()
        mutate(path, TEXT if path.suffix == ".txt" else BYTES, chance)
        splits = outcome(lambda: read_all("stl10", tmp_path), str(path))
        if isinstance(splits, dict):
            loaded += 1
            for split in splits:
                expected = records(folder, f"{split}_X.bin", size=stl10.PIXELS)
                assert torch.equal(splits[split].images.transpose(2, 3).flatten(1), expected)
            for split in ("train", "test"):
                assert torch.equal(splits[split].labels, records(folder, f"{split}_y.bin", size=1)[:, 0].long() - 1)
        path.write_bytes(whole)
    assert 10 < loaded < 90


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("unreadable", ["stop", "skip"])
def test_folders_of_images(tmp_path: Path, suffix: str, unreadable: str) -> None:
    """4 x 40 folders with one image altered. PNG has checksums: what loads is what was. A skipped one has no label."""
    chance = random.Random(6)
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(2):
                image = Image.frombytes("RGB", (12, 12), chance.randbytes(3 * 144))
                image.save(tmp_path / split / label / f"{index}.{suffix}")
    options = {"path": str(tmp_path), "on_unreadable": unreadable}
    whole = read_all("folder", tmp_path, **options)
    loaded = 0
    for _ in range(40):
        split = chance.choice(["train", "test"])
        index = chance.randrange(4)
        path = sorted((tmp_path / split).rglob("*.*"))[index]
        content = path.read_bytes()
        mutate(path, BYTES, chance)
        splits = outcome(lambda: read_all("folder", tmp_path, **options), str(path))
        if isinstance(splits, dict):
            loaded += 1
            kept = [place for place in range(4) if place != index or not splits[split].skipped]
            assert torch.equal(splits[split].labels, whole[split].labels[kept])
            unharmed = [place for place, old in enumerate(kept) if old != index or suffix == "png"]
            old = [kept[place] for place in unharmed]
            assert torch.equal(splits[split].images[unharmed], whole[split].images[old])
        path.write_bytes(content)
    assert loaded > (25 if unreadable == "skip" else 3)


def test_caches(tmp_path: Path) -> None:
    """100 caches with the images or what is said of them altered: they are found to be, and built anew."""
    chance = random.Random(7)
    images = torch.randint(0, 256, (6, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    built = 0

    def build(notes: dict[str, Any]) -> Iterator[Tensor]:
        nonlocal built
        built += 1
        yield images
        notes["skipped"] = [2, 5]

    for _ in range(100):
        cached("x", "source", (3, 4, 4), build)
        path = chance.choice(sorted((cache_root() / "data").iterdir()))
        before = path.stat().st_mtime_ns
        mutate(path, BYTES if path.suffix == ".u8" else TEXT, chance)
        # A clock may not have moved on since.
        os.utime(path, ns=(before, before + 1))
        found = outcome(lambda: cached("x", "source", (3, 4, 4), build), str(path))
        assert torch.equal(found.images, images)
        assert found.notes == {"skipped": [2, 5]}
    assert built > 90
