"""Runs of a model whose figures are missing or not complete, by the section of the page where they would stand."""

from __future__ import annotations

import re

from rushkit.errors import UsageError
from rushkit.report.families import Family
from rushkit.run.info import RunInfo, read_run_file

# Verb -> the section that its figures stand in; what the others left out stands with the notes.
_SECTIONS = {"evaluate": "standard", "attack": "attacks", "certify": "certified", "audit": "audit", "probe": "probe"}
_NOTES = "summary"
# How many runs that cannot be read are named.
_MOST = 5
_VERB = re.compile(r"\d{8}-\d{6}-([a-z]+)-")


def left_out(family: Family) -> dict[str, list[str]]:
    """Return section -> sentences on runs that stopped, are damaged, or were made by another version of rushkit."""
    sentences: dict[str, list[str]] = {}
    for run in family.runs:
        said = sentences.setdefault(_SECTIONS.get(run.verb, _NOTES), [])
        if run.status != "finished":
            said.append(f"{run.path.name} ({run.verb}) is {run.status}; what it measured is not complete")
        said += [f"{damage}; its figures are left out" for damage in run.damage()]
    for run in family.unreadable[:_MOST]:
        verb = found[1] if (found := _VERB.match(run.path.name)) else ""
        said = sentences.setdefault(_SECTIONS.get(verb, _NOTES), [])
        said.append(f"{_why(run)}; if it is a run of this model, its figures are missing here")
    if (more := len(family.unreadable) - _MOST) > 0:
        sentences.setdefault(_NOTES, []).append(f"so it is with {more} more of its name")
    return {section: list(dict.fromkeys(said)) for section, said in sentences.items() if said}


def _why(run: RunInfo) -> str:
    try:
        read_run_file(run.path)
    except UsageError as error:
        return error.message
    return f"{run.path.name} could not be read"
