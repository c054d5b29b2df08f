"""``make install`` takes the newest Python that fits, says what it installs, and says clearly when none fits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What the recipe runs besides Python.
TOOLS = ("bash", "sh", "dirname", "grep", "touch", "cat", "mkdir", "chmod", "rm")

# A Python that tells a version, has venv or not, and makes an environment whose Python notes what pip is asked for.
FAKE = """#!/bin/sh
case "$2" in
*version_info*) echo {version} ;;
*ensurepip*) exit {lacks_venv} ;;
venv)
  mkdir -p "$3/bin"
  printf '#!/bin/sh\\necho "$@" > "%s/asked"\\n' "$3" > "$3/bin/python"
  echo {name} > "$3/made-by"
  chmod +x "$3/bin/python" ;;
esac
"""
# What a version manager puts in the place of a Python that it has not been told to use.
STUB = "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"


@pytest.fixture
def checkout(tmp_path) -> Path:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "install.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def path(tmp_path) -> Path:
    """The only folder of PATH, without a Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def add(path: Path, name: str, version: str, lacks_venv: bool = False) -> Path:
    return write(path / name, FAKE.format(name=name, version=version, lacks_venv=int(lacks_venv)))


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


def install(checkout: Path, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    return subprocess.run(
        [make, "--silent", "install", *words],
        cwd=checkout,
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def made_by(checkout: Path) -> str:
    return (checkout / ".venv" / "made-by").read_text().strip()


@pytest.mark.parametrize(
    "there, taken",
    [
        ({"python3.11": "3.11"}, "python3.11"),
        ({"python3.12": "3.12"}, "python3.12"),
        ({"python3.11": "3.11", "python3.13": "3.13", "python3.12": "3.12", "python3": "3.11"}, "python3.13"),
        ({"python3": "3.12"}, "python3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_the_newest_python_that_fits_is_taken(checkout, path, there, taken):
    for name, version in there.items():
        add(path, name, version)
    done = install(checkout, path)
    assert done.returncode == 0, done.stderr
    assert made_by(checkout) == taken
    assert (checkout / ".venv" / "installed").exists()


def test_a_python_that_cannot_run_or_has_no_venv_is_passed_over(checkout, path):
    write(path / "python3.13", STUB)
    add(path, "python3.12", "3.12", lacks_venv=True)
    add(path, "python3.11", "3.11")
    assert install(checkout, path).returncode == 0
    assert made_by(checkout) == "python3.11"


def test_where_none_fits_each_is_named_with_its_reason(checkout, path):
    write(path / "python3.13", STUB)
    add(path, "python3.12", "3.12", lacks_venv=True)
    add(path, "python3", "3.9")
    done = install(checkout, path)
    assert done.returncode != 0
    assert (
        "error: no Python fits, which is 3.11 to 3.13 with venv: python3.13 does not run; "
        "python3.12 has no venv: install python3.12-venv; python3.11 not found; python3 is Python 3.9\n"
        "hint: install one of them, or name one: make PYTHON=/path/to/python3.13\n"
    ) in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_newer_python_is_taken_only_if_it_is_named(checkout, path):
    newer = add(path, "python3", "3.14")
    done = install(checkout, path)
    assert done.returncode != 0
    assert "python3 is Python 3.14, with which constraints.txt has not been tried" in done.stderr
    assert install(checkout, path, f"PYTHON={newer}").returncode == 0
    assert made_by(checkout) == "python3"


def test_a_named_python_comes_before_a_newer_one_and_must_fit(checkout, path):
    add(path, "python3.13", "3.13")
    add(path, "python3.11", "3.11")
    (path / "other pythons").mkdir()
    old = add(path / "other pythons", "old", "3.10")
    done = install(checkout, path, f"PYTHON={old}")
    assert done.returncode != 0
    assert f"{old} is Python 3.10" in done.stderr
    assert install(checkout, path, "PYTHON=python3.11").returncode == 0
    assert made_by(checkout) == "python3.11"


def test_the_install_says_what_where_and_how_large(checkout, path):
    add(path, "python3.12", "3.12")
    done = install(checkout, path)
    pins = sum("==" in line for line in (ROOT / "constraints.txt").read_text().splitlines())
    assert "installing rushkit into .venv, with python3.12 (Python 3.12):" in done.stdout
    assert f"editable, and {pins} packages at the versions of constraints.txt" in done.stdout
    assert "6 GB on the disk" in done.stdout
    assert ". .venv/bin/activate" in done.stdout
    asked = (checkout / ".venv" / "asked").read_text()
    assert "-c constraints.txt --editable .[dev]" in asked
    assert install(checkout, path).stdout == "", "a second install does nothing"
