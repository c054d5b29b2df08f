"""The generated pages are what the code says, and links between the pages lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

from rushkit.auditing.checks.checklist import CHECKS
from rushkit.auditing.selftest.totals import totals_of
from rushkit.recipe.radius import ball_words
from rushkit.results.hit_rate import HitRate, HitRow, SeedOutcome
from rushkit.results.selftest import SelfTestBudgets

ROOT = Path(__file__).parents[2]
PAGES = [page for folder in ("*.md", "docs/*.md", "plugins/*/*.md") for page in sorted(ROOT.glob(folder))]
INDEX = ROOT / "docs" / "README.md"


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["commands.md", "recipe-keys.md"])
def test_generated_pages_are_up_to_date(page):
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == generator().PAGES[page](), "run docs/generate.py"


@pytest.mark.parametrize("name", ["rounds", "self-test", "bounds", "table 1 on CIFAR-10", "methods", "table 1"])
def test_generated_parts_of_pages_are_up_to_date(name):
    code = generator()
    page, write = next((page, write) for page, part, write in code.PARTS if part == name)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == code.filled(text, name, write()), "run docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ +(.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_a_page_says_in_its_first_lines_for_whom_it_is(page):
    opening, _, _ = page.read_text(encoding="utf-8").partition("\n## ")
    assert re.search("^For anyone who ", opening, re.MULTILINE), f"{page.name} does not begin with: For anyone who ..."


def slug(heading):
    """A heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links(page):
    """The files that a page links to."""
    targets = re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [(page.parent / target.partition("#")[0]).resolve() for target in targets if not target.startswith("#")]


def test_the_index_names_every_page_once():
    others = {*(ROOT / "docs").glob("*.ipynb"), ROOT / "docs" / "api" / "index.rst"}
    assert sorted(links(INDEX)) == sorted({*PAGES, *others} - {INDEX})


def test_the_index_is_linked_from_a_page_outside_it():
    assert any(INDEX in links(page) for page in PAGES if page != INDEX)


def test_the_audit_page_says_of_every_check_what_it_costs_how_often_it_errs_and_what_noise_changes():
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    _, *sections = re.split(
        r"^### (?=RK)", text.partition("\n## The checks\n")[2].partition("\n## ")[0], flags=re.MULTILINE
    )
    headings = [section.partition("\n")[0] for section in sections]
    assert headings == [f"{code} {name}" for code, name, _ in CHECKS]
    for heading, section in zip(headings, sections, strict=True):
        for said in ("Cost: ", "False alarms", "noise"):
            assert said in section.replace("Noise", "noise"), f"{heading} does not say: {said}"


def test_the_tables_of_the_self_test_count_seeds_and_set_the_checks_that_name_the_fault_in_bold(monkeypatch):
    def outcome(*failed, clean=0.9, counts=True, left=0.1):
        table = {"clean": clean, "claimed": 0.95, "left": left, "warned": [], "skipped": [], "counts": counts}
        return SeedOutcome(**table, failed=list(failed), caught="RK104" in failed)

    def row(name, kind, *outcomes):
        causes = [] if kind == "sound" else ["RK104"]
        return HitRow(name=name, kind=kind, held_out=False, norm="linf", eps=0.15, causes=causes, seeds=list(outcomes))

    rows = [
        row("rounding", "broken", outcome("RK104"), outcome("RK104", "RK108", left=0.2)),
        row("steep", "broken", outcome("RK104"), outcome("RK108")),
        row("linear", "sound", outcome(left=None), outcome("RK108", clean=0.1, counts=False, left=None)),
    ]
    figures = HitRate(
        rushkit="0",
        seeds=[1, 2],
        budgets=SelfTestBudgets(images=64, steps=20, eot=10, queries=200, planted=8),
        checks=["RK104", "RK108"],
        cases=rows,
        totals=totals_of([each.flagged for each in rows]),
    )
    code = generator()
    monkeypatch.setattr(code, "shipped_hit_rate", lambda: figures)
    lines = code.self_test_tables().splitlines()
    ball = ball_words("linf", 0.15)
    for expected in (
        f"| rounding | {ball} | 90.0 | 95.0 | 10.0 to 20.0 | **RK104** RK108 (1) | 2 of 2 |",
        f"| steep | {ball} | 90.0 | 95.0 | 10.0 | **RK104** (1) RK108 (1) | 1 of 2 |",
        f"| linear | {ball} | 10.0 to 90.0 | 95.0 | – |  | 0 of 1 (1 not counted) |",
    ):
        assert expected in lines
    assert [line for line in lines if "**1 of 2**" in line]
    assert lines[0].startswith("Seeds 1, 2, 2 checks, 64 images")
