"""What every page has: captions above tables, and names for what scrolls."""

from __future__ import annotations

import itertools
import re

import pytest
from every_page import PAGES
from synthetic_runs import Runs

from rushkit.report.content import build_report
from rushkit.report.families import gather
from rushkit.report.tables.runs import runs_table


@pytest.fixture(params=PAGES)
def text(request, tmp_path) -> str:
    return PAGES[request.param](tmp_path)


def test_every_table_has_a_caption_and_scopes(text):
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    assert tables
    assert [table[:300] for table in tables if not re.search("<caption><span>[^<]", table)] == []
    assert [head for head in re.findall("<th[ >][^>]*>?", text) if 'scope="' not in head] == []


def test_the_first_cell_of_every_row_names_it(text):
    rows = [row for body in re.findall("<tbody>(.*?)</tbody>", text, re.DOTALL) for row in body.split("<tr>")[1:]]
    assert rows
    # One that repeats the cell above is empty.
    assert [row[:200] for row in rows if not re.match(r'\s*(<th scope="row"|<td[^>]*></td>)', row)] == []
    assert [row[:200] for row in rows if row.count("<th") > 1] == []


def test_what_scrolls_is_reached_by_keys_and_has_a_name(text):
    scrolls = re.findall(r'<div class="scroll"[^>]*>|<pre[^>]*>', text)
    assert scrolls
    assert [tag for tag in scrolls if not re.search('tabindex="0" role="group" aria-label="[^"]', tag)] == []


def test_headings_go_down_by_one(text):
    levels = [int(level) for level in re.findall("<h([1-6])", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_picture_has_words(text):
    assert [tag for tag in re.findall("<img[^>]*>", text) if not re.search('alt="[^"]', tag)] == []
    named = re.compile(r'role="img" aria-label="[^"]|aria-hidden="true"')
    assert [tag for tag in re.findall("<svg[^>]*>", text) if not named.search(tag)] == []


def test_runs_have_a_column_for_code_where_any_names_it(tmp_path):
    runs = Runs(tmp_path)
    for facts, last in ({}, "seed"), ({"git": {"commit": "a" * 40, "dirty": False}}, "code"):
        (model,) = build_report([gather(runs.model(**facts))]).models
        assert runs_table(model.runs).headings[-1].text == last


def test_nothing_is_not_named_on_a_narrow_page(text):
    assert re.findall(r'<td[^>]*data-label="[^"]+"[^>]*></td>', text) == []
