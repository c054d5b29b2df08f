"""A report as one plain document, which the HTML, Markdown and JSON forms are written from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import rushkit
from rushkit.errors import RushkitError
from rushkit.recipe.schema import Recipe
from rushkit.report import measured
from rushkit.report.certified import norm_words
from rushkit.report.collect import Family, recipe_of_run, recipe_text
from rushkit.report.compare import recipe_differences, significance
from rushkit.report.curves import certified_points, training_curves
from rushkit.report.paper import EPS, NORM, SOURCE, differences
from rushkit.report.tables import PROTOCOL_NOTE, eps_words, noise_words, percent
from rushkit.run.files import plain_json
from rushkit.run.find import RunInfo

SCHEMA = 1
# Verbs with a section of their own.
_KNOWN = ("pretrain", "finetune", "evaluate", "attack", "certify", "audit")

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
    pretraining, own = recipe_of_run(family.encoder), recipe_of_run(family.model)
    finetuning = own if family.model.verb != "pretrain" else None
    attacks = measured.attack_rows(family)
    rows = measured.table_1(family, pretraining, finetuning)
    certified = [_certified(run, results) for run, results in measured.results_of(family, "certify")]
    entry = {
        "name": name,
        "run": str(family.model.path),
        "stage": family.model.verb,
        "recipe": family.model.recipe,
        "about": _about(pretraining, own),
        "table_1": rows,
        "differences": differences(pretraining, finetuning) if finetuning else [],
        "accuracy": measured.accuracy_rows(family),
        "attacks": attacks,
        "against_eps": measured.against_eps(attacks),
        "certified": certified,
        "audit": [_audit(run, results) for run, results in measured.results_of(family, "audit")[-1:]],
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
    return {**entry, "notes": [*family.notes, *_notes(family, entry)], "summary": _summary(entry)}


def _names(families: Sequence[Family]) -> list[str]:
    """The recipes' names; with the run's own last part where two are the same."""
    names = [family.model.recipe for family in families]
    tails = [family.model.path.name.rpartition("-")[2] for family in families]
    return [f"{name} {tail}" if names.count(name) > 1 else name for name, tail in zip(names, tails, strict=True)]


def _about(pretraining: Recipe | None, own: Recipe | None) -> dict[str, str]:
    """What the model is, in words."""
    if own is None:
        return {}
    about = {"backbone": own.backbone.name, "noise": noise_words(_plain(own.noise.model_dump()))}
    if pretraining is not None:
        section = pretraining.pretrain
        images = f"{pretraining.data.name}/{section.split}"
        about["pre-training"] = (
            f"{section.objective} on {images}, {section.epochs} epochs of batches of {section.batch_size}"
        )
    frozen = "encoder frozen but for BatchNorm biases" if own.finetune.freeze == "encoder" else "whole network"
    about["fine-tuning"] = (
        f"{own.finetune.objective} on {own.data.name}/{own.finetune.split}, {own.finetune.epochs} epochs, {frozen}"
    )
    return about


def _certified(run: RunInfo, results: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: results[key] for key in _CERTIFIED if key in results}
    found["noise"] = _plain(results["noise"])
    return {"run": run.path.name, **found, "curve": certified_points(results)}


def _audit(run: RunInfo, results: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: results[key] for key in ("data", "samples", "settings", "images", "checks", "loss_curve")}
    sweeps = {
        name: [{key: point[key] for key in ("label", "value", "accuracy")} for point in points]
        for name, points in results["sweeps"].items()
    }
    return {"run": run.path.name, **found, "noise": _plain(results["noise"]), "sweeps": sweeps}


def _run(run: RunInfo) -> dict[str, Any]:
    data = run.data
    argv = data.get("argv")
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
        "command": shlex.join(["rushkit", *map(str, argv[1:])]) if isinstance(argv, list) and argv else None,
    }


def _seconds(sessions: Sequence[Mapping[str, Any]]) -> float | None:
    """How long the sessions of a run took together; None while one is open or unknown."""
    try:
        spans = [datetime.fromisoformat(one["ended"]) - datetime.fromisoformat(one["started"]) for one in sessions]
    except (KeyError, TypeError, ValueError):
        return None
    return sum(span.total_seconds() for span in spans) if spans else None


def _notes(family: Family, entry: Mapping[str, Any]) -> list[str]:
    """What a reader could otherwise be misled by."""
    notes = [
        f"{run.path.name} ({run.verb}) is {run.status}; what it measured is not complete"
        for run in family.runs
        if run.status != "finished"
    ]
    used = measured.checkpoints_used(family)
    if len(used) > 1:
        listed = "; ".join(f"{name} by {', '.join(runs)}" for name, runs in sorted(used.items()))
        notes.append(f"the figures are of several checkpoints of this run: {listed}")
    for row in entry["table_1"]:
        for protocol in measured.PROTOCOLS:
            pgd, autoattack = row["pgd"][protocol], row["autoattack"][protocol]
            if pgd and autoattack and autoattack["low"] > pgd["high"]:
                notes.append(
                    f"m = {row['samples']}, {protocol}: AutoAttack, the stronger attack, leaves more than PGD "
                    f"({percent(autoattack['accuracy'])} % against {percent(pgd['accuracy'])} %); it did not work "
                    "as it should"
                )
    notes += [note for row in entry["attacks"] for note in row["notes"]]
    notes += [f"{one['run']}: {warning}" for one in entry["certified"] for warning in one.get("warnings", [])]
    notes += [f"CONTRADICTION: {text}" for one in entry["certified"] for text in one["checks"]["messages"]]
    return list(dict.fromkeys(notes))


def _summary(entry: Mapping[str, Any]) -> list[str]:
    """The result in sentences, each saying what its figure is and is not."""
    said = []
    clean = [row for row in entry["accuracy"] if row["rule"] == "majority"]
    if clean:
        row = max(clean, key=lambda row: row["samples"])
        said.append(
            f"Without an attack, a vote of m = {row['samples']} is right on {_share(row)} of {row['images']} images of "
            f"{row['data']}."
        )
    strict = [row for row in entry["attacks"] if row["protocol"] == "strict"]
    strict = [row for row in strict if measured.on_test(row)] or strict
    for norm in dict.fromkeys(row["norm"] for row in strict):
        radii = [row["eps"] for row in strict if row["norm"] == norm]
        # The radius that the field asks about, where it was attacked.
        eps = next((eps for eps in radii if norm == NORM and abs(eps - EPS) < 1e-9), max(radii))
        ball = [row for row in strict if (row["norm"], row["eps"]) == (norm, eps)]
        row = min(ball, key=lambda row: row["rules"]["majority"]["accuracy"])
        figures = row["rules"]["majority"]
        said.append(
            f"Under {row['attack']}, {norm_words(norm)} {eps_words(eps)}, strict: {_share(figures)} of "
            f"{row['images']} images of {row['split']} (m = {row['samples']}), against "
            f"{percent(figures['clean_accuracy'])} % of the same images clean. This is an upper bound of the "
            "robustness."
        )
    if entry["attacks"] and not strict:
        said.append("No attack ran under the strict protocol: nothing here says how robust the model is.")
    largest = {}
    for one in sorted(entry["certified"], key=lambda one: one["images"]):
        largest[one["norm"]] = one
    for norm, one in sorted(largest.items()):
        shown = [row for row in one["certified"] if row["radius"] > 0 and row["count"]]
        if shown:
            row = shown[len(shown) // 2]
            said.append(
                f"Proved: {_share({**row, 'accuracy': row['value']})} of {row['total']} images keep their right class "
                f"under every {norm_words(norm)} perturbation up to {row['radius']:g}."
            )
    for one in entry["audit"]:
        failed = [f"{check['code']} {check['name']}" for check in one["checks"] if check["status"] == "fail"]
        if failed:
            said.append(f"The audit does not trust these attacks: {', '.join(failed)}.")
        else:
            said.append(f"The audit found nothing that fails among {len(one['checks'])} checks.")
    if not said:
        said.append("Nothing was measured of this model yet: rushkit evaluate, rushkit attack, rushkit certify.")
    return said


def _scalars(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in results.items() if isinstance(value, bool | int | float | str) and key != "stage"
    }


def _share(row: Mapping[str, Any]) -> str:
    return f"{percent(row['accuracy'])} % [{percent(row['low'])}, {percent(row['high'])}]"


def _plain(noise: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in noise.items() if value is not None}
