"""Measure robust accuracy under attack for each protocol, and record the outcome of every image.

Attacks run on blocks of images. The outcome of each block is written to the run folder as soon as it is known, so a
stopped attack can resume where it was. Several ranks share the blocks between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from rushkit.attacks.abilities import asks_for
from rushkit.attacks.result import no_finite_gradient
from rushkit.attacks.scoring import RULES
from rushkit.attacks.symptoms import IMAGES, symptoms
from rushkit.distributed import ranks
from rushkit.errors import UsageError, shorten
from rushkit.files import plain_json
from rushkit.models.answers import answer_kind
from rushkit.noises import is_deterministic
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Recipe
from rushkit.results.attacks import VERSIONS, AttackRow, Attacks, Candidate, ProtocolName, TargetClass
from rushkit.results.convergence import convergence_of
from rushkit.results.distances import SmallestRow
from rushkit.results.intervals import attack_outcomes, contributions_of, figures_by_rule, rescored_of, unions_of
from rushkit.results.logs import AttackBlock, AttackSubject
from rushkit.results.notes import Note, merged
from rushkit.robustness.block import CLEAN, Block, attack_block
from rushkit.robustness.deviations import settings_line
from rushkit.robustness.export_images import export_images
from rushkit.robustness.failures import Failures, is_of_attack
from rushkit.robustness.jobs import Job, check_keeping, plan_jobs, with_own_attacks
from rushkit.robustness.log_checks import check_attack, check_version
from rushkit.robustness.meter import Meter, announcement, expected_passes, passes_a_second
from rushkit.robustness.pace import Pace
from rushkit.robustness.protocols import further_samples, protocol_votes
from rushkit.robustness.saved_images import CONTENT, SavedImages
from rushkit.robustness.smallest import smallest_distances
from rushkit.robustness.surrogates import compared, surrogates_of
from rushkit.robustness.transfer import Target, transfer_target, transferred
from rushkit.rounding import counted
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.partial import Partials
from rushkit.run.speaker import Speaker
from rushkit.setup.components import data_name, size_note
from rushkit.setup.model import Classifier, load_classifier
from rushkit.setup.resumable import ItemFailed, Made, SharedLog, resumable
from rushkit.setup.start import machine_of_run, run_or_new
from rushkit.setup.subject import Subject

# Images that are attacked together. Their number is the same on every machine, because an attack of another library may
# draw for all of them at once.
BLOCK = 64
# Notes that name images which gave an attack nothing finite to go by.
_SILENT = "gradient-not-finite", "logits-not-finite"


def attack(
    recipe: Recipe,
    source: Checkpoint,
    run: Run | None = None,
    protocols: Sequence[ProtocolName] = ("paper", "strict"),
    save: bool = False,
    transfer: Checkpoint | None = None,
    export: Path | None = None,
) -> Attacks:
    """Attack a fine-tuned model with every ``[[attack]]`` of the recipe, for each m and protocol.

    Example::

        results = attack(load_recipe("cifar10"), open_checkpoint("cifar10", "finetune"))
        for row in results.attacks:
            print(row.attack, row.protocol, row.samples, row.rules["majority"].accuracy)

    If an attack raises an error, ``failed`` records it and the other attacks run; resuming the run does not retry it.
    If every attack fails, the first error is raised.

    Args:
        recipe: The sections data, noise, attack and system are used.
        source: A fine-tuned checkpoint.
        run: The run that outcomes and results are written to; a stopped run is resumed. None starts a new one.
        protocols: Any of ``paper``, ``strict`` and ``published``; the last runs every ``[[published]]`` of the recipe.
        save: Whether to keep the adversarial images in the run's folder ``adversarial``.
        transfer: Another fine-tuned checkpoint, which is queried about the same images under its own noise.
        export: The folder that original and attacked images are written to as PNG files, a folder for each job; the
            attacks must be ``eight_bit``.

    Returns:
        The contents of results.json, where ``attacks`` has one row for each attack, protocol and m, with the outcome of
        every image.

    Raises:
        UsageError: some attacks cannot run; the message names all of them, before any attack starts.
        Interrupted: a signal asked to stop; finished work is kept.
    """
    with run_or_new(run, "attack", recipe, source) as run:
        machine = machine_of_run(recipe, run)
        classifier = load_classifier(source, machine)
        target = None
        if transfer is not None:
            target = transfer_target(transfer, classifier, machine, recipe.system.chunk)
        answers = answer_kind(classifier.network)
        jobs = plan_jobs(recipe, classifier.classes, protocols, classifier.image_size, classifier.random, answers)
        check_keeping(jobs, save, transfer is not None, export is not None)
        jobs, surrogates = with_own_attacks(jobs), surrogates_of(jobs, classifier)
        # All ranks must load the splits in the same order.
        subjects = {
            images: Subject.of(recipe, classifier, machine, split=images.split, limit=images.limit, skip=images.skip)
            for images in dict.fromkeys(job.images for job in jobs)
        }
        # Larger balls start from the versions found in smaller ones.
        started_from = {job.smaller for job in jobs}
        rows: list[AttackRow] = []
        distances: list[SmallestRow] = []
        failures = Failures(run)
        for job in jobs:
            if failures.known(job.name):
                continue
            if failures.known(job.smaller):
                job = job.alone()
            subject = _attacked_images(subjects[job.images], job)
            subject = replace(subject, surrogate=surrogates.get(job.section.surrogate))
            if job.section.smallest:
                try:
                    about = _fingerprint(job, recipe, subject)
                    distances.append(smallest_distances(job, recipe, subject, run, about))
                except ItemFailed as failure:
                    failures.add(job.name, job.failed(failure), failure)
                continue
            saved = SavedImages(run, job.name) if save or target or export or job.name in started_from else None
            try:
                row = run_job(job, recipe, subject, run, saved)
            except ItemFailed as failure:
                failures.add(job.name, job.failed(failure), failure)
                if saved is not None and run.writes:
                    saved.drop()
                continue
            if saved is not None:
                row = with_saved_images(row, job, recipe, subject, run, saved, target)
            if saved is not None and export is not None and run.writes:
                write_images(export / job.name, subject, saved)
            rows.append(row)
        if not rows and not distances:
            failures.raise_first()
        return run.write_results(_results(recipe, classifier, rows, distances, failures))


def _results(
    recipe: Recipe, classifier: Classifier, rows: list[AttackRow], distances: list[SmallestRow], failures: Failures
) -> Attacks:
    """Return the contents of results.json; rows of targeted attacks stand apart."""
    attacks = [row for row in rows if row.target is None]
    return Attacks(
        recipe=recipe.name,
        source=str(classifier.checkpoint.path),
        data=data_name(recipe),
        noise=recipe.noise,
        classes=list(classifier.classes) if rows else [],
        attacks=attacks,
        targeted=[row for row in rows if row.target is not None],
        smallest=distances,
        failed=failures.rows,
        unions=unions_of(attacks, failures.rows),
    )


def _attacked_images(subject: Subject, job: Job) -> Subject:
    """Return the subject with the images that a job attacks: those that are not of its target's class.

    Args:
        recipe: The sections noise and attack are used.
        classes: Names of the model's classes.
        protocols: The protocols to run.
        image_size: Side of the images; None if it is not known.
        random: Whether the model is random by itself, so that draws differ without noise too.

    Raises:
        UsageError: every one of them is of the target's class.
    """
    if job.plan.target is None:
        return subject
    places = (subject.labels != job.plan.target).nonzero().squeeze(1)
    if not len(places):
        raise UsageError(
            f"all {len(subject)} images are of the class {shorten(job.section.target)!r} that --target names",
            "choose another class, or more images",
        )
    return subject.take(places)


def run_job(job: Job, recipe: Recipe, subject: Subject, run: Run, saved: SavedImages | None = None) -> AttackRow:
    """Attack the images of a subject block by block, continuing an earlier session if there was one.

    Returns:
        The row of results for this job.

    Raises:
        Interrupted: a signal asked to stop.
        ItemFailed: the attack raised an error on some rank.
        RushkitError: the run has outcomes for another model, data set, radius or attack.
    """
    section, plan = job.section, job.plan
    fingerprint = _fingerprint(job, recipe, subject).to_table()
    candidates, rounds = plan.first_own + len(plan.also), len(plan.rounds) + len(plan.also)
    check = partial(check_attack, labels=subject.labels.tolist(), candidates=candidates, rounds=rounds)
    versions = cache(SavedImages(run, job.smaller).images) if job.smaller else None
    expected = expected_passes(plan, section, job.m)
    if run.writes:
        check_version(run.subfolder("counts") / f"{job.name}.jsonl", fingerprint)
    # The bar counts passes as they are made, so a finished block adds nothing to it.
    log = SharedLog(run, f"{job.name}.jsonl", fingerprint, check, units=lambda line: 0)
    partials = Partials(run.subfolder("counts"), job.name, fingerprint)
    if run.writes:
        partials.clear(log.images)
        if saved is not None:
            saved.resume(log.images)
    stand_in = subject.surrogate and compared(subject.surrogate, subject, section, job.m, recipe.system.seed)
    notes = _announce(job, subject, run.speaker, stand_in.notes() if stand_in else ())
    announced: list[Note] = [*notes]
    if run.writes and log.images < len(subject):
        speed = passes_a_second(subject.attacked(job.m), subject.batch(slice(0, BLOCK))[0])
        run.speaker.say(announcement(expected, len(subject) - log.images, speed and speed * ranks.world()))

    def make(start: int) -> Made:
        rows = slice(start, start + BLOCK)
        x, y = subject.batch(rows)
        smaller = None if versions is None else versions()["images"][rows].to(x.device)
        block = Block(start, x, y, subject.indices[rows], smaller)
        g, pace = subject.attacked(job.m), Pace(lambda pace: work.stand(partial(meter.show, pace)))
        pace.watch(g)
        with work.stopping():
            record, x_adv = attack_block(g, plan, section, block, recipe.system.seed, partials.of(start), pace)
        if saved is None:
            return Made(record.to_table())
        return Made(record.to_table(), partial(saved.keep, start, x_adv, block.y))

    def kept(done: int) -> str:
        begun = ", and the state of those under attack" if partials.exist() else ""
        return f"the outcomes of {log.images} of {len(subject)} images under {job.name} are kept{begun}"

    label = f"{section.type} {plan.label} m={job.m}"
    with resumable(run, log, verb="attack", label=label, unit="passes", total=None, kept=kept) as work:
        meter = Meter(work.bar, len(subject), BLOCK, expected)
        meter.resume([AttackBlock(**line) for line in log.lines])
        try:
            # The outcome of a block does not depend on the rank that attacks it.
            for line in work.in_rounds(range(log.images, len(subject), BLOCK), make, fails=is_of_attack):
                meter.finish(AttackBlock(**line))
                _announce_new(AttackBlock(**line), announced, run.speaker)
                if run.writes:
                    partials.clear(log.images)
        except ItemFailed:
            if run.writes:
                partials.clear(len(subject))
            raise
    row = _row(job, recipe, subject, [AttackBlock(**line) for line in log.lines], notes)
    _check_useful(row)
    return row.with_changes(surrogate=stand_in.used) if stand_in else row


def with_saved_images(
    row: AttackRow, job: Job, recipe: Recipe, subject: Subject, run: Run, saved: SavedImages, target: Target | None
) -> AttackRow:
    """Put the adversarial images of a job into one file, query the other model about them, and note both in its row."""
    if run.writes:
        about = row.model_dump(include={"attack", "norm", "eps", "protocol", "samples"})
        saved.assemble({**about, "data": subject.split.name, CONTENT: subject.fingerprint()})
    ranks.wait()
    row = row.with_changes(saved=str(saved.path.relative_to(run.path)))
    if target is None:
        return row
    m, votes = _votes_of(target, job)
    transfer = transferred(run, job.name, saved, subject, target, m, votes, recipe.system.seed)
    return row.with_changes(transfer=transfer)


def write_images(folder: Path, subject: Subject, saved: SavedImages) -> None:
    """Write the images of a job and its attacked versions as PNG files, named by their indices in the split."""
    images = saved.images()["images"]
    for start in range(0, len(images), BLOCK):
        rows = slice(start, start + BLOCK)
        export_images(folder, subject.batch(rows)[0], images[rows], subject.indices[rows])


def _row(job: Job, recipe: Recipe, subject: Subject, blocks: list[AttackBlock], stated: list[Note]) -> AttackRow:
    plan, outcomes = job.plan, attack_outcomes(blocks, subject.indices.tolist())
    notes = merged([*stated, *(note for block in blocks for note in block.notes)])
    candidates, target = job.candidates(), None
    candidates += [Candidate(label=own.code, options={"sha256": own.sha256}) for own in plan.also]
    if plan.target is not None:
        target = TargetClass(index=plan.target, name=subject.classifier.classes[plan.target])
    return AttackRow(
        split=subject.split.name,
        attack=job.section.type,
        norm=job.section.norm,
        eps=job.section.eps,
        target=target,
        eight_bit=job.section.eight_bit,
        smaller=plan.smaller,
        protocol=plan.label,
        version=VERSIONS[plan.label],
        effort=plan.effort,
        samples=job.m,
        deviations=list(plan.deviations),
        votes=plan.votes,
        gradient_samples=plan.gradient_samples,
        candidates=candidates,
        own=[own.used(notes) for own in plan.also],
        rounds=list(plan.rounds),
        selection=list(plan.selection),
        thresholds=dict(plan.thresholds),
        search_precision=subject.machine.search_precision,
        convergence=convergence_of(outcomes),
        images=len(outcomes.images),
        rules=figures_by_rule(outcomes, plan.votes),
        outcomes=outcomes,
        rescored=rescored_of(blocks, plan.votes),
        seconds=sum(block.seconds for block in blocks),
        image_forwards=sum(block.image_forwards for block in blocks),
        image_backwards=sum(block.image_backwards for block in blocks),
        contributions=contributions_of(blocks),
        notes=notes,
    )


def _check_useful(row: AttackRow) -> None:
    """Raise ItemFailed if no attack broke an image, and every image that holds out gave it nothing finite to go by."""
    outcomes, silent = row.outcomes, {index for note in row.notes if note.code in _SILENT for index in note.images}
    right = zip(outcomes.indices, outcomes.right["majority"], strict=True)
    holding = {index for index, votes in right if 2 * votes > row.votes}
    broken = sum(images for name, images in row.contributions.items() if name != CLEAN)
    if holding and holding <= silent and not broken:
        cause = no_finite_gradient()
        raise ItemFailed(cause.message, cause.hint) from cause


def _announce_new(block: AttackBlock, announced: list[Note], speaker: Speaker) -> None:
    """Announce the notes of a block that were not announced before."""
    for note in block.notes:
        if note not in announced:
            announced.append(note)
            speaker.say(f"note: {note.text}")


def _votes_of(target: Target, job: Job) -> tuple[int, int]:
    """Return the draws per vote and the number of votes to query the other model with.

    They are the attack's, unless the attacked model has no noise and the other one does: then a single draw would say
    too little about the other model, so its own m and the protocol's number of votes are used.
    """
    if job.plan.deterministic and not target.deterministic:
        return max(target.classifier.recipe.evaluate.samples), protocol_votes(job.plan.protocol)
    return job.m, job.plan.votes


def _fingerprint(job: Job, recipe: Recipe, subject: Subject) -> AttackSubject:
    """Return everything that the outcomes of a job depend on; resuming requires that none of it has changed."""
    plan = [[candidate.name, plain_json(candidate.options, job.name)] for candidate in job.plan.candidates]
    plan += [[own.code, {"sha256": own.sha256}] for own in job.plan.also]
    return AttackSubject(
        model=subject.classifier.checkpoint.hash,
        data=subject.split.name,
        images=len(subject),
        content=subject.fingerprint(),
        noise=recipe.noise,
        plan=plan,
        norm=job.section.norm,
        eps=job.section.eps,
        target=job.plan.target,
        eight_bit=job.section.eight_bit,
        smaller=job.smaller,
        version=VERSIONS[job.plan.label],
        effort=job.plan.effort,
        search_precision=subject.machine.search_precision,
        surrogate=[subject.surrogate.code, subject.surrogate.sha256] if subject.surrogate else [],
        samples=job.m,
        score_samples=further_samples(job.section, job.m, job.plan),
        gradient_samples=job.plan.gradient_samples,
        votes=job.plan.votes,
        worst_by=list(RULES),
        block=BLOCK,
        seed=recipe.system.seed,
    )


def _announce(job: Job, subject: Subject, speaker: Speaker, more: Sequence[Note] = ()) -> list[Note]:
    """Print what a job is about to do, and return the notes that are known before it begins, ``more`` among them."""
    section, plan, split = job.section, job.plan, subject.split
    labels = ", ".join([*(candidate.label for candidate in plan.candidates), *(own.code for own in plan.also)])
    protocol: str = plan.label
    if plan.rounds:
        protocol = f"{plan.label} (version {VERSIONS[plan.label]}, effort {plan.effort})"
    times = "one vote" if plan.votes == 1 else f"{plan.votes} votes"
    if not is_deterministic(subject.noise):
        times += " of fresh noise"
    ball = ball_words(section.norm, section.eps)
    if plan.target is not None:
        ball += f" to class {shorten(subject.classifier.classes[plan.target])!r}"
    speaker.say(
        f"attack {section.type} {ball}, protocol {protocol}, m = {job.m}: {labels}; "
        f"{counted(plan.gradient_samples, 'draw')} a gradient; {times} on {counted(len(split), 'image')} of "
        f"{split.name}; {subject.machine.in_attacks}"
    )
    if plan.deviations:
        speaker.say(f"note: {settings_line(plan.label, plan.deviations)}")
    notes = [*plan.notes, *more]
    if plan.smaller is not None:
        text = f"the versions found at {ball_words(section.norm, plan.smaller)} are tried first"
        notes.append(Note(code="smaller-ball", text=text, figures={"eps": plan.smaller}))
    if resized := size_note(split):
        notes.append(Note(code="resized", text=resized))
    if subject.machine.precision != subject.machine.search_precision:
        text = f"{subject.machine.device.type} has no units for bf16, where it would be slower: all passes are float32"
        notes.append(Note(code="no-bf16-units", text=text))
    if words := subject.random_words():
        notes.append(Note(code="random-by-itself", text=words))
    if any(asks_for(candidate.create(section)) == "logits" for candidate in plan.candidates):
        notes += _symptoms(subject)
    for note in notes:
        speaker.say(f"note: {note.text}")
    return notes


def _symptoms(subject: Subject) -> list[Note]:
    """Return notes on what a few images show, before any attack, that attacks by gradients will not see through."""
    found = symptoms(subject.network_attacked, subject.noise, *subject.batch(slice(0, IMAGES)), 0, subject.chunk)
    return [Note(code=note.code, text=note.text) for note in found]
