"""What a release says of itself in several places is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from lowest_pins import lowest_pins
from trove_classifiers import classifiers

import rushkit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ABOUT = PROJECT["project"]
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def cited(key: str) -> str:
    """A value of CITATION.cff on one line, of the software itself."""
    return re.search(rf"^{key}: (.*)$", CITATION, re.MULTILINE)[1]


def test_the_version_stands_in_one_place_and_agrees_with_the_others():
    assert re.fullmatch(r"\d+\.\d+\.\d+", rushkit.__version__)
    assert ABOUT["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "rushkit/__init__.py"
    assert cited("version") == rushkit.__version__
    assert re.findall(r"^## (.*)$", CHANGES, re.MULTILINE)[0].split()[0] == rushkit.__version__


def test_the_changes_stand_by_version_the_newest_first():
    headings = re.findall(r"^## (.*)$", CHANGES, re.MULTILINE)
    found = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) \((unreleased|\d{4}-\d{2}-\d{2})\)", heading) for heading in headings]
    assert all(found), headings
    versions = [tuple(map(int, each.groups()[:3])) for each in found]
    assert versions == sorted(set(versions), reverse=True)
    assert "unreleased" not in [each[4] for each in found[1:]]


def test_a_release_has_one_date_or_none():
    date = re.search(r"^## .* \((.*)\)$", CHANGES, re.MULTILINE)[1]
    assert ("date-released:" in CITATION) == (date != "unreleased")
    assert date == "unreleased" or cited("date-released") == date


def test_licence_name_words_and_paper_agree():
    assert ABOUT["license"] == cited("license") == "Apache-2.0"
    assert ABOUT["license-files"] == ["LICENSE"]
    assert "Apache License\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert not [each for each in ABOUT["classifiers"] if each.startswith("License ::")], "the expression says it"
    assert cited("title") == ABOUT["name"]
    assert cited("abstract") == ABOUT["description"]
    assert re.search(r"^keywords:\n((?:  - .*\n)+)", CITATION, re.MULTILINE)[1].split("\n  - ") == [
        f"  - {ABOUT['keywords'][0]}",
        *ABOUT["keywords"][1:-1],
        f"{ABOUT['keywords'][-1]}\n",
    ]
    assert [f"  - name: {author['name']}" for author in ABOUT["authors"]] == re.findall(
        r"^  - name: .*$", CITATION, re.M
    )
    assert ABOUT["urls"]["Paper"] in CITATION
    assert all(url.startswith("https://") for url in ABOUT["urls"].values())


def test_the_classifiers_exist_and_name_the_versions_that_are_installed_with():
    assert set(ABOUT["classifiers"]) <= classifiers
    named = [each.rpartition(" ")[2] for each in ABOUT["classifiers"] if re.search(r":: 3\.\d+$", each)]
    script = (ROOT / "install.sh").read_text(encoding="utf-8")
    oldest, newest = map(int, re.search(r"^oldest=(\d+) newest=(\d+)$", script, re.MULTILINE).groups())
    assert named == [f"3.{minor}" for minor in range(oldest, newest + 1)]
    assert ABOUT["requires-python"] == f">=3.{oldest}"
    assert PROJECT["tool"]["mypy"]["python_version"] == f"3.{oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py3{oldest}"
    assert re.findall(r"python3\.(\d+)", re.search(r"^candidates=\((.*)\)$", script, re.MULTILINE)[1]) == [
        str(minor) for minor in range(newest, oldest - 1, -1)
    ]


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "rushkit" / "py.typed").read_bytes() == b""
    assert "Typing :: Typed" in ABOUT["classifiers"]


def test_every_requirement_has_a_lowest_version():
    pins = lowest_pins((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [re.split(r"[\[>=]", line)[0] for line in ABOUT["dependencies"]]
    assert {*names, "onnx", "pytest", "hatchling"} <= {pin.partition("==")[0] for pin in pins}
    assert len({pin.partition("==")[0] for pin in pins}) == len(pins), "a package has one lowest version"


def test_the_pinned_versions_are_not_below_the_lowest():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {name(line): release(line.partition("==")[2]) for line in text.splitlines() if "==" in line}
    lowest = lowest_pins((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {pin for pin in lowest if pinned[name(pin)] < release(pin.partition("==")[2])} == set()


def name(pin: str) -> str:
    return pin.partition("==")[0].lower().replace("_", "-")


def release(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.match(r"[\d.]+", version)[0].strip(".").split(".")))


@pytest.mark.parametrize(
    ("requirement", "pin"),
    [
        ("torch>=2.11", "torch==2.11"),
        ("onnx >= 1.18, <2", "onnx==1.18"),
        ('tomli>=2.0; python_version < "3.11"', "tomli==2.0"),
        ("ray[default]>=2.9", "ray==2.9"),
    ],
)
def test_the_lowest_version_of_a_requirement(requirement, pin):
    assert lowest_pins(project(requirement)) == sorted(["hatchling==1.27", pin])


@pytest.mark.parametrize("requirement", ["torch", "torch<3", "torch==2.11"])
def test_a_requirement_without_a_lower_bound_is_refused(requirement):
    with pytest.raises(ValueError, match="has no lower bound"):
        lowest_pins(project(requirement))


def project(requirement: str) -> str:
    return (
        "[build-system]\nrequires = ['hatchling>=1.27']\n"
        f"[project]\nname = 'mine'\ndependencies = ['''{requirement}''']\n"
        "[project.optional-dependencies]\ndev = ['mine[extra]']\n"
    )
