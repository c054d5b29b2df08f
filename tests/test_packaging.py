"""The wheel, an editable install and a plain checkout: each finds the recipes and what else the package needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = {path.name for path in (ROOT / "recipes").glob("*.toml")}
# The files, and the results that are kept of some.
STUDIES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "studies").rglob("*") if path.is_file()}
TEMPLATE = ROOT / "rushkit" / "plugin_template"
SKELETONS = {path.relative_to(ROOT).as_posix() for path in (TEMPLATE / "skeletons").rglob("*.txt")}
REPORT = ROOT / "rushkit" / "report" / "page"
PAGES = {path.relative_to(ROOT).as_posix() for path in [REPORT / "page.css", *REPORT.rglob("*.j2")]}
# Everything beside the code: tables, models, templates, py.typed.
DATA = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "rushkit").rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
}
# With .gitignore: the build leaves out what it names.
PARTS = ("rushkit", "recipes", "studies", "pyproject.toml", "README.md", "LICENSE", ".gitignore")

# Where the package and its recipes are, and that they, the embedded digits and the command are there. Without torch.
LOOK = """
import contextlib, importlib.resources, io, json, site, sys
for folder in sys.argv[1:]:
    site.addsitedir(folder)
import rushkit
from rushkit.cli.app import main
from rushkit.recipe.find import available, shipped_folder
from rushkit.study.find import available as studies
with contextlib.redirect_stdout(io.StringIO()):
    code = main(["recipe", "show", "digits", "--resolved"])
digits = importlib.resources.files("rushkit.data").joinpath("digits.bin").is_file()
facts = {"package": rushkit.__file__, "recipes": str(shipped_folder()), "names": sorted(available())}
facts["studies"] = sorted(studies())
print(json.dumps(facts | {"code": code, "digits": digits}))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the source, so that nothing is built in the real one."""
    place = tmp_path_factory.mktemp("source") / "checkout"
    place.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, place / part)
    return place


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(wheel: Path, target: Path) -> None:
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
        cwd=target.parent,
    )


def look(cwd: Path, path: str = "", sites: tuple[str, ...] = ()) -> dict:
    """What the package tells of itself, found on ``path``, or in ``sites`` and in no other site folder."""
    python = [sys.executable, *(["-S"] if sites else []), "-c", LOOK, *sites]
    found = json.loads(run(*python, cwd=cwd, PYTHONPATH=path).splitlines()[-1])
    assert set(found["names"]) == {name.removesuffix(".toml") for name in RECIPES}
    assert set(found["studies"]) == {Path(name).stem for name in STUDIES if name.endswith(".toml")}
    assert found["code"] == 0
    assert found["digits"]
    return found


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(checkout), cwd=out)
    (built,) = out.glob("rushkit-*.whl")
    return built


def test_the_wheel_holds_package_recipes_and_command_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        points = archive.read(f"{info}/entry_points.txt").decode()
    assert {name.partition("/")[0] for name in names} == {"rushkit", info}
    assert {f"rushkit/_recipes/{name}" for name in RECIPES} <= set(names)
    assert {f"rushkit/_{name}" for name in STUDIES} <= set(names)
    assert {"rushkit/py.typed", "rushkit/data/digits.bin"} <= DATA
    assert PAGES
    assert set(names) >= PAGES
    assert any(name.startswith("rushkit/shipped/") and name.endswith(".safetensors") for name in DATA)
    assert set(names) >= DATA
    assert SKELETONS
    assert set(names) >= SKELETONS
    assert "rushkit = rushkit.__main__:main" in points


def test_the_sdist_holds_what_a_wheel_and_its_tests_are_made_from(tmp_path):
    """Of the real folder, without building anything in it: what git does not know of must not be in an sdist."""
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (built,) = tmp_path.glob("rushkit-*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rushkit").rglob("*.py")}
    scripts = {"Makefile", "install.sh", "release.sh", "constraints.txt", "tests/lowest.sh", "docs/generate.py"}
    pages = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "docs/README.md"}
    assert names >= {
        "pyproject.toml",
        *code,
        *DATA,
        *scripts,
        *pages,
        *STUDIES,
        *(f"recipes/{name}" for name in RECIPES),
    }
    assert not [
        name for name in names if name.startswith((".venv", "runs/", "data/", "dist/")) or "__pycache__" in name
    ]


def test_an_installed_wheel_finds_its_recipes(wheel, tmp_path):
    target = tmp_path / "target"
    install(wheel, target)
    found = look(tmp_path, str(target))
    assert Path(found["package"]) == target / "rushkit" / "__init__.py"
    assert Path(found["recipes"]) == target / "rushkit" / "_recipes"


def test_an_editable_install_finds_the_recipes_of_its_checkout(checkout, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    code = f"from hatchling.build import build_editable; print(build_editable({str(out)!r}))"
    name = run(sys.executable, "-c", code, cwd=checkout).split()[-1]
    target = tmp_path / "target"
    install(out / name, target)
    # Before the site folder of this environment, which may hold an editable install of its own.
    found = look(tmp_path, sites=(str(target), sysconfig.get_path("purelib")))
    assert Path(found["package"]) == checkout / "rushkit" / "__init__.py"
    assert Path(found["recipes"]) == checkout / "recipes"


def test_a_plain_checkout_finds_its_recipes(checkout, tmp_path):
    found = look(tmp_path, str(checkout))
    assert Path(found["package"]) == checkout / "rushkit" / "__init__.py"
    assert Path(found["recipes"]) == checkout / "recipes"
