"""Publish a model: write its weights, recipe, claims, artifacts, counts and card into a folder; nothing is uploaded."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from rushkit import __version__
from rushkit.certification.logged_counts import COUNTS_FILE
from rushkit.claims.artifact import write_artifact
from rushkit.claims.certificates import MADE_FROM
from rushkit.claims.chain import classifier_tensors, weights_hash
from rushkit.claims.pack import pack, portable_text
from rushkit.claims.published import CARD, write_claims
from rushkit.claims.record import KIND, SCHEMA, Claims, Measured, Measuring, ModelClaim
from rushkit.errors import CheckpointError, DataError, UsageError, first_few, shell_line, shorten
from rushkit.files import write_atomic, write_error
from rushkit.paths import read_file, reason
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.schema import Recipe
from rushkit.report.card import model_card
from rushkit.report.families import Family, recipe_of_run
from rushkit.report.publication import Published
from rushkit.results import Results
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification, Seal
from rushkit.results.evaluation import Evaluation
from rushkit.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rushkit.run.info import RunInfo
from rushkit.run.log import Table, chained, read_chained
from rushkit.run.named import run_named
from rushkit.run.names import CLAIMS_FILE, COUNTS, PUBLISHED_WEIGHTS, RECIPE_FILE
from rushkit.setup.model import classes_of

MEASURING: tuple[Measuring, ...] = ("evaluate", "attack", "certify", "audit")
# What of a checkpoint's metadata tells how to use it; the rest is about its training.
_META = ("stage", "image_size", "channels", "classes", "noise_drawn", "pseudo_labels", "registered")
_IMPORTED = "imported"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def publish(family: Family, named: Sequence[RunInfo], folder: Path, license_name: str | None = None) -> Published:
    """Write a model and what was measured of it into a new folder.

    Example::

        (family,) = families_of(["cifar10"], "runs")
        published = publish(family, [], Path("published/cifar10"))

    Args:
        family: The model and the runs around it.
        named: The runs of measurements to take; empty: all finished ones that measured these weights.
        folder: The folder to make, in a folder that exists or can be made.
        license_name: The licence of the weights, for the card; None: the card names none.

    Raises:
        UsageError: there is no classifier, or its run or a named one is not finished or measured other weights; the
            folder is there already.
        CheckpointError: the run has no checkpoint.
        RushkitError: the folder cannot be written.
    """
    checkpoint, recipe = _model_of(family)
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there already", "publish overwrites nothing: choose another --to or --name")
    runs, left_out = _chosen(family, named, checkpoint)
    weights = weights_hash(checkpoint.tensors)
    draft = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        draft.mkdir(parents=True)
        _write_model(draft, checkpoint, recipe)
        writer = _Writer(draft, checkpoint)
        measured = [writer.measured(run) for run in runs]
        made = Claims(
            schema_version=SCHEMA,
            kind=KIND,
            made_by=f"rushkit {__version__}",
            name=folder.name,
            model=ModelClaim(
                weights=weights,
                checkpoint=load_checkpoint(draft / PUBLISHED_WEIGHTS).hash,
                made_from=checkpoint.hash,
            ),
            files={},
            measured=measured,
        )
        write_atomic(draft / CLAIMS_FILE, [write_claims(draft, made)])
        of_these = replace(family, runs=tuple(run for run in family.runs if run in runs or run.stage not in MEASURING))
        classes = classes_of(checkpoint)
        card = model_card(of_these, made, classes, [*left_out, *writer.left_out], license_name)
        write_atomic(draft / CARD, [card.encode("utf-8", "backslashreplace")])
        draft.rename(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    names = [run.path.name for run in runs]
    return Published(folder, weights, names, writer.artifacts, writer.certifications, [*left_out, *writer.left_out])


def named_measurements(family: Family, specs: Sequence[str], root: str | Path) -> list[RunInfo]:
    """Return the runs of a model's measurements that a user named, among whatever else was named.

    Args:
        family: The model.
        specs: What names the runs, by the rule of ``run.named``.
        root: The folder of runs.
    """
    named = {run_named(spec, root)[0].path.resolve() for spec in specs}
    return [run for run in family.runs if run.path.resolve() in named and run.stage in MEASURING]


def name_of_model(family: Family, several: bool = False) -> str:
    """Return the name that a model is published under where the user gives none: that of its recipe.

    Args:
        family: The model.
        several: Whether other models of the same recipe are published with it.
    """
    tail = f"-{family.model.path.name.rpartition('-')[2]}" if several else ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", family.model.recipe).strip("-.")[:60] or "model"
    return check_name(f"{name}{tail}")


def check_name(name: str) -> str:
    """Return a name for a published model's folder. Raises UsageError for one that is no plain folder name."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise UsageError(
            f"{shorten(name)!r} is no name for a published model",
            "letters, digits, '.', '_' and '-' make one, such as --name digits-16",
        )
    return name


def _model_of(family: Family) -> tuple[Checkpoint, Recipe]:
    """Return the classifier to publish, and its recipe."""
    run = family.model
    if run.about.model is not None:
        raise UsageError(
            f"{run.about.model.in_words()} is code, and a published folder holds weights and no code",
            "publish a model that rushkit trained or imported; --artifact of rushkit attack packs images of any model",
        )
    if run.stage != "finetune":
        raise UsageError(
            f"{run.path} ({run.verb}) has no classifier",
            f"make one: {shell_line('rushkit', 'finetune', '--from', run.path)}",
        )
    if run.status != "finished":
        raise UsageError(
            f"{run.path} is {run.status}, and only a finished run is published",
            f"go on with it: {shell_line('rushkit', run.verb, '--resume', '--run', run.path)}",
        )
    checkpoint, recipe = run.store().load_latest(), recipe_of_run(run)
    if checkpoint is None or recipe is None:
        raise CheckpointError(
            f"{run.path} has no weights to publish", "its checkpoints or its recipe are gone; train it again"
        )
    return checkpoint, recipe


def _chosen(family: Family, named: Sequence[RunInfo], model: Checkpoint) -> tuple[list[RunInfo], list[str]]:
    """Return the measurements to publish, and why others are left out."""
    runs, left_out = [], []
    for run in named or family.runs:
        if run.stage not in MEASURING:
            continue
        if problem := _unfit(run, model):
            if named:
                raise UsageError(f"{run.path} {problem}", "name finished runs that measured this model")
            left_out.append(f"{run.path.name} ({run.verb}) {problem}")
        else:
            runs.append(run)
    return runs, left_out


def _unfit(run: RunInfo, model: Checkpoint) -> str:
    if run.about.self_test:
        return "is a self-test of the audit, which is about no model"
    if run.about.model is not None:
        return f"measured {run.about.model.in_words()}, which is code"
    if run.status != "finished":
        return f"is {run.status}"
    results = run.record()
    if results is None:
        return f"has no results: {first_few(run.damage(), 1) or 'they are missing'}"
    measured = results.model if isinstance(results, Certification) else run.about.hashes.get("parent", "")
    if measured != model.hash:
        return f"measured other weights: those of {measured[:12] or 'an unknown hash'}, not {model.hash[:12]}"
    return ""


def _write_model(folder: Path, checkpoint: Checkpoint, recipe: Recipe) -> None:
    text = portable_text(recipe)
    meta = {key: checkpoint.meta[key] for key in _META if key in checkpoint.meta}
    meta |= {"recipe": text, MADE_FROM: checkpoint.hash}
    if _IMPORTED in checkpoint.meta:
        # That it was is what its users need to know; from where is on the card.
        meta[_IMPORTED] = {}
    save_checkpoint(folder / PUBLISHED_WEIGHTS, classifier_tensors(checkpoint.tensors), meta)
    write_atomic(folder / RECIPE_FILE, [text.encode()])


class _Writer:
    """Writes what belongs to the runs into a folder: artifacts and counts.

    Attributes:
        artifacts: Number of artifacts so far.
        certifications: Number of certifications with counts so far.
        left_out: A sentence on each that could not be made.
    """

    def __init__(self, folder: Path, model: Checkpoint) -> None:
        self.artifacts = self.certifications = 0
        self.left_out: list[str] = []
        self._folder, self._model = folder, model

    def measured(self, run: RunInfo) -> Measured:
        """Write the files of a run, and return what claims.json says of it."""
        record, recipe = run.record(), recipe_of_run(run)
        if recipe is None or record is None:
            raise DataError(f"{run.path}: its recipe or its results cannot be read", "measure again, or leave it out")
        counts, artifacts = "", list[str]()
        if isinstance(record, Certification):
            counts, record = self._counts(run, record)
        if isinstance(record, Attacks):
            artifacts = list(self._packed(run, record, derive_recipe(recipe)))
        stage = next(stage for stage in MEASURING if stage == run.stage)
        return Measured(
            stage=stage,
            recipe=portable_text(recipe),
            results=_without_paths(record).to_table(),
            counts=counts,
            artifacts=artifacts,
        )

    def _packed(self, run: RunInfo, record: Attacks, recipe: Recipe) -> Iterator[str]:
        for row in record.attacks:
            if not row.saved:
                self.left_out.append(f"{run.path.name}: {row.words()} has no artifact, since its images were not saved")
                continue
            try:
                artifact = pack(row, recipe, self._model, run.path)
            except (DataError, UsageError, CheckpointError) as error:
                self.left_out.append(f"{run.path.name}: {row.words()} has no artifact: {error.message}")
                continue
            self.artifacts += 1
            name = f"artifacts/{self.artifacts:02d}.rushkit"
            (self._folder / name).parent.mkdir(exist_ok=True)
            write_artifact(self._folder / name, artifact)
            yield name

    def _counts(self, run: RunInfo, record: Certification) -> tuple[str, Certification]:
        """Write the counts of a certification; return their folder, and the results with the seal of the file."""
        beside = run.path / COUNTS / COUNTS_FILE
        path = beside if beside.is_file() else Path(record.source) / COUNTS / COUNTS_FILE
        try:
            lines, _, _ = read_chained(read_file(path))
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            self.left_out.append(f"{run.path.name} (certify) is published without its counts: {why}")
            return "", record
        _forget_paths(lines)
        written = chained(lines)
        self.certifications += 1
        name = f"certifications/{self.certifications:02d}"
        target = self._folder / name / COUNTS / COUNTS_FILE
        target.parent.mkdir(parents=True)
        write_atomic(target, written)
        _, seals, _ = read_chained(b"".join(written))
        return name, record.with_changes(counts=seals[-1] if seals else Seal(lines=0, chain=""))


def _forget_paths(lines: list[Table]) -> None:
    """Shorten the path of a data set that the subject of a log names, to what ``portable_text`` leaves of it."""
    subject = lines[0].get("subject") if lines else None
    data = subject.get("data") if isinstance(subject, dict) else None
    if isinstance(data, dict) and isinstance(path := data.get("path"), str):
        data["path"] = PurePath(path).name or "."


def _without_paths(record: Results) -> Results:
    """Return results without folders of the machine that they were made on."""
    if isinstance(record, Certification):
        beside = [row.with_changes(run=PurePath(row.run).name) for row in record.empirical]
        return record.with_changes(source=_last(record.source), empirical=beside, job="")
    if isinstance(record, Attacks):
        return record.with_changes(
            source=_last(record.source),
            attacks=[_without_model(row) for row in record.attacks],
            targeted=[_without_model(row) for row in record.targeted],
            job="",
        )
    if isinstance(record, Evaluation | Audit):
        return record.with_changes(source=_last(record.source), job="")
    return record


def _without_model(row: AttackRow) -> AttackRow:
    if row.transfer is None:
        return row
    return row.with_changes(transfer=row.transfer.with_changes(model=_last(row.transfer.model)))


def _last(path: str) -> str:
    return PurePath(path.replace("\\", "/")).name
