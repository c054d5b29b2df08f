"""What a notebook shows of a record: its tables as HTML, and a plain repr of one line."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console
from stage_records import STAGES, clustering, exported, prediction
from synthetic_runs import attack_row, attacks, certification, evaluation, imported

from rushkit.report.inline import record_html
from rushkit.report.terminal.tables import record_table
from rushkit.results.certification import EmpiricalRow
from rushkit.results.notes import Note
from rushkit.results.words import PROTOCOL_SENTENCES

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>&\"'"
VOID = ("meta", "br", "img", "input")


class Read(HTMLParser):
    """The elements of a piece of HTML, whether all were closed in order, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def shown(record) -> Read:
    return Read(record._repr_html_())


@pytest.mark.parametrize("stage", STAGES)
def test_a_record_is_a_table_in_a_notebook(stage):
    read = shown(STAGES[stage])
    assert read.open == []
    assert {"table", "td"} <= set(read.tags)
    assert "script" not in read.tags
    # The first cell of a row names it, unless it is empty.
    firsts = re.findall(r"<tr>\s*<(t[dh])[^>]*>(.*?)</", STAGES[stage]._repr_html_())
    assert {tag for tag, text in firsts if text} == {"th"}
    assert ("scope", "row") in read.attributes


@pytest.mark.parametrize("stage", STAGES)
def test_a_notebook_and_the_terminal_show_the_same_tables(stage):
    console = Console(width=2000)
    with console.capture() as captured:
        console.print(record_table(STAGES[stage]))
    cells = [cell for line in captured.get().splitlines() for cell in re.split("[│┃]", line) if re.search("[│┃]", line)]
    text = " ".join(shown(STAGES[stage]).text.split())
    assert [cell for cell in map(str.strip, cells) if " ".join(cell.split()) not in text] == []


@pytest.mark.parametrize("stage", STAGES)
def test_the_plain_repr_is_one_short_line(stage):
    line = repr(STAGES[stage])
    assert str(STAGES[stage]) == line
    assert "\n" not in line
    assert len(line) < 120


def test_figures_are_percent_with_their_intervals_and_m_and_n():
    cells = re.findall(r"<t(?:d|h scope=\"row\")[^>]*>(.*?)</", evaluation([True, True, True, False])._repr_html_())
    assert cells[:5] == ["1", "majority", "75.0 [30.0, 95.5]", "3", "4"]


def test_the_run_stands_below():
    assert shown(evaluation([True]).with_changes(run="runs/a b")).text.endswith("run: runs/a b\n")


@pytest.mark.parametrize("rows", [[attack_row([1, 0], "paper")], [attack_row([1, 0], "paper"), attack_row([10, 0])]])
def test_a_figure_under_paper_has_its_note(rows):
    text = " ".join(shown(attacks(*rows)).text.split())
    assert all(sentence in text for sentence in PROTOCOL_SENTENCES)


def attacked(protocol: str) -> EmpiricalRow:
    about = {"run": "r", "attack": "pgd", "protocol": protocol, "deviations": [], "norm": "l1", "eps": 0.1}
    counts = {"samples": 1, "votes": 1, "rule": "majority", "images": 2, "empirical": 1.0, "certified": 1}
    return EmpiricalRow(**about, **counts, compared=1, broken=[], chance=None, contradicts=False)


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_a_certification_beside_an_attack_under_paper_has_the_note_too(protocol):
    record = certification([0.05, 0.25], [True, True], empirical=[attacked(protocol)])
    text = " ".join(shown(record).text.split())
    assert (PROTOCOL_SENTENCES[0] in text) == (protocol == "paper")


def hostile():
    note = Note(code="other", text=MARKUP)
    row = attack_row([10, 0], attack=MARKUP, split=f"{MARKUP}/test", notes=[note], contributions={MARKUP: 1})
    yield evaluation([True], data=MARKUP).with_changes(run=MARKUP)
    yield attacks(row)
    yield certification([0.05], [True], covers=MARKUP, assumptions=[MARKUP], warnings=[MARKUP])
    yield clustering(source=MARKUP, outside=MARKUP, data=MARKUP)
    yield prediction(explanation=MARKUP, theorem=MARKUP)
    yield exported(file=MARKUP, load=[MARKUP])
    yield imported("encoder").with_changes(recipe=MARKUP)


@pytest.mark.parametrize("record", list(hostile()), ids=lambda record: type(record).__name__)
def test_markup_in_a_record_is_text(record):
    read = shown(record)
    assert not {"script", "img"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert MARKUP in read.text


def test_what_no_message_to_a_browser_can_hold_is_escaped():
    html = evaluation([True], data="a\x1b[2J\ud800\u202e").with_changes(run="r\x00")._repr_html_()
    assert json.loads(json.dumps(html)).encode() == html.encode()
    assert "a\\x1b[2J\\ud800\\u202e" in html


def test_lines_that_load_an_export_stand_as_they_are():
    html = exported(load=["import timm", "x = timm.create_model('a')"])._repr_html_()
    assert "<pre>import timm\nx = timm.create_model(&#39;a&#39;)</pre>" in html


def test_what_is_no_record_has_no_table():
    with pytest.raises(TypeError, match="int is no record of a stage"):
        record_html(3)


def test_a_long_list_is_counted_in_the_repr_of_a_part():
    row = attack_row([10] * 100)
    assert "images=[100 values]" in repr(row)
    assert len(repr(row)) < 2500
