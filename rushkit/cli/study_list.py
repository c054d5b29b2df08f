"""``rushkit study list``."""

from __future__ import annotations

from rushkit.cli.options import Json, Output

NAME = "list"
EXAMPLE = "Example: rushkit study list"


def command(json: Json = False) -> None:
    """Every study by name: those in ./studies, and rushkit's own."""
    from rich.table import Table

    from rushkit.documents.components import Listed
    from rushkit.study.find import available
    from rushkit.study.load import about

    studies = {name: Listed(origin, about(name)) for name, origin in available().items()}
    table = Table("study", "from", "about")
    for name, listed in studies.items():
        table.add_row(name, listed.origin, listed.about)
    Output(json).result({name: listed.plain() for name, listed in studies.items()}, table)
