"""The site that ``make docs`` builds: without a warning, whole, and without anything from another host."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

for package in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[2]
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# Elements with content of their own that a browser fetches as it shows the page.
FETCHED = ("audio", "embed", "iframe", "img", "input", "link", "object", "script", "source", "video")

pytestmark = pytest.mark.slow


@dataclass
class Page(HTMLParser):
    """What a built page refers to, and what can be referred to in it."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given:
            self.ids.add(given["id"])
        address = given.get("href") or given.get("src") or given.get("data")
        # The rel of others, such as "next", tells where to go, and fetches nothing.
        if tag in FETCHED and address and given.get("rel", "stylesheet") in ("stylesheet", "icon", "preload"):
            self.fetched.append(address)
        if address:
            self.links.append(address)
        if tag in HEADINGS:
            self.headings.append(HEADINGS.index(tag) + 1)
        if tag == "img" and not given.get("alt"):
            self.undescribed.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = re.search(r"^\t\$\(BIN\)/python (-m sphinx .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert {"--fail-on-warning", "--keep-going"} <= set(command.split())
    words = command.replace("$(SITE)", str(place)).split()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    """The parsed pages by their paths."""
    parsed = {}
    for file in sorted(site.rglob("*.html")):
        page = parsed[file.relative_to(site).as_posix()] = Page()
        page.feed(file.read_text(encoding="utf-8"))
    return parsed


def test_every_page_of_the_repository_is_a_page_of_the_site(pages):
    sources = [file for pattern in ("*.md", "docs/*.md", "docs/api/*.rst") for file in ROOT.glob(pattern)]
    assert {file.relative_to(ROOT).with_suffix(".html").as_posix() for file in sources} <= set(pages)


def test_links_inside_the_site_lead_to_files_and_anchors(site, pages):
    for name, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme:
                continue
            target = (site / name).parent / unquote(address.path) if address.path else site / name
            assert target.is_file(), f"{name} links to {link}"
            if address.fragment and target.suffix == ".html":
                known = pages[target.resolve().relative_to(site.resolve()).as_posix()].ids
                assert unquote(address.fragment) in known, f"{name} links to {link}"


def test_links_to_other_hosts_are_https(pages):
    others = {link for page in pages.values() for link in page.links if urlsplit(link).scheme}
    assert {urlsplit(link).scheme for link in others} <= {"https", "mailto"}


def test_nothing_is_fetched_from_another_host(site, pages):
    for name, page in pages.items():
        assert not [link for link in page.fetched if re.match(r"(\w+:)?//", link)], name
    for style in site.rglob("*.css"):
        addresses = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", style.read_text(encoding="utf-8"))
        assert not [link for link in addresses if re.match(r"(\w+:)?//", link)], style


def test_every_picture_has_alternative_text(pages):
    assert {name: page.undescribed for name, page in pages.items() if page.undescribed} == {}


def test_every_page_has_one_title_and_headings_without_a_gap(pages):
    for name, page in pages.items():
        # One leads to the first page, the other has a title only where scripts run.
        if name in ("index.html", "search.html"):
            continue
        assert page.headings.count(1) == 1, name
        assert page.headings[0] == 1, name
        assert all(below - above <= 1 for above, below in pairwise(page.headings)), f"{name}: {page.headings}"


def test_the_search_reads_its_index_as_a_script(site):
    """Which a browser loads from the file system too, where it lets no page read a file."""
    assert '<script src="searchindex.js"' in (site / "search.html").read_text(encoding="utf-8")
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(")
    for name in ("docs/tutorial", "docs/api/statistics", "clopper_pearson_lower"):
        assert f'"{name}"' in index
