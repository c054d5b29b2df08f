"""A report as one plain document, which the HTML, Markdown and JSON forms are written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import rushkit
from rushkit.errors import RushkitError
from rushkit.files import plain_json
from rushkit.recipe.schema import Recipe
from rushkit.report import measured
from rushkit.report.collect import ENCODER_VERB, Family, recipe_of_run, recipe_text
from rushkit.report.compare import recipe_differences, significance
from rushkit.report.curves import certified_points, training_curves
from rushkit.report.paper import SOURCE, differences
from rushkit.report.summary import attack_notes, notes, smallest_drop, summary
from rushkit.report.tables import PROTOCOL_NOTE, noise_words, plain_noise
from rushkit.report.words import command_of
from rushkit.results.intervals import mean_interval
from rushkit.run.info import RunInfo

SCHEMA = 1
IMPORT_VERB = "import"
# Verbs with a section of their own.
_KNOWN = ("pretrain", "finetune", "evaluate", "attack", "certify", "audit", "probe")

# What a report keeps of a certification: all but what every image did.
_CERTIFIED = (
    *("data", "noise", "mode", "norm", "rule", "bound", "alpha", "samples", "images", "smoothed", "abstained"),
    *("average_radius", "certified", "reach", "covers", "assumptions", "warnings", "checks"),
)


def build_document(families: Sequence[Family]) -> dict[str, Any]:
    """Everything that a report says of these models, as JSON types; figures only, no images.

    Keys: ``title``, ``rushkit`` (its version), ``protocol_note`` (which no figure under the protocol ``paper`` may be
    shown without), ``paper`` (where the reported figures are from), ``models``, and for several models ``comparison``.

    Raises:
        RushkitError: results that are not in the format of this version.
    """
    names = _names(families)
    models = []
    for family, name in zip(families, names, strict=True):
        try:
            models.append(_model(family, name))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            # Written by hand, or by another version.
            raise RushkitError(
                f"the results around {family.model.path} are not in the format of this rushkit: "
                f"{type(error).__name__} {error}",
                "measure them again, or use the version that wrote them (run.json names it)",
            ) from error
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "title": " and ".join(names) if len(names) < 4 else f"{len(names)} models",
        "rushkit": rushkit.__version__,
        "protocol_note": PROTOCOL_NOTE,
        "paper": SOURCE,
        "models": models,
    }
    if len(families) > 1:
        recipes = [recipe_of_run(family.model) for family in families]
        document["comparison"] = {
            "names": names,
            "recipes": recipe_differences(recipes),
            "significance": significance(families, names),
        }
    return plain_json(document, "report")  # type: ignore[return-value]


def _model(family: Family, name: str) -> dict[str, Any]:
    # An imported model has a recipe too, but was not trained by it.
    pretraining = recipe_of_run(_trained(family.encoder))
    finetuning = None if family.model.stage == ENCODER_VERB else recipe_of_run(_trained(family.model))
    attacks = measured.attack_rows(family)
    rows = measured.table_1(family, pretraining, finetuning)
    certified = [_certified(run, results) for run, results in measured.results_of(family, "certify")]
    entry = {
        "name": name,
        "run": str(family.model.path),
        "stage": family.model.verb,
        "classifies": family.model.stage != ENCODER_VERB,
        "recipe": family.model.recipe,
        "about": _about(family, pretraining, finetuning),
        "table_1": rows,
        "differences": differences(pretraining, finetuning) if finetuning else [],
        "accuracy": sorted(
            measured.accuracy_rows(family), key=lambda row: (row["data"], str(row["noise"]), row["samples"])
        ),
        "attacks": attacks,
        "against_eps": measured.against_eps(attacks),
        "certified": certified,
        "audit": [_audit(run, results) for run, results in measured.results_of(family, "audit")[-1:]],
        "probe": measured.probes(family),
        "training": [
            {"run": run.path.name, "stage": run.verb, "curves": curves}
            for run in family.of("pretrain", "finetune")
            if (curves := training_curves(run))
        ],
        "confusion": measured.confusion(family),
        "other": [
            {"run": run.path.name, "stage": run.verb, "figures": _scalars(results)}
            for run, results in measured.other_results(family, _KNOWN)
        ],
        "runs": [_run(run) for run in family.runs],
        "recipe_text": recipe_text(family.model),
    }
    return {
        **entry,
        "notes": [*family.notes, *notes(family, entry)],
        "attack_notes": attack_notes(entry),
        "summary": summary(entry),
    }


def _names(families: Sequence[Family]) -> list[str]:
    """The recipes' names; with the run's own last part where two are the same."""
    names = [family.model.recipe for family in families]
    tails = [family.model.path.name.rpartition("-")[2] for family in families]
    return [f"{name} {tail}" if names.count(name) > 1 else name for name, tail in zip(names, tails, strict=True)]


def _trained(run: RunInfo | None) -> RunInfo | None:
    return run if run is not None and run.verb != IMPORT_VERB else None


def _about(family: Family, pretraining: Recipe | None, finetuning: Recipe | None) -> dict[str, str]:
    """What the model is, in words."""
    own = recipe_of_run(family.model)
    if own is None:
        return {}
    about = {"backbone": own.backbone.name, "noise": noise_words(plain_noise(own.noise.model_dump()))}
    foreign = next((run for run in (family.model, family.encoder) if run and not _trained(run)), None)
    if foreign is not None:
        about["imported"] = _origin(foreign)
    if pretraining is not None:
        section = pretraining.pretrain
        images = f"{pretraining.data.name}/{section.split}"
        about["pre-training"] = (
            f"{section.objective} on {images}, {section.epochs} epochs of batches of {section.batch_size}"
        )
    if finetuning is not None:
        used = finetuning.finetune
        frozen = "encoder frozen but for BatchNorm biases" if used.freeze == "encoder" else "whole network"
        about["fine-tuning"] = (
            f"{used.objective} on {finetuning.data.name}/{used.split}, {used.epochs} epochs, {frozen}"
        )
    return about


def _origin(run: RunInfo) -> str:
    """Where an imported model is from; the run that tried it, where it does not say."""
    # Only here: it loads torchvision.
    from rushkit.exchange.import_model import origin_words

    imported = run.data.get("imported")
    return origin_words(imported) if imported else run.path.name


def _certified(run: RunInfo, results: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: results[key] for key in _CERTIFIED if key in results}
    found["noise"] = plain_noise(results["noise"])
    return {"run": run.path.name, **found, "curve": certified_points(results)}


def _audit(run: RunInfo, results: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: results[key] for key in ("data", "samples", "settings", "images", "checks", "loss_curve")}
    attacked = results.get("attacked")
    return {
        "run": run.path.name,
        **found,
        "size": results.get("size", ""),
        "attacked": None if attacked is None else len(attacked),
        "smallest_drop": smallest_drop(results["checks"]),
        "noise": plain_noise(results["noise"]),
        "sweeps": {name: [_point(point) for point in points] for name, points in results["sweeps"].items()},
    }


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of an audit's sweep with its 95% Wilson interval; the votes of its images are not kept."""
    images = len(point["share"])
    low, high = mean_interval(point["accuracy"] * images, images)
    return {**{key: point[key] for key in ("label", "value", "accuracy")}, "low": low, "high": high, "images": images}


def _run(run: RunInfo) -> dict[str, Any]:
    data = run.data
    return {
        "run": str(run.path),
        "stage": run.verb,
        "status": run.status,
        "started": run.started,
        "seconds": _seconds(data.get("sessions") or []),
        "machine": data.get("machine"),
        "versions": data.get("versions") or {},
        "git": data.get("git"),
        "seed": data.get("seed"),
        "parent": data.get("parent"),
        "owners": data.get("owners") or {},
        "command": command_of(run),
    }


def _seconds(sessions: Sequence[Mapping[str, Any]]) -> float | None:
    """How long the sessions of a run took together; None while one is open or unknown."""
    try:
        spans = [datetime.fromisoformat(one["ended"]) - datetime.fromisoformat(one["started"]) for one in sessions]
    except (KeyError, TypeError, ValueError):
        return None
    return sum(span.total_seconds() for span in spans) if spans else None


def _scalars(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in results.items() if isinstance(value, bool | int | float | str) and key != "stage"
    }
