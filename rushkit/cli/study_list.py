"""``rushkit study list``."""

from __future__ import annotations

from rushkit.cli.options import Json, Output

NAME = "list"
EXAMPLE = "Example: rushkit study list"


def command(json: Json = False) -> None:
    """Every study by name: those in ./studies, and rushkit's own."""
    from rich.table import Table

    from rushkit.study.find import available
    from rushkit.study.load import about

    studies = {name: {"from": origin, "about": about(name)} for name, origin in available().items()}
    table = Table("study", "from", "about")
    for name, facts in studies.items():
        table.add_row(name, facts["from"], facts["about"])
    Output(json).result(studies, table)
