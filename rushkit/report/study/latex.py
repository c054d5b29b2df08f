"""The tables of a study for a paper: LaTeX with booktabs. All that comes from a study is escaped."""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rushkit.errors import showable
from rushkit.report.page.render import TEMPLATES
from rushkit.report.study.document import StudyDocument
from rushkit.report.table import Table

# What LaTeX reads as something else than itself, and signs that pdflatex has in mathematics alone. A bracket or star
# would be an option of the line break before it.
_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "-": "{-}",
    "−": "$-$",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "σ": r"$\sigma$",
    "²": "$^2$",
    "₁": "$_1$",
    "₂": "$_2$",
    "∞": r"$\infty$",
    "…": r"\ldots{}",
}


def latex(document: StudyDocument) -> str:
    """Return the tables of a study as LaTeX, to be read by ``\\input`` after ``\\usepackage{booktabs}``."""
    return _environment().get_template("study.tex.j2").render(document=document)


def latex_table(table: Table) -> str:
    """Return one table as LaTeX, to be read by ``\\input`` after ``\\usepackage{booktabs}``."""
    return _environment().get_template("table.tex.j2").render(table=table)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        finalize=escaped,
    )
    environment.filters["alignment"] = _alignment
    return environment


def escaped(text: object) -> str:
    """Return a text that LaTeX prints as it is, in one line."""
    one_line = " ".join(showable(str(text)).split())
    return "".join(_SIGNS.get(sign, sign) for sign in one_line)


def _alignment(table: Table) -> str:
    return "".join("l" if heading.left else "r" for heading in table.on("markdown").headings)
