"""Robust accuracy under attack, protocol by protocol, with what every image did.

Attacks run on blocks of images, and each block's outcome goes to the run folder as soon as it is there: a stopped
attack goes on where it was. Several ranks deal the blocks out among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rushkit.attacks.scoring import RULES
from rushkit.distributed import ranks
from rushkit.errors import RushkitError, UsageError
from rushkit.files import plain_json
from rushkit.models.passes import MOST
from rushkit.noises import is_deterministic
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Attack, Recipe
from rushkit.results.attacks import AttackRow, Attacks, Candidate, FailedAttack
from rushkit.results.intervals import attack_outcomes, contributions_of, figures_by_rule
from rushkit.results.logs import AttackBlock, AttackSubject
from rushkit.results.notes import Note
from rushkit.robustness.block import Block, attack_block
from rushkit.robustness.deviations import ProtocolName, deviation_words
from rushkit.robustness.failures import Failures, is_of_attack
from rushkit.robustness.log_checks import check_attack
from rushkit.robustness.protocols import Plan, plan_attack, protocol_votes
from rushkit.robustness.saved_images import SavedImages
from rushkit.robustness.transfer import Target, transfer_target, transferred
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.partial import Partials
from rushkit.run.speaker import Speaker
from rushkit.setup.components import build_noise, size_note
from rushkit.setup.model import load_classifier
from rushkit.setup.resumable import ItemFailed, Made, SharedLog, resumable
from rushkit.setup.start import machine_of, run_or_new
from rushkit.setup.subject import Subject


@dataclass(frozen=True)
class Job:
    """One attack under one protocol against votes of m draws.

    Attributes:
        name: The name of its files in the run folder.
        section: What the recipe says of the attack.
        m: Draws a vote.
        plan: What the protocol does.
    """

    name: str
    section: Attack
    m: int
    plan: Plan

    def failed(self, error: RushkitError) -> FailedAttack:
        """The row of an attack that raised an error."""
        return FailedAttack(
            attack=self.section.type,
            norm=self.section.norm,
            eps=self.section.eps,
            protocol=self.plan.label,
            samples=self.m,
            message=error.message,
            hint=error.hint,
        )


def attack(
    recipe: Recipe,
    source: Checkpoint,
    run: Run | None = None,
    protocols: Sequence[ProtocolName] = ("paper", "strict"),
    save: bool = False,
    transfer: Checkpoint | None = None,
) -> Attacks:
    """Attack a fine-tuned model by every ``[[attack]]`` of the recipe, under each m and protocol.

    Example::

        results = attack(load_recipe("cifar10"), open_checkpoint("cifar10", "finetune"))
        for row in results.attacks:
            print(row.attack, row.protocol, row.samples, row.rules["majority"].accuracy)

    An attack that raises is left out: ``failed`` says which and why, and the others run. In this run it is not tried
    again. Where no attack is left, its error is raised.

    Args:
        recipe: Sections data, noise, attack, system.
        source: A fine-tuned checkpoint.
        run: Takes outcomes and results; one that was stopped goes on. None: a new one.
        protocols: Which of ``paper`` and ``strict``.
        save: Keep the adversarial images in the folder ``adversarial`` of the run.
        transfer: Another fine-tuned checkpoint, which is queried about the same images under its own noise.

    Returns:
        What results.json holds: ``attacks``, one row for each attack, protocol and m, with every image's outcome.

    Raises:
        UsageError: attacks that cannot run; all of them are named before the first one runs.
        Interrupted: a signal asked to stop; what is done is kept.
    """
    with run_or_new(run, "attack", recipe, source.path) as run:
        machine = machine_of(recipe)
        classifier = load_classifier(source, machine)
        target = None
        if transfer is not None:
            target = transfer_target(transfer, classifier, machine, recipe.system.chunk)
        jobs = plan_jobs(recipe, classifier.classes, protocols, classifier.image_size)
        # Ranks load the splits in one order.
        subjects = {
            name: Subject.of(recipe, classifier, machine, split=name)
            for name in dict.fromkeys(job.section.split for job in jobs)
        }
        # A block seeds its draws by its place: a resumed run keeps the size that it began with, whatever a pass holds.
        run.update(block=run.about.block or recipe.system.chunk or MOST[machine.device.type])
        rows: list[AttackRow] = []
        failures = Failures(run)
        for job in jobs:
            if failures.known(job.name):
                continue
            subject = subjects[job.section.split].limited(job.section.limit)
            saved = SavedImages(run, job.name) if save or target else None
            try:
                row = run_job(job, recipe, subject, run, saved)
            except ItemFailed as failure:
                failures.add(job.name, job.failed(failure), failure)
                if saved is not None and run.writes:
                    saved.drop()
                continue
            if saved is not None:
                row = with_saved_images(row, job, recipe, subject, run, saved, target)
            rows.append(row)
        if not rows:
            failures.raise_first()
        results = Attacks(
            recipe=recipe.name,
            source=str(source.path),
            data=recipe.data.name,
            noise=recipe.noise,
            attacks=rows,
            failed=failures.rows,
        )
        return run.write_results(results)


def plan_jobs(
    recipe: Recipe, classes: Sequence[str], protocols: Sequence[ProtocolName], image_size: int | None = None
) -> list[Job]:
    """The jobs that the recipe's attacks come to.

    Raises:
        UsageError: an attack, norm or option that does not fit, or too few classes; all such attacks are named.
    """
    jobs: list[Job] = []
    problems: dict[int, RushkitError] = {}
    # Without noise every m is the same classifier.
    deterministic = is_deterministic(build_noise(recipe))
    for number, section in enumerate(recipe.attack):
        for m in [1] if deterministic else sorted(set(section.samples)):
            for protocol in protocols:
                try:
                    plan = plan_attack(
                        section, protocol, m, len(classes), recipe.system.seed, deterministic, image_size
                    )
                except RushkitError as error:
                    problems.setdefault(number, error)
                    continue
                name = f"{number}-{section.type}-{section.norm}-{section.eps:.6g}-{plan.label}-m{m}".replace("/", "_")
                jobs.append(Job(name, section, m, plan))
    if len(recipe.attack) == 1 and problems:
        raise problems[0]
    if problems:
        sentences = [
            f"attack.{number} ({recipe.attack[number].type}): {problem.message}" for number, problem in problems.items()
        ]
        hints = dict.fromkeys(problem.hint for problem in problems.values() if problem.hint)
        raise UsageError(
            f"{len(sentences)} of {len(recipe.attack)} attacks cannot run: {'; '.join(sentences)}", "; ".join(hints)
        )
    return jobs


def run_job(job: Job, recipe: Recipe, subject: Subject, run: Run, saved: SavedImages | None = None) -> AttackRow:
    """Attack the images of a subject block by block, from where an earlier session stopped, and sum up.

    Raises:
        Interrupted: a signal asked to stop.
        ItemFailed: the attack raised, on some rank.
        RushkitError: the run has outcomes about another model, data set, radius or attack.
    """
    section, plan, g = job.section, job.plan, subject.smoothed(job.m)
    size = max(1, (run.about.block or 1) // plan.gradient_samples)
    fingerprint = _fingerprint(job, recipe, subject, size).to_table()
    check = partial(check_attack, labels=subject.labels.tolist(), candidates=len(plan.candidates))
    log = SharedLog(run, f"{job.name}.jsonl", fingerprint, check)
    partials = Partials(run.subfolder("counts"), job.name, fingerprint)
    if run.writes:
        partials.clear(log.done)
        if saved is not None:
            saved.resume(log.done)
    notes = _announce(job, subject, run.speaker)
    announced: list[Note] = [*notes]

    def make(start: int) -> Made:
        block = Block(start, *subject.batch(slice(start, start + size)))
        part = partials.of(start)
        record, x_adv = attack_block(g, plan, section, block, recipe.system.seed, part, work.pause)
        if saved is None:
            return Made(record.to_table())
        return Made(record.to_table(), partial(saved.keep, start, x_adv, block.y))

    def kept(done: int) -> str:
        return f"the outcomes of {done} of {len(subject)} images under {job.name} are kept"

    with resumable(
        run,
        log,
        verb="attack",
        label=f"{section.type} {plan.label} m={job.m}",
        unit="images",
        total=len(subject),
        kept=kept,
        notice="stopping after this part of the attack",
    ) as work:
        try:
            # What is known of a block never depends on the rank that attacked it.
            for line in work.in_rounds(range(log.done, len(subject), size), make, fails=is_of_attack):
                _announce_new(AttackBlock(**line), announced, run.speaker)
                if run.writes:
                    partials.clear(log.done)
        except ItemFailed:
            if run.writes:
                partials.clear(len(subject))
            raise
    return _row(job, recipe, subject, [AttackBlock(**line) for line in log.lines], notes)


def with_saved_images(
    row: AttackRow, job: Job, recipe: Recipe, subject: Subject, run: Run, saved: SavedImages, target: Target | None
) -> AttackRow:
    """Put the adversarial images of a job into one file, query the other model about them, and note both in its row."""
    if run.writes:
        about = row.model_dump(include={"attack", "norm", "eps", "protocol", "samples"})
        saved.assemble({**about, "data": subject.split.name})
    ranks.wait()
    row = row.with_changes(saved=str(saved.path.relative_to(run.path)))
    if target is None:
        return row
    m, votes = _votes_of(target, job)
    transfer = transferred(run, job.name, saved, subject.split.images, target, m, votes, recipe.system.seed)
    return row.with_changes(transfer=transfer)


def _row(job: Job, recipe: Recipe, subject: Subject, blocks: list[AttackBlock], stated: list[Note]) -> AttackRow:
    plan, outcomes = job.plan, attack_outcomes(blocks, subject.indices.tolist())
    notes: list[Note] = [*stated]
    for note in (note for block in blocks for note in block.notes):
        if note not in notes:
            notes.append(note)
    candidates = [
        Candidate(label=candidate.label, options=plain_json(candidate.options, candidate.label))  # type: ignore[arg-type]
        for candidate in plan.candidates
    ]
    return AttackRow(
        split=f"{recipe.data.name}/{job.section.split}",
        attack=job.section.type,
        norm=job.section.norm,
        eps=job.section.eps,
        protocol=plan.label,
        samples=job.m,
        deviations=list(plan.deviations),
        votes=plan.votes,
        gradient_samples=plan.gradient_samples,
        candidates=candidates,
        images=len(outcomes.images),
        rules=figures_by_rule(outcomes, plan.votes),
        outcomes=outcomes,
        seconds=sum(block.seconds for block in blocks),
        image_forwards=sum(block.image_forwards for block in blocks),
        image_backwards=sum(block.image_backwards for block in blocks),
        contributions=contributions_of(blocks),
        notes=notes,
    )


def _announce_new(block: AttackBlock, announced: list[Note], speaker: Speaker) -> None:
    """Announce the notes of a block that were not announced before."""
    for note in block.notes:
        if note not in announced:
            announced.append(note)
            speaker.say(f"note: {note.text}")


def _votes_of(target: Target, job: Job) -> tuple[int, int]:
    """Draws a vote, and votes, that the other model is queried with: those of the attack, as long as these have noise.

    Without noise one draw says all; the other model is not to be judged by a single one.
    """
    if job.plan.deterministic and not target.deterministic:
        return max(target.classifier.recipe.evaluate.samples), protocol_votes(job.plan.protocol)
    return job.m, job.plan.votes


def _fingerprint(job: Job, recipe: Recipe, subject: Subject, size: int) -> AttackSubject:
    """What the outcomes of a job depend on: the work goes on only where none of it has changed."""
    plan = [[candidate.name, plain_json(candidate.options, job.name)] for candidate in job.plan.candidates]
    return AttackSubject(
        model=subject.classifier.checkpoint.hash,
        precision=subject.machine.precision,
        data=subject.split.name,
        images=len(subject),
        content=subject.fingerprint(),
        noise=recipe.noise,
        plan=plan,
        norm=job.section.norm,
        eps=job.section.eps,
        samples=job.m,
        gradient_samples=job.plan.gradient_samples,
        votes=job.plan.votes,
        worst_by=list(RULES),
        block=size,
        seed=recipe.system.seed,
    )


def _announce(job: Job, subject: Subject, speaker: Speaker) -> list[Note]:
    """Say what a job is about to do; returns the notes that hold before it begins."""
    section, plan, split = job.section, job.plan, subject.split
    labels = ", ".join(candidate.label for candidate in plan.candidates)
    times = "one vote" if plan.votes == 1 else f"{plan.votes} votes"
    speaker.say(
        f"attack {section.type} {ball_words(section.norm, section.eps)}, protocol {plan.label}, m = {job.m}: {labels}; "
        f"{plan.gradient_samples} draws a gradient; {times} of fresh noise on {len(split)} images of {split.name}; "
        f"{subject.machine}"
    )
    if plan.deviations:
        words = deviation_words(plan.label, plan.deviations)
        speaker.say(f"note: not the protocol's own settings: {words}")
    notes = list(plan.notes)
    if resized := size_note(split):
        notes.append(Note(code="resized", text=resized))
    for note in notes:
        speaker.say(f"note: {note.text}")
    return notes
