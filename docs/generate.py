#!/usr/bin/env python3
"""Write what follows from the code: commands.md, recipe-keys.md, the rounds of strict, the figures of the self-test,
what each bound costs, the tables of studies whose results are kept.

Run it after changing a command, an option, a recipe key, the protocol or the figures; a test fails while the pages
differ from what it writes.
"""

from __future__ import annotations

import html
import inspect
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from rushkit.attacks.cascade.schedule import (
    AGREEMENT,
    EFFORTS,
    LOOKS,
    MOMENTUM,
    MOST_DRAWS,
    Ascent,
    first_step,
    schedule_of,
)
from rushkit.attacks.margins import SETTLED
from rushkit.attacks.race import CLEARLY, Panel
from rushkit.attacks.torchattacks_adapter import Torchattacks
from rushkit.attacks.torchattacks_kinds import KINDS
from rushkit.description import argument_words, further_options
from rushkit.documents.names import DOCUMENTS
from rushkit.noises.gaussian import Gaussian
from rushkit.recipe import toml
from rushkit.recipe.components import SECTIONS, SUPPLIED
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Recipe
from rushkit.registry import factory_parameters, option_types
from rushkit.report.page.render import render_markdown
from rushkit.report.study.document import shared_notes
from rushkit.report.study.figures import StudyReport
from rushkit.report.study.make import study_report
from rushkit.report.study.tables import differences_table, figures_table, seeds_table
from rushkit.report.table import Table
from rushkit.report.tables.selftests import group_words
from rushkit.results.hit_rate import HitRow, shipped_hit_rate
from rushkit.results.selftest import GROUPS, SelfTestTotals
from rushkit.results.words import rate_words
from rushkit.robustness.protocols import STRICT_VOTES
from rushkit.rounding import floor_radius, percent
from rushkit.statistics import betting_lower, clopper_pearson_lower, randomized_lower

HERE = Path(__file__).resolve().parent
_COMMANDS_ARE_FOR = (
    "For anyone who looks up an option. This page has the help text of every command, as its `--help` "
    "prints it; the [tutorial](tutorial.md) shows the commands in use."
)
NOTE = "<!-- Written by docs/generate.py; change the code, then run it. -->\n\n"


def commands() -> str:
    """Every command with its options, as Typer documents them."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "commands.md"
        typer = [sys.executable, "-m", "typer", "rushkit.cli.app", "utils", "docs", "--name", "rushkit"]
        subprocess.run([*typer, "--title", "Commands", "--output", str(page)], check=True, capture_output=True)
        text = html.unescape(page.read_text(encoding="utf-8"))
    text = text.replace("# Commands\n", f"# Commands\n\n{_COMMANDS_ARE_FOR}\n", 1)
    # Lines that the terminal keeps apart, and Markdown would join.
    return NOTE + re.sub(r"(?m)^\n(.*:\n)((?:  rushkit .*\n)+)", r"\1\n```console\n\2```\n", text)


def recipe_keys() -> str:
    """Every key of a recipe, and every option of rushkit's own components, with default, allowed values and meaning."""
    # As values are held: what a key may be written as too, its description says.
    schemas = Recipe.model_json_schema(by_alias=True, mode="serialization")["$defs"]
    lines = [
        "# Recipe keys",
        "",
        "For anyone who writes or changes a recipe. After this page you know every key, its default, its allowed",
        "values and its meaning; [recipes.md](recipes.md) explains how recipes work. A recipe that does not set a key",
        "has the default; a key without one is required.",
        "",
    ]
    lines += [
        "Two keys stand outside of the tables: `schema = 1`, the version of this format, and `name`, that of its runs.",
        "Error messages on keys and values: [troubleshooting.md](troubleshooting.md#recipes).",
        "",
    ]
    for name, field in Recipe.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            continue
        header = f"[[{name}]]" if get_origin(field.annotation) is list else f"[{name}]"
        default = field.default if isinstance(field.default, BaseModel) else None
        lines += [f"## `{header}`", "", inspect.cleandoc(section.__doc__ or ""), ""]
        lines += [*_HEAD, *_rows(section, schemas, default, ""), ""]
        if name == "published":
            lines += ["The attacks and their options are those of [`[[attack]]`](#attack).", ""]
        elif name in SECTIONS:
            lines += _options_of(name)
    return NOTE + "\n".join(lines)


def _rows(section: type[BaseModel], schemas: dict[str, Any], default: BaseModel | None, prefix: str) -> list[str]:
    rows = []
    for name, field in section.model_fields.items():
        value = getattr(default, name) if default is not None else field.get_default(call_default_factory=True)
        nested = _section(field.annotation)
        if nested is not None:
            rows += _rows(nested, schemas, value if isinstance(value, BaseModel) else None, f"{prefix}{name}.")
            continue
        allowed = _allowed(schemas[section.__name__]["properties"][name])
        rows.append(_row(f"{prefix}{name}", value, allowed, field.description or ""))
    return rows


def _options_of(section: str) -> list[str]:
    """The options of the components that a section may name; each is another key of the section."""
    registry, model = SECTIONS[section]
    key = model.NAMED_BY
    lines, families = [], []
    for entry in registry.entries():
        factory = entry.load()
        stage = getattr(factory, "stage", section)
        if entry.owner != "rushkit" or stage != section:
            continue
        if isinstance(factory, Torchattacks):
            families += _torchattacks(factory, SUPPLIED[registry.kind])
            continue
        options = factory_parameters(factory, SUPPLIED.get(registry.kind, ()))
        if entry.name.endswith("/*"):
            del options["name"]
        if options or further_options(factory):
            lines += [f'With `{key} = "{entry.name}"`:', "", *_HEAD, *_option_rows(factory, options), ""]
    return lines + families


def _torchattacks(family: Torchattacks, supplied: tuple[str, ...]) -> list[str]:
    """The options of every member of ``torchattacks/*``."""
    lines = [
        "`torchattacks/*` stands for the attacks of torchattacks, which take its options, under its names and with its",
        "defaults; its page explains them. Where rushkit has no attack of that name, `fgsm` is short for",
        "`torchattacks/fgsm`.",
        "",
    ]
    for name in sorted(KINDS):
        options = factory_parameters(family.member(name), supplied)
        words = ", ".join(f"`{option} = {_value(about.default)}`" for option, about in options.items())
        lines.append(f"- `torchattacks/{name}`: {words or 'none'}")
    return [*lines, ""]


def _option_rows(factory: Any, options: dict[str, inspect.Parameter]) -> list[str]:
    types = option_types(factory)
    words = argument_words(factory)
    rows = [
        _row(
            name,
            option.default,
            _allowed(TypeAdapter(types[name]).json_schema()),
            words.get(name, ""),
        )
        for name, option in options.items()
    ]
    further = further_options(factory)
    return [*rows, f"| | | | {words[further]} |"] if further else rows


def _allowed(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(filter(None, map(_allowed, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{_value(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        least = schema.get("minItems", 0)
        inner = _allowed(schema["items"]).replace("number", "numbers")
        return f"list of {f'{least} ' if least > 1 else 'one or more ' if least else ''}{inner}"
    kinds = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    kinds |= {"object": "table", "null": ""}
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = ", ".join(f"{sign} {schema[word]:g}" for word, sign in limits.items() if word in schema)
    return f"{kinds[schema['type']]} {bounds}".strip()


_HEAD = ("| key | default | allowed | |", "|---|---|---|---|")


def _row(key: str, default: Any, allowed: str, words: str) -> str:
    none = default in (PydanticUndefined, inspect.Parameter.empty)
    shown = "" if none else "left out" if default is None else f"`{_value(default)}`"
    cells = [f"`{key}`", shown, allowed, words]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _value(value: Any) -> str:
    """A value as TOML writes it, with no more digits than say it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else toml.format_value(value)


def _section(annotation: object) -> type[BaseModel] | None:
    """The model behind a field that is a table or an array of tables."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def strict_rounds() -> str:
    """The rounds of the protocol strict, with and without noise, and every other number that defines it."""
    lines = []
    for random, title in ((True, "With noise"), (False, "Without noise")):
        lines += [f"{title}:", "", "| round | effort | steps | draws a gradient | climbs |", "|---|---|---|---|---|"]
        efforts = [(effort, schedule_of("linf", random, _MANY, effort)) for effort in EFFORTS]
        in_l1 = schedule_of("l1", random, _MANY, max(EFFORTS))
        for number, part in enumerate(efforts[-1][1].rounds):
            effort = next(effort for effort, schedule in efforts if number < len(schedule.rounds))
            climbs = "; ".join(map(_climb, part.ascents, in_l1.rounds[number].ascents))
            lines.append(f"| {number + 1} | {effort} | {part.steps} | {part.draws} | {climbs} |")
        lines.append("")
    ends = ", ".join(map(str, Panel.of(1, True, 0).ends))
    numbers = {
        "momentum of falling steps": MOMENTUM,
        "first step of a climb with momentum, in radii, in l-inf and l2; it falls to 0 along a cosine": first_step(
            "falling", "l2", 1.0
        ),
        "the same in l1, in pixel units, but at most the radius; a step goes along the gradient itself": first_step(
            "falling", "l1", 1.0
        ),
        "first step of Auto-PGD, in radii; it is halved where progress stops": first_step("auto", "l2", 1.0),
        "first step of APGD-L1, in radii, in balls of 3, 2 and 1 radii in turn": first_step("sparse", "l1", 1.0),
        "draws are doubled while the cosine between the gradients of two half panels is below": AGREEMENT,
        "the most draws a gradient": MOST_DRAWS,
        "iterates race after these shares of a climb's steps, and at its end": ", ".join(map(str, LOOKS)),
        "looks of a race, in draws; the last one takes m draws if that is more": ends,
        "a look ends the race if the leads of the draws add up to this many roots of their sum of squares": CLEARLY,
        "an image leaves once its vote is lost by this many standard deviations": SETTLED,
        "votes of m draws that score an image": STRICT_VOTES,
    }
    lines += ["| number | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in numbers.items()), ""]
    return "\n".join(lines)


# More classes than any climb of the cascade needs.
_MANY = 1000
_RULES = {"falling": "", "auto": "Auto-PGD", "sparse": "APGD-L1"}


def _climb(ascent: Ascent, in_l1: Ascent) -> str:
    """A climb in words, such as ``margin from a random point (l1: APGD-L1)``."""
    rival = f" to rival {ascent.rival}" if ascent.rival else ""
    rules = [_RULES[ascent.rule]] if _RULES[ascent.rule] else []
    if in_l1.rule != ascent.rule:
        rules.append(f"l1: {_RULES[in_l1.rule]}")
    start = "a random point" if ascent.start == "random" else "the worst version"
    steps = f" ({'; '.join(rules)})" if rules else ""
    return f"{ascent.loss}{rival} from {start}{steps}"


def self_test_tables() -> str:
    """How many of the planted faults the audit finds, and what it says of each case on every seed."""
    figures = shipped_hit_rate()
    if figures is None:
        return "Not measured yet.\n"
    seeds, budgets = ", ".join(map(str, figures.seeds)), figures.budgets
    lines = [
        f"Seeds {seeds}, {len(figures.checks)} checks, {budgets.images} images, {budgets.steps} steps, "
        f"{budgets.eot} draws, {budgets.queries} queries. Intervals are 95% Wilson over the cases.",
        "",
        "| cases | flagged for the right cause on every seed | some check fails |",
        "|---|---|---|",
        *map(_totals_row, figures.totals),
        "",
    ]
    for kind, held_out in GROUPS:
        rows = [row for row in figures.cases if (row.kind, row.held_out) == (kind, held_out)]
        if rows:
            name = group_words(kind, held_out)
            lines += [f"{name[0].upper()}{name[1:]}:", "", *_CASES_HEAD[kind == "sound"], *map(_case_row, rows), ""]
    return "\n".join(lines)


_CASES_HEAD = (
    (
        "| case | ball | clean % | claimed % | left % | checks that fail | flagged |",
        "|---|---|---|---|---|---|---|",
    ),
    (
        "| model | ball | clean % | PGD % | left % | checks that fail | false alarms |",
        "|---|---|---|---|---|---|---|",
    ),
)


def _totals_row(totals: SelfTestTotals) -> str:
    name, failed = group_words(totals.kind, totals.held_out), totals.failed
    words = f"{failed.count} of {failed.total}, {rate_words(failed)} %"
    if totals.caught is None:
        return f"| {name} | | {words} (false alarms, on any seed) |"
    caught = totals.caught
    return f"| {name} | **{caught.count} of {caught.total}**, {rate_words(caught)} % | {words} |"


def _case_row(row: HitRow) -> str:
    """The figures of a case over all seeds; bold checks name its fault, (n) counts seeds if not all."""
    counting = [outcome for outcome in row.seeds if outcome.counts]
    codes: dict[str, int] = {}
    for code in sorted(code for outcome in counting for code in outcome.failed):
        codes[code] = codes.get(code, 0) + 1
    shown = []
    for code, count in codes.items():
        words = f"**{code}**" if code in row.causes else code
        shown.append(words if count == len(counting) else f"{words} ({count})")
    flagged = sum(bool(outcome.failed) if row.kind == "sound" else outcome.caught for outcome in counting)
    verdict = f"{flagged} of {len(counting)}"
    if len(counting) < len(row.seeds):
        verdict += f" ({len(row.seeds) - len(counting)} not counted)"
    shares = [_range([getattr(outcome, name) for outcome in row.seeds]) for name in ("clean", "claimed", "left")]
    cells = [row.name, ball_words(row.norm, row.eps), *shares, " ".join(shown), verdict]
    return f"| {' | '.join(cells)} |"


def _range(shares: Sequence[float | None]) -> str:
    """The least and the greatest share in percent; one figure where they are the same."""
    known = [share for share in shares if share is not None]
    if not known:
        return "–"
    low, high = percent(min(known)), percent(max(known))
    return low if low == high else f"{low} to {high}"


def bound_costs() -> str:
    """What each bound on counts proves at alpha 0.001: p, and the radius under Gaussian noise."""
    shares, uniforms = (0.6, 0.9, 0.99, 1.0), (np.arange(1000) + 0.5) / 1000
    bounds: dict[str, Callable[[int, int], NDArray[np.float64]]] = {
        "clopper-pearson": lambda k, n: np.atleast_1d(clopper_pearson_lower(k, n, 0.001)),
        "randomized": lambda k, n: randomized_lower(k, n, uniforms, 0.001),
        "betting": lambda k, n: np.atleast_1d(betting_lower(k, n, 0.001)),
    }
    lines = [
        f"| draws | bound | {' | '.join(f'k/n = {share:g}' for share in shares)} |",
        f"|---|---|{'---|' * len(shares)}",
    ]
    for draws in (100, 1000, 10_000, 100_000):
        for name, bound in bounds.items():
            cells = []
            for share in shares:
                p = bound(round(share * draws), draws)
                radius = np.mean(Gaussian(scale=1.0).certified_radius(p, "l2", 1))
                certified = f"{floor_radius(float(radius))}σ" if radius else "–"
                cells.append(f"{floor_radius(float(np.mean(p)), 5)}, {certified}")
            lines.append(f"| {draws} | `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def json_documents() -> str:
    """Every document that has a schema, with a line on each."""
    lines = ["| document | what it is |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {document.about} |" for name, document in DOCUMENTS.items()), ""])


def table_1_digits() -> str:
    """The table of the study table1-digits, from the results that are kept of it."""
    report = _kept("table1-digits")
    differences = differences_table(report)
    assert differences is not None
    parts = [
        *_tables(figures_table(report)),
        *(f"- {note}" for note in (*report.notes, *shared_notes(report))),
        "",
        "Each seed, with Wilson intervals over the images:",
        "",
        *_tables(seeds_table(report, lambda _: "")),
        "The first row minus each of the others, in points:",
        "",
        *_tables(differences),
    ]
    return "\n".join(parts)


def methods_digits() -> str:
    """The table of the study methods-digits, from the results that are kept of it."""
    return _figures("methods-digits")


def table_1_cpu() -> str:
    """The table of the study table1-cpu, from the results that are kept of it."""
    return _figures("table1-cpu")


def _figures(study: str) -> str:
    """The rows of a study of one seed, and what qualifies them."""
    report = _kept(study)
    notes = (f"- {note}" for note in (*report.notes, *shared_notes(report)))
    return "\n".join([*_tables(figures_table(report)), *notes, ""])


def _kept(study: str) -> StudyReport:
    """The report of a study for somebody who has no runs."""
    with tempfile.TemporaryDirectory() as nothing:
        return study_report(study, nothing)


def _tables(table: Table) -> list[str]:
    return [*render_markdown("table.md.j2", table=table).strip().splitlines(), ""]


def filled(page: str, name: str, content: str) -> str:
    """A page with content between the two marks of a name."""
    begin, end = f"<!-- {name}: docs/generate.py writes from here -->", f"<!-- {name}: to here -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{content}\n{end}{after}"


PAGES = {"commands.md": commands, "recipe-keys.md": recipe_keys}
PARTS = [
    ("protocols.md", "rounds", strict_rounds),
    ("audit.md", "self-test", self_test_tables),
    ("certificates.md", "bounds", bound_costs),
    ("json.md", "documents", json_documents),
    ("results.md", "table 1 on CIFAR-10", table_1_cpu),
    ("results.md", "methods", methods_digits),
    ("results.md", "table 1", table_1_digits),
]

if __name__ == "__main__":
    for page, write in PAGES.items():
        (HERE / page).write_text(write(), encoding="utf-8")
    for page, name, write in PARTS:
        text = (HERE / page).read_text(encoding="utf-8")
        (HERE / page).write_text(filled(text, name, write()), encoding="utf-8")
