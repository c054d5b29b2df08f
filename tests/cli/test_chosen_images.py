"""``--limit`` and ``--skip`` of every verb open the files of the images that they choose, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from rushkit.data import picture
from rushkit.data.memory import chosen_indices

CLASSES, EACH = 100, 20
MODEL = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 100))
"""
GIVEN = ("--model", "net.py:net", "--data", "pictures/val", "--input-size", "8", "--skip", "100", "--limit", "6")
NOISY = ("--set", "noise.name=gaussian", "--set", "noise.std=0.5")
VERBS = {
    "evaluate": ("--samples", "1"),
    "attack": ("--type", "pgd", "--eps", "8/255", "--samples", "1", "--protocol", "paper", "--set", "attack.0.steps=1"),
    "audit": ("--eps", "8/255", "--steps", "1", "--eot", "1", "--queries", "2"),
    "certify": (*NOISY, "--norm", "l2", "--samples", "20", "--set", "certify.selection=5", "--alpha", "0.05"),
}


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Two thousand tiny JPEGs in a hundred class folders."""
    top = tmp_path_factory.mktemp("many")
    first = top / "first.jpg"
    Image.new("RGB", (12, 10), (200, 100, 50)).save(first)
    for label in range(CLASSES):
        folder = top / "val" / f"n{label:04}"
        folder.mkdir(parents=True)
        for number in range(EACH):
            (folder / f"{number:02}.JPEG").write_bytes(first.read_bytes())
    return top


@pytest.fixture
def opened(many, folder, monkeypatch) -> list[Path]:
    """The image files that are opened."""
    (folder / "net.py").write_text(MODEL)
    (folder / "pictures").symlink_to(many)
    files: list[Path] = []
    original = picture.open_file
    monkeypatch.setattr(picture, "open_file", lambda path: files.append(Path(path)) or original(path))
    return files


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_opens_the_files_of_its_images_alone(cli, opened, folder, verb):
    said = cli(verb, *GIVEN, *VERBS[verb], "--quiet")
    assert said.code in ((0, 1) if verb == "audit" else (0,)), said.err
    expected = chosen_indices(CLASSES * EACH, 6, 100)
    assert expected is not None
    names = [f"n{index // EACH:04}/{index % EACH:02}.JPEG" for index in sorted(expected.tolist())]
    assert sorted(f"{path.parent.name}/{path.name}" for path in opened) == names


def test_counts_know_which_images_could_not_be_read(cli, folder):
    (folder / "net.py").write_text(MODEL.replace("100", "2"))
    for number in range(8):
        path = folder / "val" / ("cat", "dog")[number // 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(path)
    (folder / "val" / "cat" / "2.png").write_text("no image")
    given = ("--model", "net.py:net", "--data", "val", "--set", "data.on_unreadable=skip", "--skip", "2")
    certified = cli("certify", *given, "--input-size", "8", *VERBS["certify"], "--json")
    assert certified.code == 0, certified.err
    results = json.loads(certified.out)
    assert results["outcomes"]["images"] == [0, 4, 6]
    again = cli("certify", "--from-counts", results["run"], "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["outcomes"] == results["outcomes"]
