"""The notebook of the first hour: without outputs; its cells run in their order, in a kernel where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first-hour.ipynb"
# Runs the cells in one namespace. Of an expression in the last line it asks what a notebook would: its HTML, or repr.
RUNNER = """
import ast, json, sys

namespace, shown = {}, []
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
json.dump(shown, open("shown.json", "w"))
"""


@pytest.fixture(scope="module")
def notebook() -> dict[str, object]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def cells(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_has_the_format_of_version_4(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    assert {cell["cell_type"] for cell in notebook["cells"]} == {"code", "markdown"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        extra = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | extra
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_it_is_kept_without_outputs(notebook):
    code = cells(notebook, "code")
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


def test_it_says_for_whom_it_is(notebook):
    assert "For anyone who " in "".join(notebook["cells"][0]["source"])


def settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RUSHKIT_")}


@pytest.mark.slow
def test_its_cells_run_one_after_the_other_without_a_kernel(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER, str(NOTEBOOK)],
        cwd=tmp_path,
        env=settings(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads((tmp_path / "shown.json").read_text())
    assert sum("<table>" in html for html in shown) == 6
    assert sum(html.startswith("<iframe") for html in shown) == 2


@pytest.mark.slow
def test_its_cells_run_in_a_kernel_where_progress_is_one_line_and_results_are_tables(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setattr(os, "environ", settings() | {"JUPYTER_PLATFORM_DIRS": "1"})
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    # tqdm, which timm imports, warns once where a kernel lacks ipywidgets.
    red = [output.text for output in outputs if output.get("name") == "stderr" and "TqdmWarning" not in output.text]
    assert all(line.startswith("warning: ") for text in red for line in text.splitlines())
    progress = [output.data for output in outputs if output.output_type == "display_data"]
    assert progress
    assert all(data["text/plain"].count("\n") == 0 for data in progress)
    html = [output.data.get("text/html", "") for output in outputs if output.output_type == "execute_result"]
    assert sum("<table>" in text for text in html) == 6
    assert sum(text.startswith("<iframe") for text in html) == 2
