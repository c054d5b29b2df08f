"""Plugins as users meet them: installed with pip into a folder of their own, used in another process."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def install(project, target):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(project)],
        check=True,
        capture_output=True,
        env=os.environ | {"PIP_NO_CACHE_DIR": "1"},
    )


def rushkit(*arguments, site, cwd):
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "rushkit", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def owners(site, cwd):
    listed = json.loads(rushkit("plugins", "--check", "--json", site=site, cwd=cwd))["components"]
    return {row["name"]: row["owner"] for row in listed if row["registry"] == "rushkit.noises"}


def test_the_ball_plugin_is_found_and_passes_its_own_tests(tmp_path):
    project = shutil.copytree(ROOT / "plugins" / "rushkit-ball", tmp_path / "project")
    install(project, tmp_path / "site")
    assert owners(tmp_path / "site", tmp_path)["ball"] == "rushkit-ball"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(project / "tests")],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def triangle(tmp_path):
    """The plugin of docs/plugins.md, written from the page and installed."""
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    (project / "rushkit_triangle.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    install(project, tmp_path / "site")
    return page, tmp_path / "site"


def test_the_page_on_plugins_works_from_the_first_line_to_the_last(triangle, tmp_path):
    page, site = triangle
    assert owners(site, tmp_path)["triangle"] == "rushkit-triangle"
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    commands = [line.split()[1:] for line in commands if line.startswith("rushkit ") and "plugins" not in line]
    small = {
        "pretrain": ["--set", "pretrain.epochs=1", "--set", "data.limit=200", "--set", "pretrain.knn.every=0"],
        "finetune": ["--set", "finetune.epochs=1"],
        "evaluate": ["--set", "data.limit=20"],
        "attack": ["--limit", "2", "--samples", "1", "--protocol", "paper"],
    }
    assert [command[0] for command in commands] == list(small)
    for command in commands:
        rushkit(*command, *small[command[0]], site=site, cwd=tmp_path)


def test_the_radius_on_the_page_is_sound_however_a_shift_is_spread(triangle, monkeypatch):
    monkeypatch.syspath_prepend(str(triangle[1]))
    from rushkit_triangle import Triangle

    t = np.linspace(-1, 3, 1001)

    def density(shift):
        return np.clip(1 - np.abs(t - shift), 0, None)

    for p in (0.6, 0.75, 0.9, 1.0):
        radius = Triangle(scale=1.0).certified_radius(p, "l1", 2)
        for share in (0.0, 0.25, 0.5):
            # The mass that the shift takes away, by numerical integration over two coordinates.
            moved = np.outer(density(share * radius), density((1 - share) * radius))
            lost = np.clip(np.outer(density(0), density(0)) - moved, 0, None).sum() * (t[1] - t[0]) ** 2
            assert lost <= p - 0.5 + 1e-4
