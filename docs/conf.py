"""How Sphinx builds the site: the Markdown pages as they stand, and a reference from the docstrings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import BaseModel

import rushkit
from rushkit.results.rows import Tabular

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "rushkit"
author = "the rushkit founders"
version = release = rushkit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The root of the repository is the source folder, so that a page's links lead to the same files as on a code host.
root_doc = "docs/README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/api/*.rst",
    "plugins/*/README.md",
]
# Folders that are not searched for pages.
exclude_patterns = [".*", "build", "dist", "runs", "data", "rushkit", "tests", "benchmarks", "recipes", "studies"]

# Anchors of headings, as code hosts make them.
myst_heading_anchors = 6

autodoc_member_order = "bysource"
# A field of pydantic's, which every record has.
autodoc_default_options = {"exclude-members": "model_config"}
# Shown by name: written out they fill lines.
autodoc_type_aliases = {
    "ArrayLike": "numpy.typing.ArrayLike",
    "Floats": "numpy.typing.NDArray",
    "Integers": "numpy.typing.NDArray",
    "Split": "rushkit.data.memory.Split",
}
python_maximum_signature_line_length = 100
# A name in a signature or a docstring is in the reference. Left out are other packages, whose pages are on other hosts;
# aliases of types, which have no dot; classes that a caller knows by their Protocol or by the keys of a recipe; and the
# rows of comparisons and benchmarks.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|np|nn|pydantic|pathlib|collections|inspect|PIL)\..*"),
    ("py:class", r"\w+"),
    (
        "py:class",
        r"rushkit\.(registry\.Factory|locks\.FolderLock|recipe\.schema\..*|data\.\w+\.\w+|(report|speed)\.\w+\.\w+)",
    ),
]

html_theme = "furo"
html_title = f"rushkit {version}"
templates_path = ["templates"]
html_additional_pages = {"index": "start.html"}
html_copy_source = False
html_show_copyright = False
# A browser does not let a page from the file system read others.
html_show_search_summary = False


def _contents(index: str) -> str:
    """Return the tables of contents of the index page: each of its sections is one, of the pages that it links to."""
    tables = []
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        caption, _, body = section.partition("\n")
        entries = "\n".join(re.findall(r"\]\(([\w./-]+)\.(?:md|rst)\)", body))
        tables.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n")
    return "\n".join(tables)


def _add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Add to the index page what orders the pages: a code host would show it as a block of code."""
    if page == root_doc:
        source[0] += "\n" + _contents(source[0])


def _without_signature(_app: Sphinx, _kind: str, _name: str, thing: object, *_rest: object) -> tuple[str, None] | None:
    """Return no signature for a record, whose fields are listed below it, and for a Protocol, which nobody calls."""
    listed = isinstance(thing, type) and (
        issubclass(thing, BaseModel | Tabular) or vars(thing).get("_is_protocol", False)
    )
    return ("", None) if listed else None


def _as_sentence(_app: Sphinx, kind: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Put back what napoleon takes for the type of a property: what is before a colon in its first line."""
    field = next((line for line in lines if line.startswith(":type: ")), None)
    if kind == "property" and field is not None:
        lines.remove(field)
        lines[0] = f"{field.removeprefix(':type: ')}: {lines[0]}"


def setup(app: Sphinx) -> None:
    """Sphinx calls this once, before it reads the pages."""
    app.connect("source-read", _add_contents)
    # After napoleon.
    app.connect("autodoc-process-docstring", _as_sentence, priority=600)
    app.connect("autodoc-process-signature", _without_signature)
