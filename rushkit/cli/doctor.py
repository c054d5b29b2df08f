"""``rushkit doctor``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rushkit.cli.options import Changes, Json, Output
from rushkit.cli.source import runs_root
from rushkit.cli.verb import verb
from rushkit.paths import expand_text

if TYPE_CHECKING:
    from rushkit.doctor.examination import Examination

NAME = "doctor"
EXAMPLE = "Example: rushkit doctor"


@verb
def command(*, changes: Changes = None, json: Json = False) -> None:
    """What rushkit finds here: device, versions, data, plugins and disk space; and what would be slow."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from rushkit.doctor.examine import advice, examine
    from rushkit.documents.machine import Diagnosis
    from rushkit.recipe.overrides import parse_changes

    keys = dict(parse_changes(changes or []))
    folder = keys.get("system.data_dir") or os.environ.get("RUSHKIT_DATA") or "data"
    device = keys.get("system.device") or os.environ.get("RUSHKIT_DEVICE") or "auto"
    facts = examine(str(device), expand_text(str(folder)), runs_root(changes))
    lines = advice(facts)
    table = Table(show_header=False)
    for name, words in _rows(facts).items():
        table.add_row(name, words)
    closing = Text("\n".join(f"- {line}" for line in lines) or "nothing to complain of")
    Output(json).result(Diagnosis(facts, lines).plain(), Group(table, closing))


def _rows(facts: Examination) -> dict[str, str]:
    return {
        "machine": facts.machine,
        "training": f"{facts.precision}: {facts.precision_reason}; {'' if facts.compiles else 'not '}compiled",
        "figures": f"{facts.figures_precision}: {facts.figures_precision_reason}",
        "arithmetic": f"{facts.gflops:.0f} GFLOP/s in a convolution, forward and backward",
        "platform": facts.platform,
        "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        f"data in {facts.data.folder}": ", ".join(f"{name}: {about.state}" for name, about in facts.data.sets.items()),
        f"runs in {facts.runs.folder}": f"{facts.runs.free / 2**30:.0f} GiB free",
        "plugins": ", ".join(f"{name} {state}" for name, state in facts.plugins.items()) or "none",
    }
