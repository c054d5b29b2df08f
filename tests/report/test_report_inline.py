"""``rushkit.report(...)``: a function and a package by one name, whose page a notebook shows in a frame."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_runs import evaluation

import rushkit
from rushkit.errors import UsageError

ROOT = Path(__file__).parents[2]


class Frame(HTMLParser):
    """The attributes of the only element of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    @property
    def attributes(self) -> dict[str, str | None]:
        ((tag, attributes),) = self.elements
        assert tag == "iframe"
        return attributes


@pytest.mark.parametrize(
    "code",
    [
        "import rushkit; f = rushkit.report; import rushkit.report.table; assert f is rushkit.report",
        "import rushkit.report.table; import rushkit",
        "import rushkit.report.make; import rushkit",
        "from rushkit import report; import rushkit; assert report is rushkit.report",
        "import rushkit; rushkit.report; from rushkit.report.table import Table",
    ],
)
def test_it_is_the_function_in_whatever_order_it_was_imported(code, tmp_path):
    call = f"""
{code}
import sys
try:
    rushkit.report(runs_dir={str(tmp_path)!r})
except rushkit.RushkitError as error:
    print(error.message)
assert sys.modules["rushkit.report"] is rushkit.report
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", call],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"there is no run in {tmp_path}\n", "")


@pytest.fixture
def model(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True, True, True, False]))
    return model


def test_it_returns_what_was_written(model, page_folder):
    page = rushkit.report(model.path, out=page_folder, images=False)
    assert [file.name for file in page.files] == ["report.html", "report.md", "report.json"]
    assert page.document["models"][0]["accuracy"][0]["images"] == 4
    assert page.html == page.files[0].read_text()


def test_the_plain_repr_names_the_files(model, page_folder):
    page = rushkit.report(model.path, out=page_folder, images=False)
    assert repr(page) == f"Page({', '.join(map(str, page.files))})"


def test_a_notebook_shows_the_whole_page_in_a_frame_that_is_apart(model, page_folder):
    page = rushkit.report(model.path, out=page_folder, images=False)
    attributes = Frame(page._repr_html_()).attributes
    assert attributes["srcdoc"] == page.html
    assert attributes["title"] == page.document["title"]
    # Never with allow-same-origin, which would give a script of the page the notebook's rights.
    assert attributes["sandbox"] == "allow-scripts"


def test_it_shows_from_another_working_folder_and_without_the_files(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = rushkit.report(model.path, out="page", images=False)
    before = page._repr_html_()
    monkeypatch.chdir("/")
    for file in page.files:
        (tmp_path / file).unlink()
    assert page._repr_html_() == before


def test_a_name_that_is_markup_ends_no_attribute(runs, page_folder):
    name = "\"></iframe><script>alert('1')</script>"
    model = runs.model(name=name)
    page = rushkit.report(model.path, out=page_folder, images=False)
    assert [tag for tag, _ in Frame(page._repr_html_()).elements] == ["iframe"]
    assert "<script>alert" not in page.html


def test_no_runs_are_a_usage_error(tmp_path):
    with pytest.raises(UsageError) as raised:
        rushkit.report(runs_dir=str(tmp_path))
    assert "rushkit demo" in raised.value.hint


def test_a_damaged_run_is_named_on_the_page(model, page_folder):
    for file in model.path.parent.glob("*evaluate*/results.json"):
        file.write_text("{")
    page = rushkit.report(model.path, out=page_folder, images=False)
    assert "results.json is damaged" in page.html
