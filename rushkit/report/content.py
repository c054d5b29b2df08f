"""Collects the figures of a report from families of runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import rushkit
from rushkit.recipe.schema import Recipe
from rushkit.report import measured
from rushkit.report.chosen import chosen_to_certify
from rushkit.report.compare import certificate_notes, recipe_differences, significance
from rushkit.report.curves import certified_points, top_probability, training_curves
from rushkit.report.families import ENCODER_VERB, Family, named_by, recipe_of_run, recipe_text
from rushkit.report.figures import (
    SCHEMA,
    Comparison,
    MeasuredAudit,
    MeasuredCertification,
    Model,
    OtherResults,
    Report,
    RunFacts,
    SweepPoint,
    TrainingCurves,
)
from rushkit.report.left_out import left_out
from rushkit.report.paper import SOURCE, differences, method_of
from rushkit.report.rungs import headline_of
from rushkit.report.summary import attack_notes, notes, summary
from rushkit.report.taken_together import worst_of
from rushkit.report.words import command_of
from rushkit.results.attacks import Attacks
from rushkit.results.auditing import Audit, AuditPoint
from rushkit.results.certification import Certification
from rushkit.results.clustering import Clustering
from rushkit.results.imported import Imported
from rushkit.results.intervals import mean_interval
from rushkit.results.run_file import Session
from rushkit.results.training import Pretraining
from rushkit.results.words import PROTOCOL_NOTE, cluster_words, noise_words, plain_noise
from rushkit.rounding import counted
from rushkit.run.info import RunInfo
from rushkit.setup.components import data_name

# In words, what ``finetune.freeze`` left to train.
_TRAINED = {
    "encoder": "encoder frozen but for BatchNorm biases",
    "all": "encoder frozen",
    "none": "whole network",
}

IMPORT_VERB = "import"


def build_report(families: Sequence[Family]) -> Report:
    """Return the figures of a report on these models, without images."""
    names = _names(families)
    models = [_model(family, name) for family, name in zip(families, names, strict=True)]
    return Report(
        schema=SCHEMA,
        title=" and ".join(names) if len(names) < 4 else counted(len(names), "model"),
        date=_day(families),
        rushkit=rushkit.__version__,
        protocol_note=PROTOCOL_NOTE,
        paper=SOURCE,
        models=models,
        comparison=_comparison(families, names) if len(families) > 1 else None,
    )


def _day(families: Sequence[Family]) -> str:
    """Return the day of the newest run; that of the report itself would make every page of the same runs another."""
    days = []
    for run in (run for family in families for run in family.runs):
        # A run that was edited by hand, or is broken, may say anything.
        with suppress(ValueError, OverflowError):
            days.append(datetime.fromisoformat(run.started).astimezone(UTC).date().isoformat())
    return max(days, default="")


def _comparison(families: Sequence[Family], names: list[str]) -> Comparison:
    recipes = [recipe_of_run(family.model) for family in families]
    certified = [[results for _, results in family.results(Certification)] for family in families]
    notes = certificate_notes(names, certified)
    return Comparison(names, recipe_differences(recipes), significance(families, names), notes)


def _model(family: Family, name: str) -> Model:
    # An imported model has a recipe too, but was not trained by it.
    pretraining = recipe_of_run(_trained(family.encoder))
    finetuning = None if family.model.stage == ENCODER_VERB else recipe_of_run(_trained(family.model))
    method = method_of(pretraining, finetuning, family.from_scratch)
    table_1 = measured.table_1(family, pretraining, finetuning)
    published = next((row.reported.finetuning for row in table_1 if row.reported), "")
    attacks = measured.attack_rows(family)
    confusion = measured.confusion(family)
    model = Model(
        name=name,
        run=str(family.model.path),
        stage=family.model.verb,
        classifies=family.model.stage != ENCODER_VERB,
        recipe=family.model.recipe,
        about=_about(family, pretraining, finetuning),
        table_1=table_1,
        differences=differences(pretraining, finetuning, method, published) if finetuning else [],
        accuracy=sorted(measured.accuracy_rows(family), key=lambda row: (row.data, str(row.noise), row.samples)),
        corruptions=measured.corruption_rows(family),
        shifts=measured.shift_rows(family),
        attacks=attacks,
        targeted=measured.targeted_rows(family),
        unions=measured.union_rows(family),
        distances=measured.distance_rows(family),
        worst=worst_of(family.results(Attacks)),
        against_eps=measured.against_eps(attacks),
        against_passes=measured.passes(attacks),
        per_class=measured.per_class(confusion, attacks),
        taken_for=measured.taken_for(family, attacks),
        certified=[_certified(run, results) for run, results in family.results(Certification)],
        audit=[_audit(run, results) for run, results in family.results(Audit)[-1:]],
        probe=measured.probes(family),
        training=_training(family),
        confusion=confusion,
        other=_other(family),
        runs=[_facts(run) for run in family.runs],
        recipe_text=recipe_text(family.model),
        named_by=named_by(family.model),
        weights=weights_of(family),
    )
    return replace(
        model,
        headline=headline_of(family, model),
        left_out=left_out(family),
        notes=[*family.notes, *notes(family, model)],
        attack_notes=attack_notes(model),
        summary=summary(model),
    )


def weights_of(family: Family) -> str:
    """Return the hash of the weights that all runs of a model measured, as artifacts and published folders state it.

    Empty where the runs name no weights, or several, or where these are gone. Of somebody's classifier it is the hash
    of all that rushkit can see of it.
    """
    measuring = family.of("evaluate", "attack", "audit", "certify")
    if (given := family.model.about.model) is not None:
        return given.hash
    hashes = {run.about.hashes.get("parent", "") for run in measuring}
    if len(hashes) != 1 or not all(hashes):
        return ""
    # Only here: everything else is read without torch.
    from rushkit.claims.chain import weights_hash
    from rushkit.claims.evidence import checkpoint_of_hash

    checkpoint = checkpoint_of_hash(hashes.pop(), (family.model.path.parent,))
    return "" if checkpoint is None else weights_hash(checkpoint.tensors)


def _names(families: Sequence[Family]) -> list[str]:
    """Return the recipes' names; followed by the end of the run's name where two are the same."""
    names = [family.model.recipe for family in families]
    tails = [family.model.path.name.rpartition("-")[2] for family in families]
    return [f"{name} {tail}" if names.count(name) > 1 else name for name, tail in zip(names, tails, strict=True)]


def _trained(run: RunInfo | None) -> RunInfo | None:
    foreign = run is None or run.verb == IMPORT_VERB or run.about.model is not None
    return None if foreign else run


def _about(family: Family, pretraining: Recipe | None, finetuning: Recipe | None) -> dict[str, str]:
    """Describe a model in words."""
    recipe = recipe_of_run(family.model)
    if recipe is None:
        return {}
    noise = noise_words(plain_noise(recipe.noise))
    if (given := family.model.about.model) is not None:
        return {"code": given.in_words(), "noise": noise}
    about = {"backbone": recipe.backbone.name, "noise": noise}
    foreign = next((run for run in (family.model, family.encoder) if run and not _trained(run)), None)
    if foreign is not None:
        about["imported"] = _origin(foreign)
    if pretraining is not None:
        section = pretraining.pretrain
        images = f"{data_name(pretraining)}/{section.split}"
        about["pre-training"] = (
            f"{section.objective} on {images}, {counted(section.epochs, 'epoch')} of batches of {section.batch_size}"
        )
    trained = next((record for run, record in family.results(Pretraining) if run == family.encoder), None)
    if trained is not None and trained.teacher is not None:
        about["teacher"] = trained.teacher.in_words()
    if trained is not None and trained.started is not None:
        about["started from"] = trained.started.in_words()
    if finetuning is not None:
        tuning = finetuning.finetune
        frozen = _TRAINED[tuning.freeze]
        about["fine-tuning"] = (
            f"{tuning.objective} on {data_name(finetuning)}/{tuning.split}, {counted(tuning.epochs, 'epoch')}, {frozen}"
        )
    return about


def _origin(run: RunInfo) -> str:
    """Return where an imported model is from, or the name of its run where that does not say."""
    imported = run.about.imported
    return imported.in_words() if imported else run.path.name


def _certified(run: RunInfo, results: Certification) -> MeasuredCertification:
    chosen = chosen_to_certify(results, recipe_of_run(run))
    measured_by = run.path.name, plain_noise(results.noise), results
    return MeasuredCertification(*measured_by, certified_points(results), chosen, top_probability(results))


def _audit(run: RunInfo, results: Audit) -> MeasuredAudit:
    return MeasuredAudit(
        run=run.path.name,
        noise=plain_noise(results.noise),
        record=results,
        attacked=len(results.attacked),
        smallest_drop=results.smallest_drop,
        sweeps={name: tuple(map(_sweep_point, points)) for name, points in results.sweeps},
    )


def _sweep_point(point: AuditPoint) -> SweepPoint:
    images = len(point.share)
    low, high = mean_interval(point.accuracy * images, images)
    return SweepPoint(point.label, point.value, point.accuracy, low, high, images)


def _training(family: Family) -> list[TrainingCurves]:
    curves = ((run, training_curves(run)) for run in family.of("pretrain", "finetune"))
    return [TrainingCurves(run.path.name, run.verb, of_run) for run, of_run in curves if of_run]


def _other(family: Family) -> list[OtherResults]:
    imports = [OtherResults(run.path.name, run.verb, _scalars(results)) for run, results in family.results(Imported)]
    return imports + [
        OtherResults(
            run.path.name,
            run.verb,
            _scalars(results) | {str(column.clusters): cluster_words(column) for column in results.columns},
        )
        for run, results in family.results(Clustering)
    ]


def _scalars(results: Imported | Clustering) -> dict[str, bool | int | float | str]:
    return {
        key: value
        for key, value in results.to_table().items()
        if isinstance(value, bool | int | float | str) and key != "stage"
    }


def _facts(run: RunInfo) -> RunFacts:
    facts = run.about
    return RunFacts(
        run=str(run.path),
        stage=run.verb,
        status=run.status,
        started=run.started,
        seconds=_seconds(facts.sessions),
        machine=facts.machine or None,
        versions=facts.versions,
        git=facts.git,
        seed=facts.seed,
        parent=facts.parent,
        owners=facts.owners,
        command=command_of(run),
    )


def _seconds(sessions: Sequence[Session]) -> float | None:
    """Return how long the sessions of a run took together; None while one is open or unknown."""
    try:
        spans = [datetime.fromisoformat(one.ended or "") - datetime.fromisoformat(one.started) for one in sessions]
    except (TypeError, ValueError):
        return None
    return sum(span.total_seconds() for span in spans) if spans else None
