"""docs/your-model.md: its files and commands run as they stand, tiny, and so does its Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from later_words import replacing
from page_commands import commands, read

PAGE = "docs/your-model.md"
SMALL = {
    "evaluate": ["--limit", "8"],
    "attack": ["--limit", "2", "--samples", "1", "--eot", "1", "--set", "attack.0.steps=2"],
    "audit": ["--limit", "2", "--samples", "2", "--steps", "1", "--eot", "1", "--queries", "2"],
    "certify": ["--samples", "50", "--limit", "1"],
}
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", read(PAGE), re.DOTALL))
NAMED = [f"{file}:{name}" for file, text in FILES.items() for name in re.findall(r"^(?:class|def) (\w+)", text, re.M)]
# The commands on what a file of the page defines; the others need a package, weights or images of the reader's.
BLOCKS = [
    block for block in re.findall(r"```sh\n.*?```", read(PAGE), re.DOTALL) if any(f"{name} " in block for name in NAMED)
]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("RUSHKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    range(len(BLOCKS)),
    ids=["a plain CNN", "a random defence", "a surrogate", "an attack of one's own", "a wrapped model"],
)
def test_the_commands_of_an_example_run_one_after_the_other(number, cli):
    for command in commands(BLOCKS[number]):
        code, _, err = cli(*replacing(list(command.words), SMALL.get(command.verb, [])))
        # A check of the audit that fails is a verdict on a tiny model.
        assert code in ({0, 1} if command.verb == "audit" else {0}), f"{command}\n{err}"
        assert "error:" not in err, f"{command}\n{err}"


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (block,) = re.findall(r"```python\n(import rushkit\n.*?)```", read(PAGE), re.DOTALL)
    try:
        exec(block, {})
    finally:
        sys.modules.pop("net", None)
    assert list(Path("runs").iterdir())
