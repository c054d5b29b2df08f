"""docs/data.md: its example runs, and what it says about the built-in data sets is so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rushkit import data
from rushkit.data.files import Check
from rushkit.registries import datasets as registry
from rushkit.registry import factory_parameters

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.fixture
def stripes() -> Iterator[None]:
    """The page's example, registered as running it registers it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "docs/data.md", "exec"), namespace)
    yield
    registry.unregister("stripes", "example")


@pytest.mark.usefixtures("stripes")
def test_the_plugin_of_the_page_is_a_data_set() -> None:
    dataset = data.create("stripes", root="")
    train = dataset.split("train")
    assert (len(train), train.images.shape[1:]) == (1000, (3, 32, 32))
    assert train.labels is not None
    rows = train.images[train.labels == 0]
    assert (rows == rows[..., :1]).all()


@pytest.mark.usefixtures("stripes")
def test_a_plugin_without_check_and_fetch_is_described() -> None:
    described = data.describe("stripes")
    assert described.ready
    assert (described.checks, described.url, described.splits) == ((), "", ("train", "test"))


def test_the_page_names_every_built_in_data_set_and_option() -> None:
    for entry in data.entries():
        if entry.owner == "rushkit":
            assert f"`{entry.name}`" in PAGE
            for option in factory_parameters(entry.load(), supplied=["root"]):
                assert f"`{option} = " in PAGE


def test_listing_data_sets_imports_no_torch() -> None:
    code = "import sys, rushkit.data as d; d.names(); d.entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_root_is_the_variable_or_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHKIT_DATA", "/elsewhere")
    assert data.default_root() == "/elsewhere"
    monkeypatch.delenv("RUSHKIT_DATA")
    assert data.default_root() == "data"


@pytest.mark.parametrize(("status", "usable"), [("ok", True), ("partial", True), ("missing", False), ("wrong", False)])
def test_what_a_status_means(status: Any, usable: bool) -> None:
    assert Check("file", status, "").usable is usable
