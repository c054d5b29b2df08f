"""A report as one self-contained HTML page: its styles and pictures are in it, and it needs no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rushkit.report import blocks, diagrams, robustness_blocks

_STYLE = Path(__file__).with_name("page.css")

# Identifier and heading -> what makes the section of a document; an empty section is left out.
_SECTIONS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("summary", "In short", blocks.summary),
    ("table-1", "The paper's Table 1, reported and measured", blocks.table_1),
    ("comparison", "Comparison", blocks.comparison),
    ("standard", "Without an attack", blocks.standard),
    ("attacks", "Under attack", robustness_blocks.attacks),
    ("certified", "Certified", robustness_blocks.certified),
    ("audit", "Audit", robustness_blocks.audit),
    ("probe", "How far features move", robustness_blocks.probe),
    ("images", "Images", lambda _: ""),
    ("confusion", "Confusion", blocks.confusion),
    ("training", "Training", diagrams.training),
    ("recipe", "Recipe and how to reproduce it", blocks.reproduce),
)


def page(document: Mapping[str, Any], beside: str, images: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        document: As ``report.document.build_document`` makes it.
        beside: Name of the file that has the figures.
        images: HTML of the panel of each model, see ``report.panel``.
    """
    made = {key: section(document) for key, _, section in _SECTIONS} | {"images": "".join(images)}
    shown = [(key, heading, made[key]) for key, heading, _ in _SECTIONS if made[key]]
    title = escape(f"{document['title']}: rushkit report")
    links = "".join(f'<a href="#{key}">{escape(heading)}</a>' for key, heading, _ in shown)
    sections = "".join(
        f'<section id="{key}"><h2>{escape(heading)}</h2>{body}</section>\n' for key, heading, body in shown
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<header>{_header(document)}<nav>{links}</nav></header>\n<main>\n{sections}</main>\n"
        f'<footer><p class="soft">Written by rushkit {escape(document["rushkit"])}; the figures are in '
        f"{escape(beside)} beside this page.</p></footer>\n</body>\n</html>\n"
    )


def _header(document: Mapping[str, Any]) -> str:
    models = document["models"]
    lines = "".join(
        f'<p class="soft"><b class="{f"key c{number % 6}" if len(models) > 1 else ""}">{escape(model["name"])}</b>: '
        f"{escape('; '.join(f'{key} {value}' for key, value in model['about'].items()) or model['stage'])}</p>"
        for number, model in enumerate(models)
    )
    return f"<h1>{escape(document['title'])}</h1>{lines}"
