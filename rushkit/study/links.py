"""What each stage of a study starts from, and an order in which the stages can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rushkit.errors import did_you_mean, first_few, shorten
from rushkit.study.job import Role, Stage
from rushkit.study.load import Problems, Row, Study
from rushkit.study.stages import MEASURING, FinetuneAsked, PretrainAsked, StageAsked

# Row and stage, by label.
Place = tuple[str, str]


@dataclass(frozen=True)
class Links:
    """What a stage starts from.

    Attributes:
        stages: Role -> the stage of the study that makes it.
        outside: Whether it starts from the run or the checkpoint that its row names.
    """

    stages: Mapping[Role, Place]
    outside: bool = False


def link(study: Study, problems: Problems) -> dict[Place, Links]:
    """Return what each stage starts from, each stage after those; what is wrong is noted, and left out."""
    linked: dict[Place, Links] = {}
    for row in study.rows.values():
        for label in row.stages:
            links = _links(study, row, label, problems)
            if links is not None:
                linked[row.asked.label, label] = links
    return _ordered(study, linked, problems)


def _links(study: Study, row: Row, label: str, problems: Problems) -> Links | None:
    """Return what one stage starts from; None after noting why nothing does."""
    asked, key = row.stages[label], row.keys[label]
    stages: dict[Role, Place] = {}
    for role, word, named, takes in _asked(asked):
        found = _named(study, row, named, takes)
        if isinstance(found, str):
            problems.add(f"{key}.{word}", found)
            return None
        stages[role] = found
    if asked.source:
        return Links(stages)
    if isinstance(asked, PretrainAsked):
        if row.asked.recipe is None:
            problems.add(key, f"the row {shorten(row.asked.label)!r} names no recipe to pre-train")
            return None
        return Links(stages)
    before = _before(row, label, asked)
    if before is not None:
        return Links({**stages, "model": (row.asked.label, before)})
    if row.asked.model is not None and asked.do not in MEASURING:
        problems.add(key, f"{asked.do} takes a model that rushkit trained; code goes through {', '.join(MEASURING)}")
        return None
    if any(origin is not None for origin in (row.asked.run, row.asked.checkpoint, row.asked.model)):
        return Links(stages, outside=True)
    if isinstance(asked, FinetuneAsked) and row.asked.recipe is not None:
        # From random weights.
        return Links(stages)
    problems.add(
        key,
        f"{asked.do} has no model: no stage of {' or '.join(asked.TAKES)} comes before it in the row "
        f"{shorten(row.asked.label)!r}, which names no run, checkpoint or model",
    )
    return None


def _asked(asked: StageAsked) -> Iterator[tuple[Role, str, str, tuple[Stage, ...]]]:
    """Yield role, key and value of each stage that another one names, and the commands that it may be of."""
    if asked.source:
        yield "model", "from", asked.source, asked.TAKES
    if labels := getattr(asked, "labels", ""):
        yield "labels", "labels", labels, ("cluster",)
    if baseline := getattr(asked, "baseline", ""):
        yield "baseline", "baseline", baseline, ("evaluate",)


def _before(row: Row, label: str, asked: StageAsked) -> str | None:
    """Return the last stage before one in its row that makes what it takes by itself, best of all its first choice."""
    labels = list(row.stages)
    earlier = labels[: labels.index(label)]
    # A classifier is an encoder for another fine-tuning only if it is named.
    choices = asked.TAKES[:1] if isinstance(asked, FinetuneAsked) else asked.TAKES
    for stage in choices:
        found = [name for name in earlier if row.stages[name].do == stage]
        if found:
            return found[-1]
    return None


def _named(study: Study, row: Row, named: str, takes: tuple[Stage, ...]) -> Place | str:
    """Return the stage that ``from``, ``labels`` or ``baseline`` names, or what is wrong with it."""
    other, slash, label = named.rpartition("/")
    if not slash:
        other = row.asked.label
    if other not in study.rows:
        near = did_you_mean(other, study.rows, most=1)
        return f"no row {shorten(other)!r}; {near or f'there are: {first_few(list(study.rows))}'}"
    stages = study.rows[other].stages
    if label not in stages:
        near = did_you_mean(label, stages, most=1) or f"there are: {first_few(list(stages), 8)}"
        elsewhere = "" if slash else "; ROW/STAGE names a stage of another row"
        return f"the row {shorten(other)!r} has no stage {shorten(label)!r}; {near}{elsewhere}"
    if stages[label].do not in takes:
        return f"{shorten(named)!r} is a stage of {stages[label].do}; this takes one of {' or '.join(takes)}"
    if missing := [str(seed) for seed in row.seeds if seed not in study.rows[other].seeds]:
        return f"the row {shorten(other)!r} does not run with the seed {first_few(missing)}"
    return other, label


def _ordered(study: Study, linked: Mapping[Place, Links], problems: Problems) -> dict[Place, Links]:
    """Return the stages, each after those that it starts from; a stage in a cycle is noted, and left out."""
    ordered: dict[Place, Links] = {}
    for start in linked:
        waiting = [start]
        while waiting:
            place = waiting[-1]
            needs = [need for need in _needs(linked, place) if need not in ordered]
            if place in ordered or not needs:
                waiting.pop()
                # A stage whose parent is wrong is left out with it.
                if all(need in ordered for need in _needs(linked, place)):
                    ordered[place] = linked[place]
            elif needs[0] not in linked:
                waiting.pop()
            elif needs[0] in waiting:
                circle = [*waiting[waiting.index(needs[0]) :], needs[0]]
                row, label = place
                words = " -> ".join("/".join(step) for step in circle)
                problems.add(f"{study.rows[row].keys[label]}.from", f"stages wait for each other: {shorten(words)}")
                return ordered
            else:
                waiting.append(needs[0])
    return ordered


def _needs(linked: Mapping[Place, Links], place: Place) -> Iterator[Place]:
    yield from linked[place].stages.values()
