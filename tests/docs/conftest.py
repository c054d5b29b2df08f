"""The command line in this process, in a folder of its own, and tiny data sets that lie as the official ones do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rushkit.cli.app import main
from rushkit.data import cifar

RECORDS = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; nothing of the user's settings reaches the command, and nothing goes to the network."""
    for name in [name for name in os.environ if name.startswith("RUSHKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``cli("recipe", "list")``: its exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def tiny_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10, CIFAR-100 and STL-10 in ``data``, in the official layout with a few random images a file."""
    draws = np.random.default_rng(0)

    def write(path: str, content: np.ndarray) -> None:
        place = folder / "data" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.astype(np.uint8).tobytes())

    for name in ("CIFAR10", "CIFAR100"):
        layout = getattr(cifar, name)
        small = {split: tuple(replace(f, records=RECORDS) for f in files) for split, files in layout.parts.items()}
        monkeypatch.setattr(cifar, name, replace(layout, parts=small))
        for file in layout.archive.files:
            # Labels that every one of the label bytes allows, each class once or twice.
            labels = np.arange(RECORDS)[:, None].repeat(len(layout.labels), axis=1) % 10
            write(file.path, np.hstack([labels, draws.integers(0, 256, (RECORDS, cifar.PIXELS))]))
    for split in ("train", "test", "unlabeled"):
        write(f"stl10_binary/{split}_X.bin", draws.integers(0, 256, (2 * RECORDS, 3, 96, 96)))
        if split != "unlabeled":
            write(f"stl10_binary/{split}_y.bin", 1 + np.arange(2 * RECORDS) % 10)
