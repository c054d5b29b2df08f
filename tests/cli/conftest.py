"""The command line in this process, in a folder of its own, and a tiny trained model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import TINY, Said, sets
from printed import check_printed

from rushkit.cli.app import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder; nothing of the user's settings reaches the command, and nothing goes to the network."""
    for name in [name for name in os.environ if name.startswith("RUSHKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(capsys) -> Callable[..., Said]:
    """``cli("recipe", "list")``: run a command as a user would; what it prints as JSON fits its schema."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = main(list(arguments))
        said = Said(code, *capsys.readouterr())
        check_printed(arguments, said.out)
        return said

    return run


@pytest.fixture
def fails(cli) -> Callable[..., Said]:
    """As ``cli``, for a command that must fail with one message, a hint, and no traceback."""

    def run(code: int, *arguments: str) -> Said:
        said = cli(*arguments)
        assert said.code == code, said.err
        assert "Traceback" not in said.err
        assert "error inside rushkit" not in said.err
        assert said.err.count("error: ") == 1, said.err
        assert "hint: " in said.err, said.err
        return said

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Iterator[Path]:
    """A folder with ``runs`` that hold a pre-trained and a fine-tuned run of the digits. Not to be written to."""
    place = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.chdir(place)
    assert main(["pretrain", "--recipe", "digits", "-q", *sets(*TINY)]) == 0
    assert main(["finetune", "-q"]) == 0
    patch.undo()
    return place


@pytest.fixture
def runs(trained, folder) -> Path:
    """``runs`` here, with copies of the trained ones."""
    shutil.copytree(trained / "runs", folder / "runs")
    return folder / "runs"
