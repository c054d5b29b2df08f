"""Every parameter of every command, taken from the app itself, with values that nobody means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import pipe
from PIL import Image

from rushkit.cli.app import app

BYTES = os.fsdecode(b"\xff\xfe")
# What a command gets beside the parameter that is tried. There are no runs here, so that no verb computes for long;
# those that compute without any get no more than the wrong name of a recipe.
BASE = {
    "pretrain": ["--recipe", "nosuch"],
    "finetune": ["--dry-run"],
    "predict": ["photo.png"],
    "import": ["weights.pt", "--data", "digits"],
    "export": ["--to", "out.onnx"],
    "bench": ["--recipe", "nosuch"],
    "recipe show": ["digits"],
    "recipe copy": ["digits", "new.toml"],
    "recipe check": ["digits"],
    "data fetch": ["digits"],
    "data check": ["digits"],
    "runs show": ["nosuch"],
    "runs compare": ["nosuch", "neither"],
    "plugins new": ["mine", "--kind", "noise"],
    "study plan": ["nosuch"],
    "study status": ["nosuch"],
    "study report": ["nosuch"],
    "study run": ["nosuch"],
    # Without a job it would do those that standard input names, and end this process with it.
    "study work": ["--job", "0" * 64, "--runs", "runs"],
}
# They compute at once, and take nothing but changes of a recipe.
LONG = ("demo", "doctor")
VALUES = [
    *("1" * 30, "-1", "1e400", "nan", "", " ", "n" * 300, "d/" * 2100, BYTES, f"{BYTES}.safetensors"),
    *("/", "~nobody-here/x", "folder", "file/below", "fifo.toml", "fifo.safetensors"),
]
# Options that one function reads for all commands, and the command that they are tried with.
SHARED = {
    "--set": "recipe check",
    "--nproc": "evaluate",
    "--restarts": "audit",
    "--run": "attack",
    "--from": "evaluate",
    "--every": "pretrain",
}
KEYS = ("name", "data.path", "data.image_size", "system.seed", "noise.scale")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield " ".join(path), command
    for name, below in inner.items():
        yield from leaves(below, (*path, name))


COMMANDS = {name: command for name, command in leaves(typer.main.get_command(app)) if name not in LONG}


def lines(name: str) -> Iterator[list[str]]:
    """A command line for each value in the place of each parameter."""
    base, words = BASE.get(name, []), name.split()
    for parameter in COMMANDS[name].params:
        option = next((word for word in parameter.opts if word.startswith("--")), None)
        if SHARED.get(option or "", name) != name:
            continue
        if option == "--set":
            changes = [f"{key}={value}" for key in KEYS for value in VALUES]
            yield from ([*words, *base, option, change] for change in [*VALUES, *changes])
        elif option and not getattr(parameter, "is_flag", False):
            kept = base
            if option in base:
                kept = base[: base.index(option)] + base[base.index(option) + 2 :]
            started = ["--resume"] if option == "--run" else []
            yield from ([*words, *kept, *started, f"{option}={value}"] for value in VALUES)
    for place, word in enumerate(base):
        if word.startswith("--"):
            break
        yield from ([*words, *base[:place], value, *base[place + 1 :]] for value in VALUES if value != "-1")


@pytest.fixture
def place(folder, monkeypatch) -> Path:
    for name in ("runs", "data"):
        monkeypatch.setenv(f"RUSHKIT_{name.upper()}", str(folder / name))
    (folder / "folder").mkdir()
    (folder / "file").write_text("x")
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_no_value_of_any_parameter_is_an_error_inside_rushkit(cli, place, name):
    for arguments in lines(name):
        value = arguments[-1].rpartition("=")[2]
        named = next((word for word in (value, *arguments) if word.startswith("fifo")), None)
        if named is None:
            said = cli(*arguments)
        else:
            with pipe(place / named):
                said = cli(*arguments)
            (place / named).unlink(missing_ok=True)
        shown = [word[:60] for word in arguments]
        assert said.code in (0, 1, 2), shown
        assert "inside rushkit" not in said.err, (shown, said.err[:300])
        assert "Traceback" not in said.err, shown
        assert len(said.err) < 20_000, shown
        if said.code:
            assert said.err.count("error: ") == 1, (shown, said.err[:300])
