"""The form of the pages: blocks of code that parse, links by https, headings without a gap, pictures in words."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from page_commands import blocks

ROOT = Path(__file__).parents[2]
PAGES = [page for folder in ("*.md", "docs/*.md", "plugins/*/*.md") for page in sorted(ROOT.glob(folder))]
# Where the Python of a page is run.
RUN = {
    "README.md": "tests/docs/test_python_pages.py",
    "docs/data.md": "tests/data/test_data_page.py",
    "docs/import-export.md": "tests/cli/test_import_cli.py",
    "docs/objectives.md": "tests/objectives/test_objectives_page.py",
    "docs/plugins.md": "tests/plugins/test_real_plugins.py",
    "docs/python.md": "tests/docs/test_python_pages.py",
    "docs/trackers.md": "tests/trackers/test_mirror.py",
    "docs/tutorial.md": "tests/docs/test_page_commands.py",
    "docs/your-model.md": "tests/docs/test_your_model_page.py",
}
# Pages whose Python is only parsed, and why.
NOT_RUN = {"docs/audit.md": "trains for 100 epochs"}


def parse_shell(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


# ``text`` and ``console`` show what is printed, and how a command's usage is written.
PARSERS = {
    "bash": parse_shell,
    "json": json.loads,
    "python": ast.parse,
    "sh": parse_shell,
    "toml": tomllib.loads,
    "text": str,
    "console": str,
}


def pages() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def without_blocks(text: str) -> str:
    return re.sub(r"^(`{3,}).*\n(?:.*\n)*?\1$", "", text, flags=re.MULTILINE)


@pages()
def test_every_block_of_code_has_a_language_and_parses(page):
    for block in blocks(page.read_text(encoding="utf-8")):
        place = f"{page.name}:{block.line}"
        assert block.language in PARSERS, place
        try:
            PARSERS[block.language](block.text)
        except (ValueError, SyntaxError, subprocess.CalledProcessError) as error:
            pytest.fail(f"{place}: {error}")


@pages()
def test_no_block_of_code_is_only_indented(page):
    """It could not say its language. A line of a list goes on below a line of the list."""
    text = without_blocks(page.read_text(encoding="utf-8"))
    assert re.findall(r"\n\n(?: {4}|\t)(?![ \t]*[-*\d]).*", text) == []


@pages()
def test_a_page_has_one_title_and_headings_without_a_gap(page):
    text = without_blocks(page.read_text(encoding="utf-8"))
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels)), levels


@pages()
def test_links_to_other_hosts_are_https(page):
    assert re.findall(r"\]\(http:[^)]*\)|<http:[^>]*>", page.read_text(encoding="utf-8")) == []


@pages()
def test_every_picture_is_said_in_words(page):
    pictures = re.findall(r"!\[([^\]]*)\]", without_blocks(page.read_text(encoding="utf-8")))
    assert all(len(words.split()) >= 4 for words in pictures), pictures


def test_the_python_of_every_page_is_run_or_it_is_said_why_not():
    shown = {
        page.relative_to(ROOT).as_posix()
        for page in PAGES
        if any(block.language == "python" for block in blocks(page.read_text(encoding="utf-8")))
    }
    assert shown == {*RUN, *NOT_RUN}
    for page, test in RUN.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not read {page}"
