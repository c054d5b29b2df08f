"""``--model``: what names code, and that no code runs but what the user named in the command."""

from __future__ import annotations

import os
import sys

import pytest

from rushkit.errors import PluginError, UsageError
from rushkit.named_code import VARIABLE, consented, hand_on, lying, name_code, naming, read_code, run_code, source_hash

FILE = "import os, pathlib\npathlib.Path({mark!r}).write_text('ran')\nclass Net: pass\nclass outer:\n    inner = 3\n"


@pytest.fixture
def defence(tmp_path, monkeypatch):
    """A file that leaves a mark where it is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    file = tmp_path / "defence.py"
    file.write_text(FILE.format(mark=str(tmp_path / "mark")))
    return file


def test_reading_and_naming_run_nothing(defence, tmp_path):
    with naming():
        code = name_code("defence.py:Net")
        assert (code.place, code.name, code.key) == (str(defence), "Net", "defence.py:Net")
        assert not (tmp_path / "mark").exists()
        assert run_code(code).__name__ == "Net"
        assert (tmp_path / "mark").exists()
        assert run_code(name_code("defence.py:outer.inner")) == 3
        assert "defence" in sys.modules
    assert "defence" not in sys.modules, "what was run is forgotten"


def test_what_a_recipe_says_runs_only_if_the_user_names_it(defence, tmp_path):
    with naming(), pytest.raises(UsageError, match="only code that the command names") as refused:
        consented(f"{defence}:Net")
    assert f"--model {defence}:Net" in (refused.value.hint or "")
    with naming():
        name_code("defence.py:outer")
        with pytest.raises(UsageError):
            consented(f"{defence}:Net")
    assert not (tmp_path / "mark").exists()


def test_a_file_that_was_moved_is_the_one_that_the_user_names_now(defence, tmp_path):
    (tmp_path / "there").mkdir()
    moved = defence.rename(tmp_path / "there" / "defence.py")
    with naming():
        named = name_code("there/defence.py:Net")
        assert consented(f"{defence}:Net") == named
        assert named.place == str(moved)


def test_processes_that_a_command_starts_may_run_what_it_names(defence):
    hand_on(["defence.py:Net", "defence.py:Net"])
    try:
        assert os.environ[VARIABLE] == f"{defence}:Net"
        with naming():
            assert run_code(consented(f"{defence}:Net")).__name__ == "Net"
    finally:
        del os.environ[VARIABLE]


def test_the_hash_is_of_the_file(defence):
    before = source_hash(read_code("defence.py:Net"))
    defence.write_text(defence.read_text() + "\n")
    assert len(before) == 64
    assert source_hash(read_code("defence.py:Net")) != before


def test_a_relative_path_starts_beside_the_file_that_names_it(defence, tmp_path):
    (tmp_path / "studies").mkdir()
    own = tmp_path / "studies" / "defence.py"
    own.write_text("Net = 1\n")
    assert read_code("defence.py:Net", tmp_path / "studies").place == str(own)
    assert read_code("defence.py:Net").place == str(defence)
    assert lying("other.py", tmp_path / "studies").name == "other.py"


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("defence.py", "does not say which name", "it defines Net, outer: --model defence.py:Net"),
        ("gone.py:Net", "no file gone.py", "working folder"),
        ("notes.txt:Net", "is not a Python file", ".py"),
        ("notes/defence.txt:Net", "is not a Python file", ".py"),
        ("defence.py:", "is not FILE.py:NAME", "--model defence.py:Net"),
        ("defence.py:a b", "is not FILE.py:NAME", "--model defence.py:Net"),
        ("Net", "is not FILE.py:NAME", "--model defence.py:Net"),
        ("a-b:Net", "neither a Python file nor a module", "dotted"),
        ("onnx:gone.onnx", "no file gone.onnx", "working folder"),
    ],
)
def test_what_names_no_code(defence, tmp_path, said, message, hint):
    (tmp_path / "notes.txt").write_text("Net\n")
    with pytest.raises(UsageError, match=message) as refused:
        read_code(said)
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("said", "error", "message", "hint"),
    [
        ("defence.py:Nett", UsageError, "no Nett in defence.py", "Net"),
        (
            "no_such_module:Net",
            UsageError,
            "no module no_such_module",
            "no_such_module.py:Net",
        ),
        ("os.path:joyn", UsageError, "no joyn in os.path", "join"),
        ("broken.py:Net", PluginError, "line 2: ZeroDivisionError", "broken.py"),
        ("torn.py:Net", PluginError, "SyntaxError", "torn.py"),
        ("leaving.py:Net", PluginError, "SystemExit", "leaving.py"),
    ],
)
def test_code_that_cannot_be_used(defence, tmp_path, said, error, message, hint):
    (tmp_path / "broken.py").write_text("x = 1\n1 / 0\n")
    (tmp_path / "torn.py").write_text("def\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    with naming(), pytest.raises(error, match=message) as refused:
        run_code(name_code(said))
    assert hint in (refused.value.hint or "")
