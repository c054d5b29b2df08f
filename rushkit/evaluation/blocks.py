"""What measurements under corruptions and under shifts share: the facts that their logs depend on, and their checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from rushkit.errors import UsageError
from rushkit.recipe.schema import Recipe, Rule
from rushkit.results.logs import ThreatSubject
from rushkit.results.threats import ByRule
from rushkit.run.log_checks import demand
from rushkit.setup.subject import Subject

# The flags that ask for them.
CORRUPTIONS, SHIFT = "--corruptions", "--shift"


def threat_subject(subject: Subject, recipe: Recipe, block: int) -> ThreatSubject:
    """Return everything that the outcomes of these images depend on, without the corruptions or shifts themselves."""
    return ThreatSubject(
        model=subject.classifier.checkpoint.hash,
        data=subject.split.name,
        content=subject.fingerprint(),
        indices=subject.indices.tolist(),
        noise=recipe.noise,
        precision=subject.machine.precision,
        samples=sorted(set(recipe.evaluate.samples)),
        rules=list(recipe.evaluate.rules),
        seed=recipe.system.seed,
        block=block,
    )


def square_side(subject: Subject, flag: str) -> int:
    """Return the side of the images in pixels. Raises UsageError for images that are not square, naming the flag."""
    size = subject.classifier.image_size
    if isinstance(size, int):
        return size
    raise UsageError(
        f"{flag} is for square images, and these are {size[0]}x{size[1]}",
        f"leave {flag} out, or measure a model of square images",
    )


def check_columns(by_rule: ByRule, subject: ThreatSubject, length: int, most: int) -> None:
    """Raise ValueError unless there is a column of whole numbers up to ``most`` for each m and rule."""
    demand(list(by_rule) == list(map(str, subject.samples)), "a number of draws is missing")
    for rules in by_rule.values():
        demand(list(rules) == subject.rules, "a rule is missing")
        for column in rules.values():
            demand(len(column) == length and max(column) <= most, "an outcome is missing or out of range")


def joined(columns: Iterable[ByRule]) -> ByRule:
    """Return the columns of several blocks, one after the other."""
    whole: ByRule = {}
    for by_rule in columns:
        for m, rules in by_rule.items():
            for rule, column in rules.items():
                whole.setdefault(m, {}).setdefault(rule, []).extend(column)
    return whole


def summed(columns: Sequence[ByRule]) -> ByRule:
    """Return the sum of columns of one length, entry by entry."""
    first = columns[0]
    return {
        m: {rule: [sum(entries) for entries in zip(*(one[m][rule] for one in columns), strict=True)] for rule in rules}
        for m, rules in first.items()
    }


def put(by_rule: ByRule, samples: int, rule: Rule, column: Tensor) -> None:
    """Enter a column (N,) of whole numbers or of truth values."""
    by_rule.setdefault(str(samples), {})[rule] = column.long().tolist()
