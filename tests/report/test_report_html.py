"""The HTML page: well-formed, self-contained, escaped, and never a paper figure without its note."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from synthetic_runs import CLASSES, attack_row, attacks, certification, evaluation, probed, transferred

from rushkit.recipe.schema import Noise
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import gather
from rushkit.report.page.render import markdown, page, plain
from rushkit.results.notes import Note
from rushkit.results.words import PROTOCOL_NOTE, PROTOCOL_SENTENCES
from rushkit.run.info import find_runs

EVIL = "<script>alert('1')</script>"
VOID = {"meta", "img", "br"}
# What an element must stand in, where HTML says so; phrases hold no blocks.
INSIDE = {
    **{"li": {"ul"}, "dt": {"dl"}, "dd": {"dl"}, "caption": {"table"}, "thead": {"table"}, "tbody": {"table"}},
    **{"tr": {"thead", "tbody"}, "th": {"tr"}, "td": {"tr"}, "figcaption": {"figure"}, "summary": {"details"}},
}
PHRASES = {"p", "b", "small", "span", "a", "i", "h1", "h2", "h3", "title", "summary", "pre", "dt"}
BLOCKS = {"p", "div", "ul", "dl", "table", "section", "aside", "figure", "details", "h1", "h2", "h3", "pre", "nav"}


class Page(HTMLParser):
    """Asserts that every element is closed in its turn and stands where it may, and keeps what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert {link[1:] for link in self.links if link.startswith("#")} <= set(self.ids)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        assert len(named) == len(attributes), (tag, attributes)
        assert not [name for name in named if name.startswith("on")]
        above = self.open[-1] if self.open else ""
        assert above in INSIDE.get(tag, {above}), (tag, above, self.getpos())
        assert not (tag in BLOCKS and PHRASES & set(self.open)), (tag, self.open, self.getpos())
        assert tag != "img" or named.get("alt")
        self.ids += [named["id"]] if "id" in named else []
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.words.append(data)


def document_of(*models):
    return build_document(build_report([gather(model) for model in models]))


def html_of(*models):
    return page(document_of(*models), "report.json")


SECTIONS = [
    *("found", "summary", "table-1", "standard", "threats", "attacks", "certified", "audit", "probe", "images"),
    *("confusion", "training", "recipe"),
]
# What stands on a page of which nothing was measured.
ALWAYS = [name for name in SECTIONS if name != "table-1"]


def unfilled(text: str) -> dict[str, str]:
    """Section -> its words, for those that hold nothing."""
    found = re.findall(r'<section id="(\S+)" class="unfilled">(.*?)</section>', text, re.DOTALL)
    return {name: re.sub("<.*?>", "", content) for name, content in found}


def test_everything_that_was_measured_has_its_section(measured):
    parsed = Page(html_of(measured))
    assert parsed.ids == SECTIONS
    assert parsed.links == [*(f"#{name}" for name in SECTIONS), "report.json"]
    assert list(unfilled(html_of(measured))) == ["threats", "images"]
    # One for accuracy over eps, one certified, one of p_A, one of classes, three of training, four of the audit,
    # one of the probe; and the ladder.
    assert parsed.tags.count("figure") == 13


def widths(table: str) -> set[int]:
    """How many columns the rows of a table have."""
    carried, found = 0, set()
    for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
        cells = re.findall(r"<t[hd]([^>]*)>", row)
        spans = [int(span) for cell in cells for span in re.findall(r'colspan="(\d+)"', cell) or ["1"]]
        found.add(sum(spans) + carried)
        carried = sum("rowspan" in cell for cell in cells)
    return found


def test_the_rows_of_every_table_are_as_wide_as_its_head(runs, measured):
    other = runs.model()
    runs.add("evaluate", other, evaluation([True, False], samples=(4,)))
    runs.add("attack", other, attacks(transferred(attack_row([1]), [1], "x"), attack_row([1], "paper", samples=1)))
    for text in (html_of(measured), html_of(measured, other)):
        tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
        assert len(tables) > 6
        assert [len(widths(table)) for table in tables] == [1] * len(tables)


def test_the_folders_of_the_runs_are_linked_from_where_the_page_lies(measured, tmp_path):
    beside = tmp_path / "pages"
    text = page(build_document(build_report([gather(measured)]), beside), "report.json")
    linked = [link for link in Page(text).links if "/" in link and not link.startswith("data:")]
    assert linked
    assert not any(link.startswith("/") for link in linked)
    assert all((beside / unquote(link)).resolve().is_dir() for link in linked)


def test_the_page_asks_nobody_for_anything(measured):
    text = html_of(measured)
    parsed = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert all(link.startswith(("#", "data:image/png;base64,")) or link == "report.json" for link in parsed.links)
    assert not re.search(r"@import|url\(|https?://", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "evaluate", "attack", "certify", "audit"])
def test_a_run_with_nothing_in_it_makes_a_page(runs, verb):
    text = html_of(runs.add(verb, status="failed"))
    assert Page(text).ids == ALWAYS
    assert list(unfilled(text)) == [name for name in ALWAYS if name not in ("found", "summary", "recipe")]


def test_what_is_missing_is_one_line_that_says_what_would_fill_it(runs):
    model = runs.model()
    runs.add("evaluate", model, evaluation([True, False, True]))
    lines = unfilled(html_of(model))
    assert list(lines) == ["threats", "attacks", "certified", "audit", "probe", "images"]
    assert lines["audit"] == f"Audit\nnot measured; rushkit audit --from {model.path.name}".replace("\n", "")
    assert lines["threats"].endswith("--corruptions all --shift")


def test_what_transfers_has_a_table(runs):
    model, other = runs.model(), runs.model(name="other")
    to = "20300101-001000-finetune-other-000009"
    runs.add("attack", model, attacks(transferred(attack_row([0, 0, 10]), [10, 0, 10], to)))
    for text in (html_of(model), html_of(model, other), markdown(document_of(model), "x.html")):
        assert to in text
        assert "66.7" in text
    assert "says nothing of the other model" in html_of(model)


def test_strict_above_paper_is_explained_where_the_figures_stand(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([1, 0, 0, 0], "paper"), attack_row([10, 2, 0, 0])))
    (section,) = re.findall(r'<section id="attacks">.*?</section>', html_of(model), re.DOTALL)
    assert "such a difference can be chance" in section
    assert "such a difference can be chance" in markdown(document_of(model), "x.html")


def test_each_protocol_stands_under_its_own_name_and_what_is_of_one_of_them_is_of_strict(runs):
    model = runs.model()
    # Of 10 votes each under strict: one image is always right, one in half of them, two never.
    runs.add("attack", model, attacks(attack_row([1, 1, 1, 0], "paper"), attack_row([10, 5, 0, 0])))
    (section,) = re.findall(r'<section id="attacks">.*?</section>', html_of(model), re.DOTALL)
    (head,) = re.findall(r"<thead>(.*?)</thead>", section, re.DOTALL)
    names = [re.sub("<.*?>", "", name) for name in re.findall(r"<th.*?</th>", head, re.DOTALL)]
    (row,) = re.findall(r"<tbody>(.*?)</tbody>", section, re.DOTALL)
    cells = [re.sub("<small>.*?</small>|<.*?>", "", each) for each in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
    figures = dict(zip(names, cells, strict=True))
    shown = {name: figures[name] for name in ("paper", "strict", "right in every vote", "flips")}
    assert shown == {"paper": "75.0", "strict": "37.5", "right in every vote": "25.0", "flips": "12.5"}


def test_an_attack_under_another_noise_says_so(runs):
    model = runs.model()
    runs.add("attack", model, attacks(attack_row([1])))
    assert "l-inf 8/255</small>" in html_of(model)
    runs.add("attack", model, attacks(attack_row([1]), noise=Noise(name="gaussian", std=0.1)))
    assert "l-inf 8/255, gaussian std 0.1</small>" in html_of(model)


def test_encoders_of_one_probe_share_their_axes_and_two_probes_are_told_apart(runs, measured):
    model = runs.model()
    encoder = max((run for run in find_runs(runs.root) if run.verb == "pretrain"), key=lambda run: run.started)
    second = runs.add("probe", encoder, probed("pre-trained"))
    (figure,) = re.findall(r"<b>Feature distance.*?</figure>", html_of(measured, model), re.DOTALL)
    # Solid and dashed lines of one encoder have one entry.
    assert figure.count("<li>") == 3
    assert f"{second.path.name}, pre-trained" in figure


def test_every_figure_that_is_shown_says_of_how_many_images(measured):
    text = html_of(measured)
    for section, said in {
        "summary": "of 12 images of cifar10/test",
        "table-1": "n = 12",
        "standard": ">12</td>",
        "attacks": ">12</td>",
        "certified": "n = 4",
        "audit": "9 of 12 images attacked",
        "probe": "n = 4, without noise",
    }.items():
        (found,) = re.findall(rf'<section id="{section}">.*?</section>', text, re.DOTALL)
        assert said in found, section


def test_several_models_are_compared_in_one_table_and_one_set_of_axes(runs, measured):
    other = runs.model()
    runs.add("evaluate", other, evaluation([True] * 6 + [False] * 6))
    runs.add("attack", other, attacks(attack_row([10] * 12)))
    runs.add("certify", other, certification([0.1] * 4, [True] * 4))
    parsed = Page(html_of(measured, other))
    assert parsed.ids == [*SECTIONS[:3], "comparison", *SECTIONS[3:]]
    assert parsed.tags.count("figure") == 15
    text = html_of(measured, other)
    charts = re.findall(r"<b>Certified accuracy, l1</b>.*?</figure>", text, re.DOTALL)
    assert len(charts) == 1
    assert charts[0].count("<li>") == 2


def test_names_are_escaped_everywhere(runs):
    model = runs.model(name=EVIL, machine=EVIL, versions={EVIL: EVIL}, argv=["rushkit", EVIL])
    noise, classes = Noise(name=EVIL, option=EVIL), {EVIL: 1.0, "a&b": 0.5, '"c"': 0.0}
    results = evaluation([True, False, True], noise=noise, data=f"{EVIL}/test", per_class=classes)
    runs.add("evaluate", model, results, name=EVIL)
    note = Note(code="other", text=EVIL)
    row = attack_row([1, 0], attack=EVIL, notes=[note], contributions={EVIL: 1})
    runs.add("attack", model, attacks(row, row.with_changes(eps=0.1)))
    runs.add("certify", model, certification([0.1], [True], covers=EVIL, assumptions=[EVIL], warnings=[EVIL]))
    (model.path / "recipe.toml").write_text(f"# {EVIL}\n" + (model.path / "recipe.toml").read_text())
    text = html_of(model)
    parsed = Page(text)
    assert "<script" not in text
    assert "script" not in parsed.tags
    assert "&lt;script&gt;" in text
    assert "a&amp;b" in text
    assert any(EVIL in words for words in parsed.words)


def test_many_classes_are_listed_by_confusion(runs):
    model = runs.model()
    classes = {f"class {index}": 1.0 for index in range(100)}
    runs.add("evaluate", model, evaluation([True] * 50 + [False] * 10, per_class=classes))
    text = html_of(model)
    assert "most frequent confusions" in text
    assert text.count("taken for") == 1


@pytest.mark.parametrize("what", ["table", "attack", "comparison"])
def test_no_paper_figure_without_the_note(runs, what):
    model, other = runs.model(), runs.model()
    eps = 8 / 255 if what == "table" else 0.3
    for each in (model, other):
        runs.add("attack", each, attacks(attack_row([1, 0, 1], "paper", eps=eps)))
    models = [model, other] if what == "comparison" else [model]
    document = document_of(*models)
    shown = page(document, "x.json")
    sections = re.findall(r"<section.*?</section>", shown, re.DOTALL)
    note = "it reproduces, it is not the model&#39;s robustness."
    for section in sections:
        if re.search(r"66\.7|, paper, m|>paper<", section):
            assert note in section
    assert plain(PROTOCOL_SENTENCES[0]) in markdown(document, "report.html")


def test_the_note_of_the_terminal_has_the_same_sentences():
    assert [sentence.partition(":")[0] for sentence in PROTOCOL_SENTENCES] == ["paper", "strict", "weaker", "published"]
    assert PROTOCOL_NOTE.split() == " ".join(PROTOCOL_SENTENCES).split()


def test_markdown_has_the_same_figures(measured):
    text = markdown(document_of(measured), "report.html")
    row = next(
        line for line in text.splitlines() if line.startswith("| cifar10: cifar10, uniform") and "| 64 |" in line
    )
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:4] == ["87.9", r"75.0 \[46.7, 91.2\], n = 12"]
    assert cells[4] == "77.8"
    assert cells[7:10] == ["79.5", r"75.0 \[46.7, 91.2\], n = 12", ""]
    assert "RK102" in text
    assert "rushkit pretrain --set 'a b=1'" in text


def test_markdown_is_tables_and_sentences_without_html(measured):
    text = markdown(document_of(measured), "report.html")
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside)
    assert "report.html beside this file" in text
    lines = outside.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|"):
            # A table follows an empty line, and its rows are as wide as its head.
            cells = len(re.findall(r"(?<!\\)\|", line))
            before = lines[number - 1]
            assert not before or (before.startswith("|") and len(re.findall(r"(?<!\\)\|", before)) == cells), line


def test_markdown_names_cannot_break_the_table(runs):
    model = runs.model(name="a|b <i>")
    runs.add("evaluate", model, evaluation([True, False], data="x\ny/test"))
    text = markdown(document_of(model), "report.html")
    assert r"# a\|b \<i\>" in text.splitlines()
    (row, *_) = [line for line in text.splitlines() if line.startswith("| x y/test")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7


def test_a_fence_is_longer_than_any_in_the_recipe(runs):
    model = runs.model()
    (model.path / "recipe.toml").write_text('name = "```"\n')
    assert '````toml\nname = "```"\n````' in markdown(document_of(model), "report.html")


def test_class_names_of_the_fixture_are_shown(measured):
    text = html_of(measured)
    assert all(f"<b>{name}</b>" in text for name in CLASSES)
