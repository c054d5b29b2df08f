"""Arguments that no file system and no number of a machine can hold: one message each, and never a wait."""

from __future__ import annotations

import os

import pytest
from commands import TINY, only, pipe, sets

LONG, MANY, BYTES = "n" * 300, "1" * 30, os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        ["finetune", "--from", "p.safetensors"],
        ["evaluate", "--from", "p.safetensors"],
        ["certify", "--from", "p.safetensors"],
        ["attack", "--transfer-to", "p.safetensors"],
        ["import", "p.safetensors", "--data", "digits"],
        ["import", "weights.pt", "--data", "digits", "--keys", "p.safetensors"],
    ],
    ids=" ".join,
)
def test_a_named_pipe_in_the_place_of_a_file_is_named(cli, folder, arguments):
    with pipe(folder / "p.safetensors"):
        said = cli(*arguments)
    assert said.code in (1, 2)
    assert "p.safetensors cannot be read: it is a named pipe, not a file" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pretrain", "--resume", "--run", LONG], "there is no run"),
        (["certify", "--from-counts", LONG], "there is no run"),
        (["predict", LONG], "cannot be read: File name too long"),
        (["certify", "--skip", MANY], "--skip: must be less than or equal to 1000000000"),
        (["certify", "--samples", MANY], "certify.samples: an integer beyond 64 bits"),
        (["certify", "--split", BYTES], r"certify.split: no text in UTF-8: '\udcff'"),
        (["evaluate", "--set", f"name={BYTES}"], r"name: no text in UTF-8: '\udcff'"),
        (["attack", "--resume", "--run", ""], "--run is empty"),
        (["report", "--out="], "--out is empty"),
        (["runs", "list", "--runs-dir", ""], "--runs-dir is empty"),
        (["export", "--to", f"{LONG}.onnx"], "File name too long"),
        (["export", "--to", "/"], "/ does not end in .safetensors"),
        (["recipe", "copy", "cifar10", LONG], "File name too long"),
        (["pretrain", "--recipe", "digits", *sets(*TINY, f"data.image_size={MANY}")], "data.image_size: "),
        (["pretrain", "--recipe", "~nobody-here/x.toml"], "there is no recipe file ~nobody-here/x.toml"),
        (["data", "check", "cifar10", "--data-dir", "~nobody-here"], "cifar10 is not complete in ~nobody-here"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value)[:50].replace(BYTES, "bytes"),
)
def test_what_cannot_be_is_refused_by_name(fails, runs, arguments, words):
    said = fails(1 if "predict" in arguments[0] or words.startswith(("cifar10", "File")) else 2, *arguments)
    assert words in said.err


def test_a_report_may_lie_in_a_folder_whose_name_is_no_utf_8(cli, runs, folder):
    said = cli("report", str(only(runs, "finetune")), "--no-images", "--out", BYTES)
    assert said.code == 0, said.err
    assert (folder / BYTES / "report.html").is_file()
