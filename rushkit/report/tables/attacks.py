"""Tables of attacks: robust accuracy under each protocol, contributions, targets, queries and transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushkit.errors import shorten
from rushkit.recipe.radius import ball_words
from rushkit.report.figures import MeasuredAttack
from rushkit.report.protocols import (
    Pair,
    attack_pairs,
    pair_words,
    protocol_words,
    protocols_in,
    search_words,
    standing,
)
from rushkit.report.search import HEAD, change_words, passes_an_image
from rushkit.report.table import MARKDOWN, PAGE, TERMINAL, TEXT, Cell, Column, Heading, Table, build_table, column
from rushkit.report.tables.cells import share_cell
from rushkit.report.words import run_of_checkpoint
from rushkit.results.attacks import AttackRow, RuleFigures, Transfer
from rushkit.results.words import accuracy_words, images_words, noise_words, plain_noise
from rushkit.rounding import percent

# The column of settings that are not the protocol's own.
SETTINGS = "not the protocol's own"

# The numbers of queries after which the accuracy is shown.
_QUERIES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000)

TARGETED_CAPTION = "images of other classes that are taken for the class of the attack"
QUERIES_CAPTION = "accuracy in % after so many queries of the model, as the attack saw it"

# The name of a model and its attacks.
Named = tuple[str, Sequence[MeasuredAttack]]


class _Attacked(NamedTuple):
    """One attack, ball and m of a model, under each protocol."""

    model: str
    pair: Pair

    @property
    def shown(self) -> MeasuredAttack:
        return standing(self.pair)


class _Row(NamedTuple):
    """One attack of a model."""

    model: str
    shown: MeasuredAttack

    @property
    def record(self) -> AttackRow:
        return self.shown.record

    @property
    def majority(self) -> RuleFigures:
        return self.shown.majority


def attacks_table(models: Sequence[Named], caption: str = "") -> Table:
    """Return every attack, ball and m of these models, with the protocols side by side.

    With several models there is a column for their names. The figures beside the columns of the protocols are those of
    strict, where it was run.
    """
    rows = [_Attacked(name, pair) for name, attacks in models for pair in attack_pairs(attacks)]
    with_noise = len({noise_words(row.noise) for _, attacks in models for row in attacks}) > 1
    columns: list[Column[_Attacked]] = [column("model", lambda row: row.model, left=True)] * (len(models) > 1)
    columns += [
        column("attack", lambda row: _attack_cell(row.shown, with_noise), left=True),
        column("ball", lambda row: _ball(row.shown), left=True, media=TEXT),
        column("noise", lambda row: noise_words(row.shown.noise), left=True, media=MARKDOWN),
        column("m", lambda row: row.shown.record.samples, label="m"),
        column("images", lambda row: _images_cell(row.shown), label="images"),
        column("clean", lambda row: percent(row.shown.majority.clean_accuracy), line="clean %", label="clean"),
        *(_protocol_column(name) for name in protocols_in([row.pair for row in rows])),
        column("effort", lambda row: row.shown.record.effort, label="effort", media=TEXT),
        column("passes an image", _passes_cell, line="passes", label="passes an image"),
        column(HEAD, _change_cell, label=HEAD, media=PAGE | MARKDOWN),
        _percent_column("right in every vote", "any_failure_accuracy"),
        _percent_column("flips", "flip_rate"),
        column("broken by", _breakers, left=True, kind="wide", label="broken by", media=PAGE),
    ]
    if any(_searched(row) for row in rows):
        columns.append(column("gradients in", _searched, left=True, label="gradients in"))
    if any(pair_words(row.pair) for row in rows):
        columns.append(column(SETTINGS, lambda row: pair_words(row.pair), left=True, kind="wide", label=SETTINGS))
    return build_table(rows, columns, caption)


def contributions_table(rows: Sequence[MeasuredAttack]) -> Table:
    """Return how many images each attack was the first to break."""
    columns: list[Column[MeasuredAttack]] = [
        column("attack", lambda row: row.record.attack, left=True),
        column("ball", _ball, left=True),
        column("m", lambda row: row.record.samples),
        column("protocol", lambda row: protocol_words(row.record), left=True),
        column("broken first by", _contributions, left=True),
    ]
    return build_table(rows, columns, "images that each attack was the first to break")


def targeted_table(models: Sequence[Named]) -> Table | None:
    """Return how many images are taken for the class of a targeted attack; None if there was no such attack.

    With several models there is a column for their names, as in the tables below.
    """
    columns: list[Column[_Row]] = [
        column("to class", _class_of, left=True, label="to class"),
        column("protocol", lambda row: protocol_words(row.record), left=True, label="protocol"),
        column("images", lambda row: row.record.images, label="images"),
        column("taken for it %", lambda row: percent(1 - row.majority.accuracy), label="taken for it %"),
        column("[95%]", _taken_interval, label="[95%]"),
        column("clean %", lambda row: percent(1 - row.majority.clean_accuracy), label="clean %"),
    ]
    return _rows_table(models, columns, TARGETED_CAPTION)


def queries_table(models: Sequence[Named]) -> Table | None:
    """Return what attacks that count their queries leave after so many; None if there was no such attack."""
    counted = [(name, [row for row in rows if row.record.outcomes.queries]) for name, rows in models]
    most = max((max(row.record.outcomes.queries) for _, rows in counted for row in rows), default=0)
    looks = [0, *(number for number in _QUERIES if number < most), *([most] if most > 0 else [])]
    columns: list[Column[_Row]] = [
        column("protocol", lambda row: row.record.protocol, left=True, label="protocol"),
        *([column("to class", _class_of, left=True, label="to class")] if _any_targeted(counted) else []),
        *map(_queries_column, looks),
    ]
    return _rows_table(counted, columns, QUERIES_CAPTION)


def _rows_table(models: Sequence[Named], columns: Sequence[Column[_Row]], caption: str) -> Table | None:
    """Return a table with a line for each attack, whose first columns say which it is; None for no attacks."""
    rows = [_Row(name, attack) for name, attacks in models for attack in attacks]
    if not rows:
        return None
    with_noise = len({noise_words(row.shown.noise) for row in rows}) > 1
    which: list[Column[_Row]] = [
        *([column("model", lambda row: row.model, left=True)] if len(models) > 1 else []),
        column("attack", lambda row: row.record.attack, left=True, label="attack"),
        column("ball", lambda row: _ball(row.shown), left=True, label="ball"),
        *([column("noise", lambda row: noise_words(row.shown.noise), left=True, label="noise")] if with_noise else []),
        column("m", lambda row: row.record.samples, label="m"),
    ]
    return build_table(rows, [*which, *columns], caption)


def _any_targeted(models: Sequence[Named]) -> bool:
    return any(row.record.target is not None for _, rows in models for row in rows)


def _class_of(row: _Row) -> str:
    return shorten(row.record.target.name) if row.record.target else ""


def _taken_interval(row: _Row) -> str:
    return f"[{percent(1 - row.majority.high)}, {percent(1 - row.majority.low)}]"


def _queries_column(queries: int) -> Column[_Row]:
    return column(f"{queries}", lambda row: percent(row.record.outcomes.unbroken_after(queries)), label=f"{queries}")


class _Transferred(NamedTuple):
    """An attack whose images another model was queried about."""

    model: str
    here: MeasuredAttack

    @property
    def there(self) -> Transfer:
        assert self.here.record.transfer is not None
        return self.here.record.transfer

    @property
    def vote_there(self) -> RuleFigures:
        return self.there.rules["majority"]


def transfer_table(models: Sequence[Named], caption: str = "") -> Table | None:
    """Return how other models classify the images of these models' attacks; None if no other model was queried."""
    rows = [_Transferred(name, row) for name, attacks in models for row in attacks if row.record.transfer is not None]
    if not rows:
        return None
    columns: list[Column[_Transferred]] = [column("model", lambda row: row.model, left=True)] * (len(models) > 1)
    columns += [
        column("attack", _transferred_attack, left=True, media=PAGE | MARKDOWN),
        column("attack", lambda row: row.here.record.attack, left=True, media=TERMINAL),
        column("ball", lambda row: _ball(row.here), left=True, media=TEXT),
        column("m", lambda row: row.here.record.samples, label="m"),
        column("protocol", lambda row: protocol_words(row.here.record), left=True, media=TERMINAL),
        column("images", lambda row: row.there.images, label="images", media=PAGE | MARKDOWN),
        column(
            "here, attacked",
            lambda row: share_cell(row.here.majority),
            line="here % [95%]",
            label="here, attacked",
            media=PAGE | MARKDOWN,
        ),
        column("asked", _asked, left=True, kind="wide", label="asked", media=PAGE | MARKDOWN),
        column("there, clean", _clean_there, line="there, clean %", label="there, clean", media=PAGE | MARKDOWN),
        column("there: clean %", _clean_there, media=TERMINAL),
        column(
            "there, attacked",
            lambda row: share_cell(row.vote_there),
            line="there % [95%]",
            label="there, attacked",
            media=PAGE | MARKDOWN,
        ),
        column("there: attacked % [95%]", lambda row: accuracy_words(row.vote_there), media=TERMINAL),
    ]
    return build_table(rows, columns, caption)


def _attack_cell(row: MeasuredAttack, with_noise: bool) -> Cell:
    noise = f", {noise_words(row.noise)}" if with_noise else ""
    return Cell(row.record.attack, (_ball(row) + noise,))


def _images_cell(row: MeasuredAttack) -> Cell:
    words = images_words(row.record.images, row.record.split, row.chosen_from)
    count, _, runs = words.partition(", ")
    return Cell(count, (runs,) if runs else (), words)


def _passes_cell(row: _Attacked) -> Cell:
    words = passes_an_image(row.shown.record)
    return Cell(words, (f"effort {row.shown.record.effort}",), words)


def _change_cell(row: _Attacked) -> Cell:
    words = change_words(row.shown.record)
    figure, _, mark = words.partition(", not ")
    return Cell(figure, (f"not {mark}",) if mark else (), words)


def _protocol_column(protocol: str) -> Column[_Attacked]:
    def cell(row: _Attacked) -> Cell:
        return share_cell(row.pair[protocol].majority if protocol in row.pair else None)

    kind, head_kind = ("strict", "strict") if protocol == "strict" else ("dim", "")
    return Column(Heading(protocol, f"{protocol} % [95%]", False, kind, head_kind, protocol), cell)


def _percent_column(name: str, figure: str) -> Column[_Attacked]:
    return column(
        name,
        lambda row: percent(getattr(row.shown.majority, figure)),
        line=f"{name} %",
        label=name,
        media=PAGE | MARKDOWN,
    )


def _searched(row: _Attacked) -> str:
    """Return the precision of the passes that search, by protocol: ``"bf16"``; empty where all is float32."""
    low = {name: attack.record.search_precision for name, attack in row.pair.items() if search_words(attack.record)}
    if len(low) == len(row.pair):
        return ", ".join(dict.fromkeys(low.values()))
    return ", ".join(f"{precision} ({name})" for name, precision in low.items())


def _breakers(row: _Attacked) -> str:
    counts = row.shown.record.contributions
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "none"


def _contributions(row: MeasuredAttack) -> str:
    counts = row.record.contributions
    words = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{words}, none {row.record.images - sum(counts.values())}"


def _transferred_attack(row: _Transferred) -> Cell:
    about = row.here.record
    return Cell(f"{about.attack} {protocol_words(about)}", (_ball(row.here),))


def _asked(row: _Transferred) -> str:
    return f"{run_of_checkpoint(row.there.model)}, {noise_words(plain_noise(row.there.noise))}"


def _clean_there(row: _Transferred) -> str:
    return percent(row.vote_there.clean_accuracy)


def _ball(row: MeasuredAttack) -> str:
    return ball_words(row.record.norm, row.record.eps)
