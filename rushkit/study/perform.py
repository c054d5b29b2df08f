"""Run the stage of a job: the same functions as the commands call, in the folder of the job.

``STAGES`` says for each stage what is called. It is a plain table, so that a test, or a plugin with a stage of its own
kind, can put another function there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rushkit.errors import CheckpointError, DataError, RushkitError, UsageError
from rushkit.files import JSON, write_error
from rushkit.locks import LOCK_FILE, FolderLock
from rushkit.recipe.load import build_recipe, derive_recipe
from rushkit.recipe.registered import REGISTERED, open_registered
from rushkit.recipe.schema import Recipe, System
from rushkit.recipe.toml import Table
from rushkit.results.base import StageResults
from rushkit.run.asked import AttackAsked, AuditAsked
from rushkit.run.checkpoint import Checkpoint, load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.info import is_run, read_run_file
from rushkit.run.names import RUN_FILE
from rushkit.run.source import resolve_from
from rushkit.run.speaker import Speaker
from rushkit.setup.given import given_model
from rushkit.setup.resume import Stopped, measured_checkpoint, parent_if_any, reopen
from rushkit.setup.start import start_run
from rushkit.study.job import Job, Stage
from rushkit.study.orders import ID_DIGITS, Order, is_done
from rushkit.study.outside import attack_identity, code_identity
from rushkit.study.places import Places
from rushkit.study.stages import ASKED, ClusterAsked, ProbeAsked, StageAsked
from rushkit.study.stages import AttackAsked as AttackStage
from rushkit.study.stages import AuditAsked as AuditStage

# The keys of [system] that a job takes from its recipe: all. What the environment of the worker says comes before.
_KEPT = tuple(System.model_fields)


@dataclass(frozen=True)
class Call:
    """What a stage is called with.

    Attributes:
        recipe: The recipe.
        model: The checkpoint that it starts from, learns from or measures; None for random weights.
        asked: Its options outside the recipe.
        run: The open run.
        baseline: The run of the evaluation whose errors its own are a share of; None for none.
    """

    recipe: Recipe
    model: Checkpoint | None
    asked: StageAsked
    run: Run
    baseline: Path | None

    @property
    def measured(self) -> Checkpoint:
        """The checkpoint, of a stage that cannot do without. Raises UsageError if there is none."""
        if self.model is None:
            raise UsageError(f"a job of {self.asked.do} needs a model, and names none", "plan the study anew")
        return self.model


@dataclass(frozen=True)
class StageCall:
    """How the stage of a job is run.

    Attributes:
        run: Runs it.
        resumes: Whether a stopped run goes on from what it has; otherwise it begins anew.
        facts: What run.json keeps of the options.
    """

    run: Callable[[Call], StageResults]
    resumes: bool = True
    facts: Callable[[StageAsked], Mapping[str, JSON]] = lambda asked: {}


def perform(
    places: Places,
    job: Job,
    order: Order,
    guard: Callable[[], None],
    draw: Callable[[Run, StageResults], None],
    speaker: Speaker | None = None,
) -> StageResults:
    """Run the stage of a job to its end, or go on with its run where one was stopped.

    Args:
        places: The folder of runs.
        job: What to compute.
        order: For whom.
        guard: Raises Replaced once another process has taken the job over.
        draw: Draws the figures of a finished stage into its run.
        speaker: Prints the messages of the stage.

    Raises:
        UsageError: a parent is not done, or options make no sense.
        RushkitError: as the stage raises it.
        Interrupted: a signal asked to stop; everything is saved.
    """
    stage = STAGES[job.stage]
    asked = _asked(job)
    _check_parents(places, job)
    _check_attacks(job)
    speaker = speaker or Speaker()
    baseline = places.run_folder(job.parents["baseline"]) if "baseline" in job.parents else None
    facts = {**stage.facts(asked), **({"baseline": str(baseline.absolute())} if baseline else {})}
    recipe, run, model = _open(places, job, order, facts, speaker)
    run.guard = guard
    with run:
        results = stage.run(Call(recipe, model, asked, run, baseline))
        draw(run, results)
    return results


def _open(
    places: Places, job: Job, order: Order, facts: Mapping[str, JSON], speaker: Speaker
) -> tuple[Recipe, Run, Checkpoint | None]:
    """Return the recipe, the open run and the model of a job."""
    folder = places.run_folder(job.id)
    changes = {"system.runs_dir": str(places.runs)}
    if STAGES[job.stage].resumes and _can_resume(folder, job):
        recipe, run = reopen(
            Stopped(job.stage, str(places.runs), str(folder)), [f"system.runs_dir={places.runs}"], speaker
        )
        return recipe, run, measured_checkpoint(recipe, run) if run.about.model else parent_if_any(run)
    _clear(folder)
    model = None if job.code else _model(places, job, order, speaker)
    recipe = derive_recipe(_recipe(job), changes, system=_KEPT)
    model = _code(recipe, job) if recipe.model else model
    asked: dict[str, JSON] = {**facts, "study": order.facts(job.id).to_table()}
    return recipe, start_run(job.stage, recipe, speaker, model, asked, folder), model


def _recipe(job: Job) -> Recipe:
    """Return the recipe of a job. Raises UsageError if it is none."""
    table: Table = dict(job.recipe)
    return build_recipe(table, components=True)


def _asked(job: Job) -> StageAsked:
    """Return the options of a job, checked."""
    kind = ASKED[job.stage]
    try:
        asked = kind.model_validate({"do": job.stage, **job.options})
    except ValueError as error:
        raise DataError(f"the options of job {job.id} are wrong: {error}", "plan the study anew") from error
    if strange := sorted(set(job.options) - set(kind.OWN)):
        raise DataError(f"job {job.id} has options that {job.stage} does not take: {strange}", "plan the study anew")
    return asked


def _check_parents(places: Places, job: Job) -> None:
    """Raise UsageError if a parent that is a job is not done."""
    for role, parent in job.parents.items():
        if len(parent) == ID_DIGITS and not is_done(places, parent):
            raise UsageError(
                f"the {role} of this job is not there: job {parent[:16]} is not done",
                "`rushkit study run` does the jobs of a study in their order",
            )


def _check_attacks(job: Job) -> None:
    """Raise CheckpointError if code that a job's attacks name is not what the study was planned with."""
    if job.stage == "attack" and attack_identity(job.recipe.get("attack")) != job.parents.get("attack", ""):
        raise CheckpointError(
            "the attack changed: a file that it names has other contents than the study was planned with",
            "plan the study anew: a job's identity has that code in it",
        )


def _code(recipe: Recipe, job: Job) -> Checkpoint:
    """Return somebody's classifier, if the user named its code and it is the one that the study was planned with."""
    assert recipe.model is not None
    if code_identity(recipe.model) != job.parents.get("model"):
        raise CheckpointError(
            f"the model changed: {recipe.model.short} has other contents than the study was planned with",
            "plan the study anew: a job's identity has its model in it",
        )
    return given_model(recipe)


def _model(places: Places, job: Job, order: Order, speaker: Speaker) -> Checkpoint | None:
    """Load the checkpoint that a job starts from; None for random weights."""
    parent = job.parents.get("model")
    if parent is None:
        return None
    if len(parent) == ID_DIGITS:
        folder = places.run_folder(parent)
        checkpoint = resolve_from(folder, places.runs, ("pretrain", "finetune")).load(warn=speaker.warn)
    else:
        path = order.sources.get("model")
        if path is None:
            raise UsageError(f"nobody says where the model {parent[:20]} lies", "start it with `rushkit study run`")
        checkpoint = load_checkpoint(Path(path))
        if f"sha256:{checkpoint.hash}" != parent:
            raise CheckpointError(
                f"the model changed: {path} is another checkpoint than the study was planned with",
                "plan the study anew: a job's identity has its model in it",
            )
    for altered in open_registered(checkpoint.meta.get(REGISTERED)):
        speaker.warn(altered)
    return checkpoint


def _can_resume(folder: Path, job: Job) -> bool:
    """Return whether a stopped run of this very job lies in a folder."""
    if folder.is_symlink() or not is_run(folder):
        return False
    try:
        about = read_run_file(folder)
    except RushkitError:
        return False
    if about.study is None or about.study.job != job.id:
        raise UsageError(f"{folder} is the run of something else", "move it away, or choose another folder of runs")
    # One that finished and has no results lost them: it is made anew.
    return about.verb == job.stage and about.status != "finished"


def _clear(folder: Path) -> None:
    """Remove what an earlier attempt left in the folder of a job, run.json last, so that a kill leaves what is ours.

    Raises:
        UsageError: the folder is a link.
        Busy: another process works in it.
        RushkitError: it cannot be removed.
    """
    if folder.is_symlink():
        raise UsageError(f"{folder} is a link", "remove it: the run of a job lies in a folder of its own")
    if not folder.exists():
        return
    lock = FolderLock(folder)
    try:
        for path in folder.iterdir():
            if path.name in (RUN_FILE, LOCK_FILE):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / RUN_FILE).unlink(missing_ok=True)
        (folder / LOCK_FILE).unlink()
        folder.rmdir()
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        lock.release()


def _cluster(call: Call) -> StageResults:
    from rushkit.training.cluster import cluster

    assert isinstance(call.asked, ClusterAsked)
    return cluster(call.recipe, call.model, call.asked.clusters, call.asked.split, call.asked.starts, call.run)


def _pretrain(call: Call) -> StageResults:
    from rushkit.training.pretrain import pretrain

    return pretrain(call.recipe, call.run, call.model)


def _finetune(call: Call) -> StageResults:
    from rushkit.training.finetune import finetune

    return finetune(call.recipe, call.model, call.run)


def _evaluate(call: Call) -> StageResults:
    from rushkit.evaluation.baseline import evaluation_at
    from rushkit.evaluation.evaluate import evaluate

    baseline = None if call.baseline is None else evaluation_at(call.baseline)
    return evaluate(call.recipe, call.measured, call.run, baseline)


def _attack(call: Call) -> StageResults:
    from rushkit.robustness.attack import attack

    assert isinstance(call.asked, AttackStage)
    return attack(call.recipe, call.measured, call.run, call.asked.protocols, call.asked.save)


def _attack_facts(asked: StageAsked) -> Mapping[str, JSON]:
    assert isinstance(asked, AttackStage)
    return AttackAsked(protocols=asked.protocols, save=asked.save).facts()


def _certify(call: Call) -> StageResults:
    from rushkit.certification.certify import certify

    return certify(call.recipe, call.measured, call.run)


def _probe(call: Call) -> StageResults:
    from rushkit.evaluation.probe import Ball, probe

    assert isinstance(call.asked, ProbeAsked)
    ball = Ball(call.asked.norm, call.asked.eps, call.asked.steps)
    return probe(call.recipe, call.measured, ball, call.run, call.asked.limit)


def _audit(call: Call) -> StageResults:
    from rushkit.auditing.asked import images_asked, settings_asked
    from rushkit.auditing.audit import audit

    asked = _audit_asked(call.asked)
    settings = settings_asked(call.recipe, asked)
    return audit(call.recipe, call.measured, settings, call.run, images_asked(asked), asked.samples or 0, asked.claim)


def _audit_asked(asked: StageAsked) -> AuditAsked:
    assert isinstance(asked, AuditStage)
    return AuditAsked(**{name: getattr(asked, name) for name in AuditAsked.model_fields})


STAGES: dict[Stage, StageCall] = {
    "cluster": StageCall(_cluster, resumes=False),
    "pretrain": StageCall(_pretrain),
    "finetune": StageCall(_finetune),
    "evaluate": StageCall(_evaluate),
    "attack": StageCall(_attack, facts=_attack_facts),
    "certify": StageCall(_certify),
    "probe": StageCall(_probe, resumes=False),
    "audit": StageCall(_audit, facts=lambda asked: _audit_asked(asked).facts()),
}
