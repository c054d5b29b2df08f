"""A plan as a tree of lines: a row's stages under those that they start from, how they stand, why, and the cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

from rushkit.errors import first_few, shorten
from rushkit.rounding import duration
from rushkit.study.cost import Cost, total
from rushkit.study.plan import Plan
from rushkit.study.state import Standing

# Lines that are printed; --json has every job.
_MOST_LINES = 2000


@dataclass(frozen=True)
class Outlook:
    """A plan, how its jobs stand, and what they cost.

    Attributes:
        plan: The plan.
        standings: Id -> how the job stands.
        costs: Id -> what the job costs, for those that are not done.
    """

    plan: Plan
    standings: Mapping[str, Standing]
    costs: Mapping[str, Cost]

    @cached_property
    def rows(self) -> dict[str, dict[str, dict[int, str]]]:
        """Row -> stage -> seed -> id of the job."""
        rows: dict[str, dict[str, dict[int, str]]] = {row: {} for row in self.plan.rows}
        for cell in self.plan.cells:
            rows.setdefault(cell.row, {}).setdefault(cell.stage, {})[cell.seed] = cell.job
        return rows

    @cached_property
    def names(self) -> dict[str, str]:
        """Id -> the row and the stage of the first cell that the job fills."""
        names: dict[str, str] = {}
        for cell in self.plan.cells:
            names.setdefault(cell.job, f"{shorten(cell.row, 60)}/{cell.stage}")
        return names

    def together(self) -> str:
        """Return what all that is not done costs, one job after another; empty where nothing is left."""
        if not self.costs:
            return ""
        cost, unknown = total(list(self.costs.values()))
        words = [f"to do: {_number(len(self.costs), 'job')}"]
        if cost.passes:
            words.append(f"{_words(cost)}{' on this device, one after another' if cost.seconds else ''}")
        if unknown:
            words.append(
                f"and {_number(unknown, 'job')} whose passes nobody knows in advance, or whose images are not here"
            )
        return ", ".join(words)


def tree(outlook: Outlook) -> list[str]:
    """Return the lines of the tree."""
    lines: list[str] = []
    for row, stages in outlook.rows.items():
        keys = outlook.plan.rows.get(row, ())
        lines.append(f"{shorten(row, 80)}{'' if stages else f': published figures alone ({first_few(keys)})'}")
        lines += _branch(outlook, stages, None, "  ")
    if len(lines) > _MOST_LINES:
        return [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more lines; --json has every job"]
    return lines


def _branch(outlook: Outlook, stages: Mapping[str, Mapping[int, str]], above: str | None, indent: str) -> Iterator[str]:
    """Yield the lines of the stages of a row that start from one of them; None for those that start from none."""
    own = {job for jobs in stages.values() for job in jobs.values()}
    for stage, jobs in stages.items():
        needs = {need for job in jobs.values() for need in outlook.plan.jobs[job].needs}
        if _parent(stages, stage, needs) != above:
            continue
        elsewhere = sorted({outlook.names[need] for need in needs - own})
        source = f" from {first_few(elsewhere)}" if elsewhere else ""
        for state, seeds in _by_state(outlook, jobs).items():
            cost = total([outlook.costs[jobs[seed]] for seed in seeds if jobs[seed] in outlook.costs])[0]
            words = _words(cost)
            those = f"seed{'s' * (len(seeds) > 1)} {first_few(list(map(str, seeds)), 6)}"
            yield f"{indent}{stage}{source}, {those}: {state}{f'; {words}' if words else ''}"
        yield from _branch(outlook, stages, stage, f"{indent}  ")


def _parent(stages: Mapping[str, Mapping[int, str]], stage: str, needs: Set[str]) -> str | None:
    """Return the stage of the same row that a stage starts from; None for none."""
    return next((other for other, jobs in stages.items() if other != stage and needs & set(jobs.values())), None)


def _by_state(outlook: Outlook, jobs: Mapping[int, str]) -> dict[str, list[int]]:
    """Return the seeds of a stage by how their jobs stand, in words."""
    seeds: dict[str, list[int]] = {}
    for seed, job in jobs.items():
        seeds.setdefault(_state(outlook, job), []).append(seed)
    return seeds


def _state(outlook: Outlook, job: str) -> str:
    """Return how a job stands and why it runs or does not."""
    standing = outlook.standings[job]
    stages = {need: outlook.plan.jobs[need].job.stage for need in standing.because}
    those = first_few(sorted(set(stages.values())))
    if standing.state == "done":
        kept = f", kept in {standing.results}" if standing.kept else ""
        other = f" by rushkit {shorten(standing.version, 40)}" if standing.is_of_another_version else ""
        return f"done{kept}{other}"
    why = {
        "ready": "no results yet",
        "waiting": f"for {those}",
        "blocked": f"by {those}",
        "interrupted": "goes on where it stopped",
        "failed": shorten(" ".join(standing.failure.message.split()) if standing.failure else "", 160),
        "running": standing.holder.in_words() if standing.holder else "",
    }[standing.state]
    again = "; its results are kept, and its weights are needed" if standing.again else ""
    return f"{standing.state}: {why}{again}"


def _words(cost: Cost) -> str:
    if not cost.passes:
        return ""
    return f"{_short(cost.passes)} passes" + ("" if cost.seconds is None else f", about {duration(cost.seconds)}")


def _short(number: int) -> str:
    for unit, word in ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{word}"
    return str(number)


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
