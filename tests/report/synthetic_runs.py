"""Run folders with results in the formats of the stages, without training anything."""

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
from rushkit.recipe.schema import Recipe
from rushkit.results.intervals import accuracy_row, figures, robustness_row
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.metrics import MetricsLog

EPS = 8 / 255
CLASSES = ("cat", "dog", "bird")
NOISE = {"name": "uniform", "scale": 0.3}


class Runs:
    """Writes run folders below ``root``, each a minute after the one before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def add(
        self,
        verb: str,
        parent: RunInfo | None = None,
        results: dict[str, Any] | None = None,
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
            (path / "results.json").write_text(json.dumps(results))
        log = MetricsLog(path / "metrics.jsonl")
        for line in metrics:
            log.append(**line)
        log.close()
        return self.info(path)

    def info(self, path: Path) -> RunInfo:
        return next(run for run in find_runs(self.root) if run.path == path)

    def model(self, **facts: Any) -> RunInfo:
        """A pre-trained and a fine-tuned run; the latter."""
        encoder = self.add("pretrain", results={"stage": "pretrain", "loss": 4.0}, metrics=METRICS, **facts)
        return self.add("finetune", encoder, {"stage": "finetune", "loss": 0.4}, metrics=METRICS[:-1], **facts)


METRICS = [
    *({"step": step, "epoch": 1 + (step - 1) // 5, "kind": "step", "loss": 5.0 - step / 10} for step in range(1, 11)),
    {"step": 5, "epoch": 1, "kind": "epoch", "loss": 4.7},
    {"step": 10, "epoch": 2, "kind": "epoch", "loss": 4.2, "knn_accuracy": 0.5},
]


def recipe_of(name: str, *changes: str) -> Recipe:
    return load_recipe(name, changes, {})


def evaluation(right: Sequence[bool], samples: Sequence[int] = (1, 64), **facts: Any) -> dict[str, Any]:
    """Results of ``rushkit evaluate`` for images of the first classes in turn, of which some are right."""
    labels = torch.arange(len(right)) % len(CLASSES)
    hits = torch.tensor(right)
    predicted = torch.where(hits, labels, (labels + 1) % len(CLASSES))
    rows = [
        {"samples": m, "rule": rule, **accuracy_row(hits), "per_class": per_class_accuracy(hits, labels, CLASSES)}
        for m in samples
        for rule in ("majority", "mean")
    ]
    outcomes = {str(m): {rule: predicted.tolist() for rule in ("majority", "mean")} for m in samples}
    return {
        "stage": "evaluate",
        "recipe": "cifar10",
        "source": "x",
        "data": "cifar10/test",
        "noise": NOISE,
        "accuracy": rows,
        "outcomes": {"labels": labels.tolist(), "predicted": outcomes},
        **facts,
    }


def attack_row(
    right: Sequence[int],
    protocol: str = "strict",
    samples: int = 64,
    attack: str = "pgd",
    eps: float = EPS,
    norm: str = "linf",
    images: Sequence[int] | None = None,
    split: str | None = "cifar10/test",
    deviations: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """One row of ``rushkit attack``: how many of the votes (1 for paper, else 10) were right, by image.

    Split None: as before rows said it.
    """
    votes = 1 if protocol == "paper" else 10
    counts = list(right)
    record = {
        "images": list(images if images is not None else range(len(counts))),
        "labels": [index % len(CLASSES) for index in (images if images is not None else range(len(counts)))],
        "chosen": [0] * len(counts),
        "right": dict.fromkeys(("majority", "mean"), counts),
        "clean_right": {rule: [votes] * len(counts) for rule in ("majority", "mean")},
        "contributions": {f"{attack} nll": sum(count == 0 for count in counts)},
        "notes": [],
        "seconds": 1.0,
        "image_forwards": 10,
        "image_backwards": 5,
    }
    return {
        **({} if split is None else {"split": split}),
        "attack": attack,
        "norm": norm,
        "eps": eps,
        "protocol": protocol,
        "deviations": list(deviations),
        "samples": samples,
        "votes": votes,
        "gradient_samples": samples,
        "candidates": [{"label": f"{attack} nll", "options": {}}],
        **robustness_row([record], votes),
    }


def attacks(*rows: dict[str, Any]) -> dict[str, Any]:
    """Results of ``rushkit attack``."""
    return {
        "stage": "attack",
        "recipe": "cifar10",
        "source": "x",
        "data": "cifar10",
        "noise": NOISE,
        "attacks": list(rows),
        "failed": [],
    }


def certification(
    radii: Sequence[float], right: Sequence[bool], mode: str = "fixed", norm: str = "l1"
) -> dict[str, Any]:
    """Results of ``rushkit certify``."""
    total = len(radii)

    def share(count: int) -> dict[str, Any]:
        row = accuracy_row(torch.arange(total) < count)
        return {"count": count, "total": total, "value": row["accuracy"], "low": row["low"], "high": row["high"]}

    pairs = list(zip(radii, right, strict=True))
    certified = [{"radius": r, **share(sum(hit and radius >= r for radius, hit in pairs))} for r in (0.0, 0.1, 0.2)]
    return {
        "stage": "certify",
        "recipe": "cifar10",
        "source": "x",
        "model": "hash",
        "data": "cifar10/test",
        "noise": NOISE,
        "mode": mode,
        "norm": norm,
        "rule": "majority",
        "bound": "clopper-pearson",
        "alpha": 0.001,
        "samples": 1000,
        "images": total,
        "smoothed": share(sum(right)),
        "abstained": share(0),
        "average_radius": 0.1,
        "certified": certified,
        "reach": 0.3,
        "covers": "Covered: little.",
        "assumptions": ["One."],
        "warnings": [],
        "empirical": [],
        "checks": {"agree_with_attacks": True, "messages": []},
        "outcomes": {
            "images": list(range(total)),
            "labels": [0] * total,
            "predicted": [0 if hit else 1 for hit in right],
            "radius": list(radii),
        },
    }


def transferred(row: dict[str, Any], right: Sequence[int], to: str) -> dict[str, Any]:
    """A row of ``rushkit attack --transfer-to``: how many votes of the other model were right, by image."""
    outcomes = row["outcomes"]
    record = {
        "images": outcomes["images"],
        "right": {rule: list(right) for rule in ("majority", "mean")},
        "clean_right": outcomes["clean_right"],
    }
    there = {"model": f"elsewhere/{to}/checkpoints/step-000010.safetensors", "hash": "x", "noise": NOISE}
    return {**row, "transfer": {**there, **figures([record], row["votes"])}}


def probed(*encoders: str) -> dict[str, Any]:
    """Results of ``rushkit probe`` for these encoders, on four images."""
    ways = ("random", "ascent")
    values = {f"{name} {way}": [0.1, 0.2, 0.3, 0.4] for name in encoders for way in ways}
    rows = [
        {"encoder": name, "points": way, **summary(np.array(values[f"{name} {way}"]), 0)}
        for name in encoders
        for way in ways
    ]
    about = {"stage": "probe", "recipe": "cifar10", "source": "x", "supervised": None, "data": "cifar10/test"}
    return {**about, "images": 4, "norm": "linf", "eps": EPS, "steps": 20, "rows": rows, "outcomes": values}


def audited(*statuses: str, attacked: int | None = 9, drop: float | None = None) -> dict[str, Any]:
    """Results of ``rushkit audit`` with a check of each status."""
    checks = [
        {"code": f"RK{101 + index}", "name": f"check-{index}", "status": status, "says": "seen", "figures": {}}
        for index, status in enumerate(statuses)
    ]
    if drop is not None:
        seen = {"smallest drop that warns": drop}
        checks.append({"code": "RK119", "name": "few", "status": "pass", "says": "seen", "figures": seen})
    points = [{"label": f"{n} steps", "value": n, "accuracy": 1 / n, "share": [1 / n] * 9} for n in (2, 4)]
    return {
        **({} if attacked is None else {"attacked": list(range(attacked))}),
        "stage": "audit",
        "recipe": "cifar10",
        "source": "x",
        "data": "cifar10/test",
        "noise": NOISE,
        "samples": 64,
        "images": 12,
        "settings": {"norm": "linf", "eps": EPS},
        "checks": checks,
        "sweeps": {"steps": points, "eot": points, "eps": points, "losses": []},
        "loss_curve": [1.0, 2.0],
    }
