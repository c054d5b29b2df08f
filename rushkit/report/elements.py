"""Small pieces of HTML. Whatever comes from a run is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rushkit.report.words import images_words
from rushkit.rounding import percent, percent_interval


def text(value: Any) -> str:
    """Escaped."""
    return escape(str(value))


def note(lines: Sequence[str]) -> str:
    """A box that a reader does not miss, a paragraph a line."""
    return f'<aside class="note">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</aside>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", kind: str = "sticky") -> str:
    """A table that scrolls sideways where it does not fit.

    Args:
        head: HTML of the header's rows.
        rows: HTML of the cells, ``<td>`` included.
        caption: Above it.
        kind: Its class.
    """
    # A span of its own stays in sight where the table is wider than the screen.
    top = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}">{top}<thead>'
        f"{''.join(f'<tr>{row}</tr>' for row in head)}</thead><tbody>{body}</tbody></table></div>"
    )


def header(*names: str, words: Sequence[str] = (), strict: Sequence[str] = ()) -> str:
    """The cells of a header; ``words`` are aligned left, ``strict`` stand out."""
    cells = []
    for name in names:
        kind = "text" if name in words else "strict" if name in strict else ""
        cells.append(f"<th{f' class={kind!r}' if kind else ''}>{escape(name)}</th>".replace("'", '"'))
    return "".join(cells)


def cell(value: Any, kind: str = "", label: str = "") -> str:
    """A cell of plain text; ``label`` names it where the table is narrow and has no header."""
    return f"{_opening(kind, label)}{escape(str(value))}</td>"


def share_cell(row: Mapping[str, Any] | None, kind: str = "", label: str = "", images: bool = False) -> str:
    """A cell with an accuracy in %, its interval under it, and of how many images; empty without a row."""
    if row is None:
        return f"{_opening(kind, '')}</td>"
    counted = _lines(f"n = {images_words(row)}") if images else ""
    if settings := row.get("settings"):
        counted += f"<small>{escape(settings)}</small>"
    spread = f"<small>{percent_interval(row['low'], row['high'], ' – ')}</small>"
    return f"{_opening(kind, label)}<b>{percent(row['accuracy'])}</b>{spread}{counted}</td>"


def images_cell(row: Mapping[str, Any]) -> str:
    """A cell with the number of images of an attack, and of how many runs."""
    count, comma, runs = images_words(row).partition(", ")
    return f"{_opening('', 'images')}{escape(count)}{_lines(runs) if comma else ''}</td>"


def bullets(lines: Sequence[str], kind: str = "") -> str:
    """A list of sentences."""
    return f"<ul{f' class={kind!r}' if kind else ''}>".replace("'", '"') + (
        "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"
    )


def fold(summary: str, body: str, opened: bool = False) -> str:
    """Something that opens on demand."""
    return f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>{body}</details>"


def facts(pairs: Mapping[str, Any]) -> str:
    """A list of names and values."""
    return f"<dl>{''.join(f'<dt>{text(key)}</dt><dd>{text(value)}</dd>' for key, value in pairs.items())}</dl>"


def _lines(words: str) -> str:
    """Small print, a line for each part: whole, it would be the widest of its column."""
    return "".join(f"<small>{escape(part)}</small>" for part in words.split(", "))


def _opening(kind: str, label: str) -> str:
    named = f' data-label="{escape(label)}"' if label else ""
    return f'<td class="{kind}"{named}>' if kind else f"<td{named}>"
