"""Measure the smallest distance that breaks each image, block by block, and record it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from rushkit.distributed import ranks
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Attack, Recipe
from rushkit.results.attacks import VERSIONS
from rushkit.results.distances import DistanceBlock, Distances, SmallestRow
from rushkit.results.logs import AttackSubject
from rushkit.results.notes import merged
from rushkit.results.quantiles import quartiles
from rushkit.robustness.block import Block
from rushkit.robustness.failures import is_of_attack
from rushkit.robustness.jobs import Job
from rushkit.robustness.log_checks import check_distances
from rushkit.robustness.nearest import CELLS, nearest
from rushkit.robustness.pace import Pace
from rushkit.robustness.protocols import Plan, plan_attack
from rushkit.run.folder import Run
from rushkit.setup.resumable import Made, SharedLog, resumable
from rushkit.setup.subject import Subject

# Images whose distances are searched together. A stop loses the distances of a block that is not finished.
BLOCK = 16


def smallest_distances(job: Job, recipe: Recipe, subject: Subject, run: Run, about: AttackSubject) -> SmallestRow:
    """Return the smallest distance at which a job's attack breaks each image, continuing an earlier session.

    Args:
        job: The job; its radius is the largest that is tried.
        recipe: The section system is used.
        subject: The model and the images.
        run: The run that distances are written to.
        about: Everything that the outcomes depend on.

    Raises:
        Interrupted: a signal asked to stop; finished blocks are kept.
        ItemFailed: the attack raised an error on some rank.
    """
    section, seed = job.section, recipe.system.seed
    ball = ball_words(section.norm, section.eps)
    run.speaker.say(
        f"attack {section.type}: the smallest {section.norm} distance up to {ball} that breaks each of "
        f"{len(subject)} images, in steps of {section.eps / CELLS:.4g}; protocol {job.plan.label}, m = {job.m}"
    )
    subject_table = about.with_changes(block=BLOCK).to_table()
    check = partial(check_distances, labels=subject.labels.tolist(), eps=section.eps)
    log = SharedLog(run, f"{job.name}.jsonl", subject_table, check)

    def plan_at(here: Attack) -> Plan:
        known = len(subject.classifier.classes), seed, job.plan.deterministic
        plan = replace(plan_attack(here, "strict", job.m, *known), also=job.plan.also)
        return plan.towards(job.plan.target)

    def make(start: int) -> Made:
        rows, started = slice(start, start + BLOCK), time.perf_counter()
        block = Block(start, *subject.batch(rows), subject.indices[rows])
        g, pace = subject.attacked(job.m), Pace(lambda pace: work.pause())
        pace.watch(g)
        with work.stopping():
            found = nearest(g, section, plan_at, block, seed, pace)
        record = DistanceBlock(
            images=list(range(start, start + len(block.x))),
            labels=block.y.tolist(),
            distance=[None if math.isinf(one) else min(one, section.eps) for one in found.distance.tolist()],
            held=[cell * section.eps / CELLS for cell in found.held.tolist()],
            notes=found.notes,
            image_forwards=found.image_forwards,
            image_backwards=found.image_backwards,
            seconds=time.perf_counter() - started,
        )
        return Made(record.to_table())

    def kept(done: int) -> str:
        return f"the distances of {log.images} of {len(subject)} images under {job.name} are kept"

    label = f"{section.type} smallest m={job.m}"
    with resumable(run, log, verb="attack", label=label, unit="images", total=len(subject), kept=kept) as work:
        for _ in work.in_rounds(range(log.images, len(subject), BLOCK), make, fails=is_of_attack):
            pass
    ranks.wait()
    return _row(job, subject, [DistanceBlock(**line) for line in log.lines])


def _row(job: Job, subject: Subject, blocks: Sequence[DistanceBlock]) -> SmallestRow:
    section, plan = job.section, job.plan
    distance = [one for block in blocks for one in block.distance]
    return SmallestRow(
        split=subject.split.name,
        attack=section.type,
        norm=section.norm,
        eps=section.eps,
        target="" if plan.target is None else subject.classifier.classes[plan.target],
        eight_bit=section.eight_bit,
        protocol=plan.label,
        version=VERSIONS[plan.label],
        effort=plan.effort,
        samples=job.m,
        resolution=section.eps / CELLS,
        images=len(distance),
        quantiles=quartiles(distance),
        outcomes=Distances(
            images=[image for block in blocks for image in block.images],
            indices=subject.indices.tolist(),
            labels=[label for block in blocks for label in block.labels],
            distance=distance,
            held=[one for block in blocks for one in block.held],
        ),
        notes=merged([*plan.notes, *(note for block in blocks for note in block.notes)]),
        seconds=sum(block.seconds for block in blocks),
        image_forwards=sum(block.image_forwards for block in blocks),
        image_backwards=sum(block.image_backwards for block in blocks),
    )
