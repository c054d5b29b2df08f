"""A report as one self-contained HTML page, and as Markdown: both are laid out by the templates beside this file.

The page has its styles and pictures in it and needs no script. Markdown is for a repository or an issue. In both,
whatever a template puts in is escaped, unless our own code drew it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rushkit.report.document import Document
from rushkit.report.page.cards import Panel
from rushkit.report.pictures.ladder_svg import draw_ladder, ladder_height
from rushkit.report.pictures.palette import colour_class, palette_css
from rushkit.report.pictures.svg import draw, sample
from rushkit.report.table import Cell
from rushkit.rounding import counted

HERE = Path(__file__).parent
# Characters that YAML does not print, or takes for the end of a line; JSON escapes the other ones itself.
_NO_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
TEMPLATES = HERE / "templates"
_STYLES = (HERE / "page.css", HERE / "charts.css", HERE / "report.css")


def page(document: Document, beside: str, panels: Sequence[Panel] = ()) -> str:
    """Return the report as HTML.

    Args:
        document: What it shows.
        beside: Name of the file that has the figures.
        panels: Images of each model.
    """
    return render_html("page.html.j2", document=document, beside=beside, panels=panels)


def markdown(document: Document, beside: str) -> str:
    """Return the report as Markdown.

    Args:
        document: What it shows.
        beside: Name of the file that has the curves and images.
    """
    return render_markdown("report.md.j2", document=document, beside=beside)


def render_html(template: str, **shown: object) -> str:
    """Return an HTML page as a template beside this file lays it out."""
    return _html().get_template(template).render(style=Markup(style()), **shown)


def style() -> str:
    """Return the style sheet of all pages."""
    return "".join([*(path.read_text(encoding="utf-8") for path in _STYLES), palette_css()])


def render_markdown(template: str, **shown: object) -> str:
    """Return Markdown as a template beside this file lays it out."""
    return _markdown().get_template(template).render(**shown)


def plain(text: object) -> str:
    """Return text that Markdown and HTML leave as it is."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#~$&])", r"\\\1", one_line)


class _Written(str):
    """Markdown that is not escaped again."""


def _fenced(text: str, language: str) -> _Written:
    """Return a code block, with a fence longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return _Written(f"{fence}{language}\n{text}\n{fence}")


def _yaml(table: Mapping[str, object]) -> _Written:
    """Return a table with a line for each key, whose value is JSON: YAML reads it as the same value.

    The keys are our own, and texts in the values anybody's: none can end its line or its quotation, and characters that
    YAML forbids are escaped.
    """
    text = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in table.items())
    return _Written(_NO_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _linked(cell: Cell) -> _Written:
    """Return a cell as a link."""
    return _Written(f"[{plain(cell.flat)}]({cell.href})")


def _html() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(colour=colour_class, drawn=draw, sample=sample)
    environment.filters.update(ladder=draw_ladder, ladder_height=ladder_height, counted=counted)
    return environment


def _markdown() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown has its own escapes, for all that a template puts in.
        finalize=lambda value: value if isinstance(value, _Written) else plain(value),
    )
    environment.filters["fenced"] = _fenced
    environment.filters["yaml"] = _yaml
    environment.filters["linked"] = _linked
    return environment
