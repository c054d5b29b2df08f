"""Robust accuracy under attack, protocol by protocol, with what every image did.

Attacks run on blocks of images, and each block's outcome goes to the run folder as soon as it is there: a stopped
attack goes on where it was. Several ranks deal the blocks out among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch

from rushkit.attacks.scoring import RULES
from rushkit.data.memory import Split, limit, limit_indices
from rushkit.distributed import ranks
from rushkit.errors import Interrupted, RushkitError, UsageError, shell_line
from rushkit.files import plain_json
from rushkit.models.passes import MOST
from rushkit.noises import is_deterministic
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Attack, Recipe
from rushkit.results.attacks import FailedAttack
from rushkit.results.intervals import robustness_row
from rushkit.robustness.block import Block, attack_block
from rushkit.robustness.deviations import ProtocolName, deviation_words
from rushkit.robustness.failures import AttackFailed, Failures, failure_anywhere, is_of_attack
from rushkit.robustness.log_checks import check_attack
from rushkit.robustness.protocols import Plan, plan_attack, protocol_votes
from rushkit.robustness.saved_images import Album
from rushkit.robustness.transfer import Target, rescore, transfer_target
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.log import BlockLog
from rushkit.run.partial import Partials
from rushkit.run.signals import graceful_stop
from rushkit.setup import components
from rushkit.setup.model import Classifier, load_classifier
from rushkit.setup.start import machine_of, start_run
from rushkit.setup.subject import check_classes, check_images, fingerprint_of, labels_of, smoothed
from rushkit.system import Machine


@dataclass(frozen=True)
class Job:
    """One attack under one protocol against votes of m draws.

    Attributes:
        name: Of its files in the run folder.
        section: What the recipe says of the attack.
        m: Draws a vote.
        plan: What the protocol does.
    """

    name: str
    section: Attack
    m: int
    plan: Plan


def attack(
    recipe: Recipe,
    source: Checkpoint,
    run: Run | None = None,
    protocols: Sequence[ProtocolName] = ("paper", "strict"),
    save: bool = False,
    transfer: Checkpoint | None = None,
) -> dict[str, Any]:
    """Attack a fine-tuned model by every ``[[attack]]`` of the recipe, under each m and protocol.

    Args:
        recipe: Sections data, noise, attack, system.
        source: A fine-tuned checkpoint.
        run: Takes outcomes and results; one that was stopped goes on. None: a new one.
        protocols: Which of ``paper`` and ``strict``.
        save: Keep the adversarial images in the folder ``adversarial`` of the run.
        transfer: Another fine-tuned checkpoint, which is asked about the same images under its own noise.

    Returns:
        What results.json holds: ``attacks``, one row for each attack, protocol and m, with every image's outcome.

    An attack that raises is left out: ``failed`` says which and why, and the others run. In this run it is not tried
    again. Where no attack is left, its error is raised.

    Raises:
        UsageError: attacks that cannot run; all of them are named before the first one runs.
        Interrupted: a signal asked to stop; what is done is kept.
    """
    if run is None:
        with start_run("attack", recipe, parent=str(source.path)) as run:
            return attack(recipe, source, run, protocols, save, transfer)
    machine = machine_of(recipe)
    classifier = load_classifier(source, machine)
    target = None
    if transfer is not None:
        target = transfer_target(transfer, classifier, machine, recipe.system.chunk)
    dataset = components.build_dataset(recipe)
    check_classes(recipe.data.name, dataset.classes, classifier.classes)
    jobs = plan_jobs(recipe, classifier.classes, protocols, classifier.image_size)
    # Ranks load them in one order.
    splits = {
        name: components.load_split(recipe, dataset, name) for name in dict.fromkeys(job.section.split for job in jobs)
    }
    # A block seeds its draws by its place: a resumed run keeps the size that it began with, whatever a pass holds now.
    run.update(block=run.about.block or recipe.system.chunk or MOST[machine.device.type])
    for split in splits.values():
        labels_of(split, len(classifier.classes))
        check_images(split, classifier.image_size)
    rows: list[dict[str, Any]] = []
    failures = Failures(run)
    for job in jobs:
        split = limit(splits[job.section.split], job.section.limit)
        album = Album(run, job.name) if save or target else None
        if failures.known(job.name):
            continue
        try:
            rows.append(run_job(job, recipe, classifier, split, run, machine, album))
            places = limit_indices(len(splits[job.section.split]), job.section.limit)
            rows[-1]["outcomes"]["indices"] = list(range(len(split))) if places is None else places.tolist()
        except AttackFailed as failure:
            failed = FailedAttack(**_about(job), message=failure.message, hint=failure.hint)
            failures.add(job.name, failed, failure)
            if album is not None and run.writes:
                album.drop()
            continue
        if album is not None:
            meta = {key: rows[-1][key] for key in ("attack", "norm", "eps", "protocol", "samples")}
            if run.writes:
                album.assemble(meta | {"data": split.name})
            ranks.wait()
            rows[-1]["saved"] = str(album.path.relative_to(run.path))
        if album is not None and target is not None:
            asked = run, job.name, album, split.images, target, *_votes_of(target, job), recipe.system.seed
            rows[-1]["transfer"] = rescore(*asked)
    results = {
        "stage": "attack",
        "recipe": recipe.name,
        "source": str(source.path),
        "data": recipe.data.name,
        "noise": recipe.noise.model_dump(),
        "attacks": rows,
        "failed": [failed.to_table() for failed in failures.attacks],
    }
    if not rows:
        failures.raise_first()
    return run.write_results(results)


def plan_jobs(
    recipe: Recipe, classes: Sequence[str], protocols: Sequence[ProtocolName], image_size: int | None = None
) -> list[Job]:
    """What the recipe's attacks come to.

    Raises:
        UsageError: an attack, norm or option that does not fit, or too few classes; all such attacks are named.
    """
    jobs: list[Job] = []
    problems: dict[int, RushkitError] = {}
    # Without noise every m is the same classifier.
    deterministic = is_deterministic(components.build_noise(recipe))
    for number, section in enumerate(recipe.attack):
        for m in [1] if deterministic else sorted(set(section.samples)):
            for protocol in protocols:
                about = section, protocol, m, len(classes), recipe.system.seed, deterministic, image_size
                try:
                    plan = plan_attack(*about)
                except RushkitError as error:
                    problems.setdefault(number, error)
                    continue
                name = f"{number}-{section.type}-{section.norm}-{section.eps:.6g}-{plan.label}-m{m}".replace("/", "_")
                jobs.append(Job(name, section, m, plan))
    if len(recipe.attack) == 1 and problems:
        raise problems[0]
    if problems:
        said = [f"attack.{number} ({recipe.attack[number].type}): {each.message}" for number, each in problems.items()]
        hints = dict.fromkeys(each.hint for each in problems.values() if each.hint)
        raise UsageError(f"{len(said)} of {len(recipe.attack)} attacks cannot run: {'; '.join(said)}", "; ".join(hints))
    return jobs


def run_job(
    job: Job,
    recipe: Recipe,
    classifier: Classifier,
    split: Split,
    run: Run,
    machine: Machine,
    album: Album | None = None,
) -> dict[str, Any]:
    """Attack a split block by block, from where an earlier session stopped, and sum up.

    Raises:
        Interrupted: a signal asked to stop.
        AttackFailed: the attack raised, on some rank.
        RushkitError: the run has outcomes about another model, data set, radius or attack.
    """
    section, plan = job.section, job.plan
    g = smoothed(
        classifier.network, components.build_noise(recipe), job.m, classifier.chunk(recipe.system.chunk), machine
    )
    size = max(1, (run.about.block or 1) // plan.gradient_samples)
    subject = _subject(job, recipe, classifier.checkpoint, split, size, machine.precision)
    folder = run.subfolder("counts")
    assert split.labels is not None
    check = partial(check_attack, labels=split.labels.tolist(), candidates=len(plan.candidates))
    log = BlockLog(folder / f"{job.name}.jsonl", subject, check) if run.writes else None
    records = ranks.broadcast(None if log is None else log.records())
    done = sum(len(record["images"]) for record in records)
    partials = Partials(folder, job.name, subject)
    if log is not None:
        partials.clear(done)
        if album is not None:
            album.resume(done)
    run.speaker.say(_announce(job, split, machine))
    if plan.deviations:
        words = deviation_words(plan.label, [asdict(deviation) for deviation in plan.deviations])
        run.speaker.say(f"note: not the protocol's own settings: {words}")
    stated = [*plan.notes, *filter(None, [components.size_note(split)])]
    noted = set(stated)
    for note in stated:
        run.speaker.say(f"note: {note}")
    with graceful_stop(lambda name: run.speaker.say(f"{name}: stopping after this part of the attack")) as stop:

        def pause() -> None:
            # A sign of life, where a block takes minutes.
            bar.advance(0)
            if stop.requested:
                raise Interrupted(
                    f"stopped; the outcomes of {done} of {len(split)} images under {job.name} are kept",
                    f"go on with: {shell_line('rushkit', 'attack', '--resume', '--run', run.path)}",
                )

        label = f"{section.type} {plan.label} m={job.m}"
        starts = range(done, len(split), size)
        with run.speaker.progress(len(split), label, "images", start=done) as bar:
            # In rounds of a block for each rank; what is known of a block never depends on who attacked it.
            for first in range(0, len(starts), ranks.world()):
                record, stopped, failure = None, None, None
                for start in ranks.own(starts[first : first + ranks.world()]):
                    block = block_of(split, start, size, machine.device)
                    part = partials.of(start)
                    try:
                        record, x_adv = attack_block(g, plan, section, block, recipe.system.seed, part, pause)
                    except Interrupted as interruption:
                        stopped = interruption
                    except Exception as error:
                        if not is_of_attack(error):
                            raise
                        failure = error
                # Outcomes are kept in order: those behind a rank that was stopped are lost.
                found = list(takewhile(bool, ranks.gather(record)))
                if album is not None and record and ranks.rank() < len(found):
                    album.keep(block.start, x_adv, block.y)
                ranks.wait()
                for outcome in found:
                    if log is not None:
                        log.append(outcome)
                    records.append(outcome)
                    done += len(outcome["images"])
                    bar.advance(len(outcome["images"]))
                    for note in (note for note in outcome["notes"] if note not in noted):
                        noted.add(note)
                        run.speaker.say(f"note: {note}")
                if log is not None:
                    partials.clear(done)
                if ranks.any_rank(stopped is not None or stop.requested):
                    stop.requested = True
                    pause()
                if (failed := failure_anywhere(failure)) is not None:
                    if log is not None:
                        partials.clear(len(split))
                    raise failed from failure
    row = robustness_row(records, plan.votes)
    row["notes"] = [*stated, *(note for note in row["notes"] if note not in stated)]
    return {
        "split": f"{recipe.data.name}/{section.split}",
        **_about(job),
        "deviations": [asdict(deviation) for deviation in plan.deviations],
        "votes": plan.votes,
        "gradient_samples": plan.gradient_samples,
        "candidates": [{"label": candidate.label, "options": candidate.options} for candidate in plan.candidates],
        **row,
    }


def _about(job: Job) -> dict[str, Any]:
    section = job.section
    ball = {"attack": section.type, "norm": section.norm, "eps": section.eps}
    return {**ball, "protocol": job.plan.label, "samples": job.m}


def _votes_of(target: Target, job: Job) -> tuple[int, int]:
    """Draws a vote, and votes, with which another model is asked: the attack's own, as long as these are of noise."""
    if job.plan.deterministic and not target.deterministic:
        # Without noise one draw says all; the other model is not to be judged by a single one.
        return max(target.classifier.recipe.evaluate.samples), protocol_votes(job.plan.protocol)
    return job.m, job.plan.votes


def block_of(split: Split, start: int, size: int, device: torch.device) -> Block:
    """The ``size`` images from index ``start`` on, or as many as there are."""
    assert split.labels is not None
    images, labels = split.images[start : start + size], split.labels[start : start + size]
    return Block(start, components.to_float(images.to(device)), labels.to(device))


def _subject(job: Job, recipe: Recipe, source: Checkpoint, split: Split, size: int, precision: str) -> dict[str, Any]:
    """What the outcomes of a job depend on: the work goes on only where none of it has changed."""
    return plain_json(  # type: ignore[return-value]
        {
            "model": source.hash,
            "precision": precision,
            "data": split.name,
            "images": len(split),
            "content": fingerprint_of(split),
            "noise": recipe.noise.model_dump(),
            "plan": [[candidate.name, candidate.options] for candidate in job.plan.candidates],
            "norm": job.section.norm,
            "eps": job.section.eps,
            "samples": job.m,
            "gradient samples": job.plan.gradient_samples,
            "votes": job.plan.votes,
            "worst by": list(RULES),
            "block": size,
            "seed": recipe.system.seed,
        },
        job.name,
    )


def _announce(job: Job, split: Split, machine: Machine) -> str:
    section, plan = job.section, job.plan
    labels = ", ".join(candidate.label for candidate in plan.candidates)
    times = "one vote" if plan.votes == 1 else f"{plan.votes} votes"
    ball = ball_words(section.norm, section.eps)
    return (
        f"attack {section.type} {ball}, protocol {plan.label}, m = {job.m}: {labels}; "
        f"{plan.gradient_samples} draws a gradient; {times} of fresh noise on {len(split)} images of {split.name}; "
        f"{machine}"
    )
