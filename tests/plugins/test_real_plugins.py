"""Plugins as users meet them: installed with pip into a folder of their own, used in another process."""

import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from installed import components, install, run_tests, rushkit
from later_words import replacing

from rushkit import registries

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").glob("rushkit-*"))


def entry_points(name):
    """(registry, name) of everything that a plugin of this repository brings."""
    project = tomllib.loads((ROOT / "plugins" / name / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {(group, point) for group, points in project["entry-points"].items() for point in points}


@pytest.mark.parametrize("name", PLUGINS)
def test_what_a_plugin_brings_is_known_before_it_is_installed(name):
    known = {
        (registry.group, point)
        for registry in registries.ALL
        for point, distribution in registry.known_plugins.items()
        if distribution == name
    }
    assert known == entry_points(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_is_found_and_passes_its_own_tests(name, tmp_path):
    project = shutil.copytree(ROOT / "plugins" / name, tmp_path / "project")
    install(tmp_path / "site", project)
    found = components(tmp_path / "site", tmp_path, owner=name)
    assert set(found) == entry_points(name)
    assert "passed" in run_tests(project / "tests", site=tmp_path / "site", cwd=tmp_path)


@pytest.fixture
def triangle(tmp_path):
    """The plugin of docs/plugins.md, written from the page and installed."""
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    (project / "rushkit_triangle.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    install(tmp_path / "site", project)
    return page, tmp_path / "site"


@pytest.mark.slow
def test_the_page_on_plugins_works_from_the_first_line_to_the_last(triangle, tmp_path):
    page, site = triangle
    assert ("rushkit.noises", "triangle") in components(site, tmp_path, owner="rushkit-triangle")
    # README has the script; its name is that of the plugin, and two owners of a name are refused.
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (script,) = (block for block in blocks if '.register("triangle")' in block)
    (tmp_path / "triangle.py").write_text(script.replace('"triangle"', '"another"'))
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    commands = [line.split()[1:] for line in commands if line.startswith("rushkit ")]
    small = {
        "plugins": [],
        "pretrain": ["--set", "pretrain.epochs=1", "--set", "data.limit=200", "--set", "pretrain.knn.every=0"],
        "finetune": ["--set", "finetune.epochs=1"],
        "evaluate": ["--set", "data.limit=20"],
        "attack": ["--limit", "2", "--samples", "1", "--protocol", "paper"],
    }
    assert list(dict.fromkeys(command[0] for command in commands)) == list(small)
    for command in commands:
        rushkit(*replacing(command, small[command[0]]), site=site, cwd=tmp_path)
    # The page's own example of a new plugin is among the commands.
    (project,) = tmp_path.glob("rushkit-*/pyproject.toml")
    assert project.parent.name in page


@pytest.mark.slow
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
