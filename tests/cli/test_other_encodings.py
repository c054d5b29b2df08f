"""A stream that is not UTF-8 ends no command, and files with a byte order mark are read."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from commands import only

from rushkit.cli.app import main
from rushkit.data.files import read_names
from rushkit.exchange.rules import read_rules
from rushkit.recipe.load import load_recipe
from rushkit.run.names import LOG_FILE

MARK = "\ufeff"
VERBS = (
    ("certify", "--samples", "100", "--limit", "2"),
    ("evaluate",),
    ("report", "--no-images"),
    ("runs", "list"),
    ("recipe", "show", "digits"),
    ("recipe", "list"),
    ("data", "list"),
    ("plugins",),
    ("doctor",),
    ("certify", "--help"),
    ("pretrain", "--recipe", "żółw"),
)


@pytest.fixture(params=["latin-1", "ascii"])
def run(request, monkeypatch):
    """Run a command whose streams have an encoding that lacks most characters, and fail at those, as Python's do.

    It returns the exit code and what stood on both streams.
    """

    def run(*words):
        made = [io.TextIOWrapper(io.BytesIO(), encoding=request.param, errors="strict") for _ in range(2)]
        # Here and not before the test, which has pytest's own streams.
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", made[0])
            patch.setattr(sys, "stderr", made[1])
            code = main(list(words))
        return code, *(stream.buffer.getvalue().decode(request.param) for stream in made)

    return run


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_no_command_ends_at_a_character_that_its_streams_lack(words, run):
    code, out, err = run(*words)
    assert code == (2 if "żółw" in words else 0), err
    assert "codec can't encode" not in err
    assert out or "\\u017c" in err


def test_the_work_of_such_a_command_is_whole_and_its_files_are_utf_8(runs, run):
    code, out, _ = run("certify", "--samples", "100", "--limit", "2")
    assert code == 0
    assert "certified accuracy" in out
    made = only(runs, "certify")
    assert json.loads((made / "results.json").read_text(encoding="utf-8"))["images"] == 2
    assert "certify 2 images" in (made / LOG_FILE).read_text(encoding="utf-8")


def test_a_recipe_with_a_byte_order_mark(folder, cli):
    Path("marked.toml").write_text(f'{MARK}extends = "digits"\n[pretrain]\nepochs = 7\n', encoding="utf-8")
    assert load_recipe("marked.toml").pretrain.epochs == 7
    assert cli("recipe", "check", "marked.toml").code == 0


def test_a_key_map_and_class_names_with_a_byte_order_mark(tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'{MARK}ignore = ["extra.*"]\n[rename]\nfeatures = "layers"\n', encoding="utf-8")
    rules = read_rules(keys)
    assert (rules.rename, list(rules.ignore)) == ({"features": "layers"}, ["extra.*"])
    names = tmp_path / "names.txt"
    names.write_text(f"{MARK}cat\ndog\n", encoding="utf-8")
    assert read_names(names, ("a", "b")) == ("cat", "dog")
