"""Run folders with the records of every stage, without training anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rushkit.evaluation.evaluate import per_class_accuracy
from rushkit.evaluation.probe import summary
from rushkit.recipe import toml
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Backbone, Noise, Recipe
from rushkit.results import dump
from rushkit.results.attacks import VERSIONS, AttackOutcomes, AttackRow, Attacks, Candidate, Transfer, VoteOutcomes
from rushkit.results.auditing import Audit, AuditAttacks, AuditPoint, AuditSettings, AuditSweeps
from rushkit.results.base import StageResults
from rushkit.results.certification import (
    AttackAgreement,
    Certification,
    CertificationOutcomes,
    CertifiedRate,
    DrawsUsed,
    Mode,
    Rate,
    Seal,
)
from rushkit.results.evaluation import AccuracyRow, Evaluation, EvaluationOutcomes, Probe
from rushkit.results.imported import CleanCheck, Imported, Origin
from rushkit.results.intervals import accuracy_row, figures_by_rule
from rushkit.results.notes import Check
from rushkit.results.taken import TakenFor
from rushkit.results.together import Together, together_at
from rushkit.results.training import Finetuning, Pretraining
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.metrics import MetricsLog

EPS = 8 / 255
CLASSES = ("cat", "dog", "bird")
RULES = ("majority", "mean")
NOISE = Noise(name="uniform", scale=0.3)
WITHOUT_NOISE = Noise(name="none")


class Runs:
    """Writes run folders below ``root``, each a minute after the one before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def add(
        self,
        verb: str,
        parent: RunInfo | None = None,
        results: StageResults | None = None,
        recipe: Recipe | None = None,
        status: str = "finished",
        metrics: Sequence[dict[str, Any]] = (),
        name: str = "cifar10",
        **facts: Any,
    ) -> RunInfo:
        """A run of a verb; its parent is a checkpoint in the folder of another."""
        self.count += 1
        path = self.root / f"20300101-00{self.count:02d}00-{verb}-{name.replace('/', '-')}-{self.count:06x}"
        path.mkdir(parents=True)
        started = f"2030-01-01T00:{self.count:02d}:00+00:00"
        ended = f"2030-01-01T00:{self.count:02d}:30+00:00"
        data = {
            "schema": 1,
            "verb": verb,
            "recipe": name,
            "status": status,
            "started": started,
            "ended": ended,
            "sessions": [{"started": started, "ended": ended}],
            "argv": ["/somewhere/rushkit", verb, "--set", "a b=1"],
            "machine": "cpu (1 threads), float32",
            "seed": 0,
            "versions": {"rushkit": "0.1.0"},
            # As a run that was started elsewhere would say it.
            "parent": parent and f"elsewhere/{parent.path.name}/checkpoints/step-000010.safetensors",
            **facts,
        }
        (path / "run.json").write_text(json.dumps(data))
        (path / "recipe.toml").write_text(toml.dumps((recipe or recipe_of("cifar10")).resolved()))
        if results is not None:
            (path / "results.json").write_text(dump(results))
        log = MetricsLog(path / "metrics.jsonl")
        for line in metrics:
            log.append(**line)
        log.close()
        return self.info(path)

    def info(self, path: Path) -> RunInfo:
        return next(run for run in find_runs(self.root) if run.path == path)

    def model(self, **facts: Any) -> RunInfo:
        """A pre-trained and a fine-tuned run; the latter."""
        encoder = self.add("pretrain", results=pretraining(), metrics=METRICS, **facts)
        return self.add("finetune", encoder, finetuning(), metrics=METRICS[:-1], **facts)


METRICS = [
    *({"step": step, "epoch": 1 + (step - 1) // 5, "kind": "step", "loss": 5.0 - step / 10} for step in range(1, 11)),
    {"step": 5, "epoch": 1, "kind": "epoch", "loss": 4.7},
    {"step": 10, "epoch": 2, "kind": "epoch", "loss": 4.2, "knn_accuracy": 0.5},
]


def recipe_of(name: str, *changes: str) -> Recipe:
    return load_recipe(name, changes, {})


def pretraining(loss: float = 4.0, **facts: Any) -> Pretraining:
    return Pretraining(**{"recipe": "cifar10", "epochs": 2, "loss": loss, "knn_protocol": None, **facts})


def finetuning(loss: float = 0.4) -> Finetuning:
    return Finetuning(recipe="cifar10", epochs=2, source=None, loaded=0, trainable=[], loss=loss)


def imported(makes: str, clean: CleanCheck | None = None) -> Imported:
    return Imported(
        recipe="cifar10",
        makes=makes,
        imported=Origin(file="x/theirs.pt", sha256="0123456789abcdef", renamed={}, ignored=[], notes=[]),
        backbone=Backbone(name="resnet18"),
        noise=NOISE,
        parameters=10,
        image_size=32,
        channels=3,
        classes=10 if makes == "classifier" else None,
        clean=clean,
    )


def evaluation(
    right: Sequence[bool],
    samples: Sequence[int] = (1, 64),
    data: str = "cifar10/test",
    noise: Noise = NOISE,
    per_class: dict[str, float | None] | None = None,
) -> Evaluation:
    """Results of ``rushkit evaluate`` for images of the first classes in turn, of which some are right."""
    labels = torch.arange(len(right)) % len(CLASSES)
    hits = torch.tensor(right)
    predicted = torch.where(hits, labels, (labels + 1) % len(CLASSES)).tolist()
    by_class = per_class or per_class_accuracy(hits, labels, CLASSES)
    rules = ("majority", "mean")
    return Evaluation(
        recipe="cifar10",
        source="x",
        data=data,
        noise=noise,
        accuracy=[
            AccuracyRow(samples=m, rule=rule, **accuracy_row(hits), per_class=by_class)
            for m in samples
            for rule in rules
        ],
        outcomes=EvaluationOutcomes(
            labels=labels.tolist(),
            predicted={str(m): dict.fromkeys(rules, predicted) for m in samples},
        ),
    )


def attack_row(
    right: Sequence[int],
    protocol: str = "strict",
    samples: int = 64,
    attack: str = "pgd",
    eps: float = EPS,
    norm: str = "linf",
    images: Sequence[int] | None = None,
    split: str = "cifar10/test",
    deviations: Sequence[dict[str, Any]] = (),
    **facts: Any,
) -> AttackRow:
    """One row of ``rushkit attack``: how many of the votes were right, by image.

    There is one vote under paper and of a published attack, else 10. ``facts`` may replace it, ``labels``, ``notes``,
    ``contributions``, ``candidates`` and what says how it searched.
    """
    votes = facts.get("votes", 1 if protocol in ("paper", "published") else 10)
    counts = list(right)
    places = list(images if images is not None else range(len(counts)))
    outcomes = AttackOutcomes(
        images=places,
        right=dict.fromkeys(RULES, counts),
        clean_right={rule: [votes] * len(counts) for rule in RULES},
        labels=facts.get("labels", [index % len(CLASSES) for index in places]),
        chosen=[0] * len(counts),
        indices=places,
    )
    return AttackRow(
        split=split,
        attack=attack,
        norm=norm,
        eps=eps,
        protocol=protocol,
        deviations=list(deviations),
        samples=samples,
        votes=votes,
        gradient_samples=samples,
        candidates=facts.get("candidates", [Candidate(label=f"{attack} nll", options={})]),
        images=len(places),
        rules=figures_by_rule(outcomes, votes),
        outcomes=outcomes,
        seconds=1.0,
        image_forwards=10,
        image_backwards=5,
        contributions=facts.get("contributions", {f"{attack} nll": sum(count == 0 for count in counts)}),
        notes=facts.get("notes", []),
        version=facts.get("version", VERSIONS[protocol]),
        **{
            name: facts[name]
            for name in ("effort", "rounds", "selection", "thresholds", "convergence")
            if name in facts
        },
    )


def attacks(*rows: AttackRow, noise: Noise = NOISE, classes: Sequence[str] = ()) -> Attacks:
    """Results of ``rushkit attack``."""
    about = {"recipe": "cifar10", "source": "x", "data": "cifar10", "noise": noise, "classes": list(classes)}
    return Attacks(**about, attacks=list(rows), failed=[])


def taken(row: AttackRow, others: int = len(CLASSES)) -> AttackRow:
    """The row with what images are taken for: all wrong votes on an image give the class after its own."""
    outcomes, votes = row.outcomes, row.votes

    def most(counts: Sequence[int]) -> TakenFor:
        pairs = [
            max((right, -label), (votes - right, -((label + 1) % others)))
            for label, right in zip(outcomes.labels, counts, strict=True)
        ]
        return TakenFor(classes=[-index for _, index in pairs], votes=[count for count, _ in pairs])

    by_rule = {rule: most(counts) for rule, counts in outcomes.right.items()}
    clean = {rule: most(counts) for rule, counts in outcomes.clean_right.items()}
    return row.with_changes(outcomes=outcomes.with_changes(taken_for=by_rule, clean_taken_for=clean))


def certified_row(radius: float, share: dict[str, Any], together: Together, strict: int = 0) -> CertifiedRate:
    """The row of a radius; of the certified images ``strict`` are also certified at the alpha of the strict ones."""
    strict = share["count"] if together.most_false == 0 else strict
    proved = together.proved(share["count"], strict)
    return CertifiedRate(radius=radius, **share, strict=strict, proved=proved, proved_value=proved / share["total"])


def certification(
    radii: Sequence[float],
    right: Sequence[bool],
    mode: Mode = "fixed",
    norm: str = "l1",
    noise: Noise = NOISE,
    asked: Sequence[float] = (0.0, 0.1, 0.2),
    **facts: Any,
) -> Certification:
    """Results of ``rushkit certify`` at the radii that were asked for; ``facts`` replace fields."""
    total = len(radii)
    together = together_at(facts.get("alpha", 0.001), total)
    pairs = list(zip(radii, right, strict=True))

    def share(count: int) -> dict[str, Any]:
        row = accuracy_row(torch.arange(total) < count)
        return {"count": count, "total": total, "value": row["accuracy"], "low": row["low"], "high": row["high"]}

    fields: dict[str, Any] = {
        "recipe": "cifar10",
        "source": "x",
        "model": "hash",
        "data": "cifar10/test",
        "noise": noise,
        "mode": mode,
        "norm": norm,
        "rule": "majority",
        "bound": "clopper-pearson",
        "theorem": "Neyman-Pearson, tight",
        "alpha": 0.001,
        "samples": 1000,
        "selection": 100,
        "two_class": False,
        "images": total,
        "smoothed": Rate(**share(sum(right))),
        "accuracy": Rate(**share(sum(right))),
        "abstained": Rate(**share(0)),
        "average_radius": 0.1,
        "average_radius_error": 0.01,
        "certified": [
            certified_row(r, share(sum(hit and radius >= r for radius, hit in pairs)), together) for r in asked
        ],
        "together": together,
        "reach": 0.3,
        "limit": None,
        "covers": "Covered: little.",
        "assumptions": ["One."],
        "warnings": [],
        "empirical": [],
        "checks": AttackAgreement(agree_with_attacks=True, messages=[]),
        "draws": 1000 * total,
        "seconds": 1.0,
        "counts": Seal(lines=total, chain="x"),
        "outcomes": CertificationOutcomes(
            images=list(range(total)),
            labels=[0] * total,
            predicted=[0 if hit else 1 for hit in right],
            p_lower=[0.5] * total,
            p_upper=[0.5] * total,
            radius=list(radii),
        ),
    }
    if mode == "sequential":
        fields |= {"draws_used": DrawsUsed(mean=100.0, most=100, images=[100] * total), "undecided": 0}
    return Certification(**fields | facts)


def transferred(row: AttackRow, right: Sequence[int], to: str) -> AttackRow:
    """A row of ``rushkit attack --transfer-to``: how many votes of the other model were right, by image."""
    by_rule = {rule: list(right) for rule in RULES}
    clean_right = row.outcomes.clean_right
    outcomes = VoteOutcomes(images=row.outcomes.images, right=by_rule, clean_right=clean_right)
    there = Transfer(
        model=f"elsewhere/{to}/checkpoints/step-000010.safetensors",
        hash="x",
        noise=NOISE,
        samples=row.samples,
        votes=row.votes,
        images=row.images,
        rules=figures_by_rule(outcomes, row.votes),
        outcomes=outcomes,
    )
    return row.with_changes(transfer=there)


def probed(*encoders: str) -> Probe:
    """Results of ``rushkit probe`` for these encoders, on four images."""
    ways = ("random", "ascent")
    values = {f"{name} {way}": [0.1, 0.2, 0.3, 0.4] for name in encoders for way in ways}
    return Probe(
        recipe="cifar10",
        source="x",
        supervised=None,
        data="cifar10/test",
        images=4,
        size="",
        norm="linf",
        eps=EPS,
        steps=20,
        rows=[summary(name, way, np.array(values[f"{name} {way}"]), 0) for name in encoders for way in ways],
        outcomes=values,
    )


def audited(*statuses: str, drop: float | None = None, noise: Noise = NOISE) -> Audit:
    """Results of ``rushkit audit`` with a check of each status."""
    checks = [
        Check(code=f"RK{101 + index}", name=f"check-{index}", status=status, says="seen", figures={})
        for index, status in enumerate(statuses)
    ]
    if drop is not None:
        power = {"smallest_drop": drop}
        checks.append(Check(code="RK119", name="few", status="pass", says="seen", figures=power))
    points = [AuditPoint(label=f"{n} steps", value=n, accuracy=1 / n, share=[1 / n] * 9) for n in (2, 4)]
    return Audit(
        recipe="cifar10",
        source="x",
        data="cifar10/test",
        noise=noise,
        samples=64,
        settings=AuditSettings(norm="linf", eps=EPS, steps=20, eot=10, queries=200, planted=8, seed=0),
        size="",
        checks=checks,
        images=12,
        attacked=list(range(9)),
        sweeps=AuditSweeps(steps=points, eot=points, eps=points, losses=[]),
        attacks=AuditAttacks(),
        loss_curve=[1.0, 2.0],
        gradients=None,
        passes=9000,
        announced=10_000,
    )
