"""``registered_by``: files that the user names are run, and what they registered is forgotten again."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from rushkit import registries
from rushkit.errors import PluginError, UsageError
from rushkit.registrations import registered_by, source_of

NOISE = """
import rushkit

@rushkit.noises.register({name!r})
class Noise:
    std = 1.0
    def sample(self, x, generator=None): return x
    def certified_radius(self, p, norm, dim): return 0.0
"""


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> str:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return str(file)

    return write


def test_a_file_registers_what_it_decorates_until_the_block_ends(write):
    entries = registries.noises.entries()
    path = list(sys.path)
    for _ in range(2):
        with registered_by([write("triangle.py", NOISE.format(name="triangle"))]):
            assert registries.noises.create("triangle").std == 1.0
            assert registries.noises.entry("triangle").owner == "triangle"
    assert registries.noises.entries() == entries
    assert "triangle" not in sys.modules
    assert sys.path == path


def test_what_was_registered_is_forgotten_after_an_error_too(write):
    with pytest.raises(ZeroDivisionError), registered_by([write("triangle.py", NOISE.format(name="triangle"))]):
        raise ZeroDivisionError
    assert "triangle" not in registries.noises


def test_a_file_that_has_changed_is_read_again(write):
    for name in ("first", "other"):
        with registered_by([write("mine.py", NOISE.format(name=name))]):
            assert name in registries.noises


def test_several_files_and_one_that_is_named_twice(write):
    one, two = write("one.py", NOISE.format(name="one")), write("two.py", NOISE.format(name="two"))
    with registered_by([one, two, one]):
        assert {"one", "two"} <= set(registries.noises.names())


def test_the_main_part_of_a_script_is_left_out_and_its_output_kept_off_stdout(write, capsys):
    script = NOISE.format(name="mine") + "\nprint('loading')\nif __name__ == '__main__':\n    print('training')\n"
    with registered_by([write("train.py", script)]):
        assert capsys.readouterr() == ("", "loading\n")


def test_a_file_may_import_what_lies_beside_it_and_leaves_no_compiled_files(write, tmp_path):
    write("beside_it.py", "NAME = 'mine'\n")
    with registered_by([write("train.py", "import beside_it\n" + NOISE.format(name="mine"))]):
        assert "mine" in registries.noises
    assert "beside_it" not in sys.modules
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize("name", ["torch.py", "rushkit.py", "random.py"])
def test_a_file_does_not_stand_in_for_a_module_that_is_there(write, name):
    with registered_by([write(name, NOISE.format(name="mine"))]):
        owner = registries.noises.entry("mine").owner
        assert owner.startswith(name.removesuffix(".py") + "_")
        assert registries.noises.create("mine").std == 1.0
        assert not hasattr(sys.modules[name.removesuffix(".py")], "Noise")


def test_two_files_of_one_name_are_two_owners(write):
    files = [write(f"{folder}/noise_of_mine.py", NOISE.format(name="same")) for folder in "ab"]
    with registered_by(files), pytest.raises(UsageError, match="more than one owner") as raised:
        registries.noises.create("same")
    assert raised.value.hint.count("noise_of_mine") == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import rushkit\n\n1 / 0\n", "mine.py cannot be imported: line 3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "mine.py cannot be imported: SyntaxError: "),
        ("import no_such_module\n", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(0)\n", "line 1: SystemExit: 0"),
    ],
)
def test_what_a_file_raises_is_told_with_its_line(write, text, words):
    with pytest.raises(PluginError) as raised, registered_by([write("mine.py", text)]):
        pass
    assert words in raised.value.message
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.py", "x = 1\n", "none.py registers nothing"),
        ("noise.txt", "", "is not a Python file"),
        ("gone.py", None, "there is no file"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(write, tmp_path, name, text, words):
    file = str(tmp_path / name) if text is None else write(name, text)
    with pytest.raises(UsageError, match=words), registered_by([file]):
        pass


def test_a_component_knows_the_file_that_registered_it(write):
    file = write("triangle.py", NOISE.format(name="triangle"))
    with registered_by([file]):
        made_by = source_of(registries.noises.entry("triangle"))
    assert made_by == ("triangle.py", hashlib.sha256(Path(file).read_bytes()).hexdigest())
    assert source_of(registries.noises.entry("uniform")) is None


def test_a_component_of_a_notebook_has_no_file(monkeypatch):
    class Noise:
        pass

    monkeypatch.setattr(Noise, "__module__", "a_notebook_has_no_such_module")
    with registries.noises.restored():
        registries.noises.register("mine")(Noise)
        assert source_of(registries.noises.entry("mine")) == ("", "")
