"""The model card of a published model: Markdown, with the front matter that Hugging Face reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import rushkit
from rushkit.claims.record import Claims
from rushkit.errors import shell_line
from rushkit.files import JSON
from rushkit.recipe.radius import ball_words, eps_words, norm_words
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import Family, recipe_of_run
from rushkit.report.figures import Model
from rushkit.report.page.render import render_markdown
from rushkit.report.protocols import protocol_words, upper_bounds
from rushkit.report.summary import statements
from rushkit.results.words import PROTOCOL_SENTENCES

LIBRARY, TASK = "rushkit", "image-classification"
# Data sets that are files of the user's: their name here says nothing to others.
_OF_FILES = ("folder", "npz", "parquet")
_DIGITS = 4


def model_card(
    family: Family,
    claims: Claims,
    classes: Sequence[str],
    left_out: Sequence[str],
    license_name: str | None = None,
) -> str:
    """Return the README.md of a published model.

    Args:
        family: The model, with the runs whose figures are published.
        claims: What is claimed of it.
        classes: Names of its classes, which may be anybody's text.
        left_out: A sentence on each run or artifact that is not published.
        license_name: The licence of the weights; None: none is named.
    """
    report, name = build_report([family]), claims.name
    (model,), (part,) = report.models, build_document(report).models
    return render_markdown(
        "card.md.j2",
        front=_front(model, name, _data_of(family), license_name),
        name=name,
        model=model,
        said=statements(model),
        remarks=[*model.notes, *model.attack_notes, *left_out],
        classes=classes,
        attacks=part.attacks,
        certified=part.certified,
        audits=part.audits,
        protocols=PROTOCOL_SENTENCES,
        commands="\n".join(_commands(name)),
        checks="\n".join(_checks(claims)),
        weights=claims.model.weights,
        version=rushkit.__version__,
    )


def _front(model: Model, name: str, data: str, license_name: str | None) -> dict[str, JSON]:
    """Return the front matter: key -> value."""
    front: dict[str, JSON] = {"library_name": LIBRARY}
    if license_name:
        front["license"] = license_name
    front["tags"] = [TASK, "robustness", *(["randomized-smoothing"] if model.about.get("noise") != "none" else [])]
    if data and data not in _OF_FILES:
        front["datasets"] = [data]
    front["metrics"] = ["accuracy"]
    front["model-index"] = [{"name": name, "results": list(_results(model))}]
    return front


def _results(model: Model) -> Iterator[JSON]:
    """Yield the results of a model index: accuracies in [0, 1], each named by the bound that it is."""
    for clean in model.accuracy:
        if clean.rule == "majority":
            vote = f"accuracy without an attack, m = {clean.samples}, n = {clean.images}"
            yield _result(clean.data, vote, round(clean.accuracy, _DIGITS))
    for attacked in upper_bounds(model.attacks):
        row, share = attacked.record, attacked.majority
        attack = (
            f"{row.attack} {ball_words(row.norm, row.eps)} {protocol_words(row)}, m = {row.samples}, n = {row.images}"
        )
        yield _result(row.split, f"upper bound: accuracy under {attack}", _rounded(math.ceil, share.accuracy))
    for certified in model.certified:
        one = certified.record
        for radius in one.certified:
            ball = f"{norm_words(one.norm)} {eps_words(radius.radius)}"
            yield _result(
                one.data,
                f"lower bound: certified accuracy at {ball}, n = {one.images}",
                _rounded(math.floor, radius.value),
            )


def _result(data: str, name: str, value: float) -> JSON:
    dataset, _, split = data.partition("/")
    metric: JSON = {"type": "accuracy", "name": name, "value": value}
    return {
        "task": {"type": TASK},
        "dataset": {"type": dataset, "name": dataset, "split": split},
        "metrics": [metric],
    }


def _rounded(direction: Callable[[float], int], share: float) -> float:
    """Return a share with few digits: an upper bound is rounded up, a lower one down."""
    # What is left of a share beyond so many digits is the rounding of float64.
    shown: float = direction(round(share * 10**_DIGITS, _DIGITS)) / 10**_DIGITS
    return shown


def _data_of(family: Family) -> str:
    recipe = recipe_of_run(family.model)
    return "" if recipe is None else recipe.data.name


def _commands(name: str) -> Iterator[str]:
    yield shell_line("rushkit", "evaluate", "--from", f"DIR/{name}")
    yield shell_line("rushkit", "predict", "IMAGE", "--from", f"DIR/{name}")


def _checks(claims: Claims) -> Iterator[str]:
    yield shell_line("rushkit", "leaderboard", "DIR", "--to", "leaderboard.html")
    for artifact in [name for measured in claims.measured for name in measured.artifacts]:
        yield shell_line("rushkit", "verify", f"DIR/{claims.name}/{artifact}", "--from", f"DIR/{claims.name}")
