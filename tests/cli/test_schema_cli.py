"""``rushkit schema``: every document that the command line prints has a schema."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from rushkit.cli.app import app
from rushkit.cli.complete import complete_documents
from rushkit.documents.names import DOCUMENTS


def commands_with_json() -> Iterator[str]:
    """The words of every command that takes ``--json``, joined as documents are named."""
    waiting = [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        if any("--json" in parameter.opts for parameter in command.params):
            yield "-".join(words)
        waiting += [((*words, name), inner) for name, inner in getattr(command, "commands", {}).items()]


def test_every_command_with_json_has_a_schema_and_every_schema_its_command():
    printed = {name for name, document in DOCUMENTS.items() if document.form == "printed"}
    assert set(commands_with_json()) == printed


def test_without_a_name_all_are_listed_with_a_line_each(cli):
    said = cli("schema")
    assert said.code == 0
    assert all(name in said.out and document.about in said.out for name, document in DOCUMENTS.items())
    assert json.loads(cli("schema", "--json").out)["documents"]["run.json"] == DOCUMENTS["run.json"].about


def test_the_schema_of_a_name_is_printed_with_and_without_json(cli):
    schema = DOCUMENTS["runs-list"].schema()
    assert json.loads(cli("schema", "runs-list").out) == schema
    assert json.loads(cli("schema", "runs-list", "--json").out) == schema


def test_an_unknown_name_is_answered_with_the_nearest(fails):
    assert "did you mean report.json" in fails(2, "schema", "report.jsn").err


def test_all_schemas_are_written(cli, folder):
    said = cli("schema", "--all", "--to", "schemas", "--json")
    assert said.code == 0
    assert sorted(path.name for path in (folder / "schemas").iterdir()) == sorted(
        f"{name}.schema.json" for name in DOCUMENTS
    )
    assert len(json.loads(said.out)["files"]) == len(DOCUMENTS)


def test_one_schema_is_written(cli, folder):
    cli("schema", "run.json", "--to", "schemas")
    assert [path.name for path in (folder / "schemas").iterdir()] == ["run.json.schema.json"]


@pytest.mark.parametrize("words", [("--all",), ("--to", "x"), ("run.json", "--all", "--to", "x")])
def test_flags_that_do_not_go_together_are_refused(fails, folder, words):
    fails(2, "schema", *words)
    assert not (folder / "x").exists()


def test_a_folder_that_cannot_be_made_is_said(fails, folder):
    (folder / "file").touch()
    fails(1, "schema", "--all", "--to", "file/x")


def test_names_are_completed():
    assert [name for name, _ in complete_documents("runs-l")] == ["runs-list"]


def test_the_list_imports_neither_torch_nor_scipy(folder):
    code = "import sys; from rushkit.cli.app import main; main(['schema']); print({'torch', 'scipy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"},
    )
    assert done.stdout.splitlines()[-1] == "set()"
