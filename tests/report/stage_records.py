"""One record of each stage, with small figures that can be checked by hand."""

from __future__ import annotations

from synthetic_runs import (
    NOISE,
    attack_row,
    attacks,
    audited,
    certification,
    evaluation,
    finetuning,
    imported,
    pretraining,
    probed,
)

from rushkit.auditing.selftest.totals import totals_of
from rushkit.exchange.exported import Exported
from rushkit.results.clustering import Clustering, Clusters
from rushkit.results.imported import CleanCheck
from rushkit.results.intervals import accuracy_row
from rushkit.results.notes import Check
from rushkit.results.prediction import PredictedImage, Prediction
from rushkit.results.rows import Tabular
from rushkit.results.selftest import SelfTest, SelfTestBudgets, SelfTestRow
from rushkit.results.verification import Estimate, Verification, VerifiedAttack, VerifiedCertificates


def clustering(**facts: object) -> Clustering:
    column = Clusters(clusters=2, sizes=[4, 8], inertia=1.5, iterations=3, settled=True, filled=0, matched=0.75)
    about = {"recipe": "cifar10", "source": "x", "data": "cifar10/train", "images": 12, "content": "c", "table": "t"}
    return Clustering(**{**about, "features": 8, "seed": 0, "starts": 1, "columns": [column], **facts})


def clean_check(right: int = 3, images: int = 4) -> CleanCheck:
    row = accuracy_row([index < right for index in range(images)])
    return CleanCheck(data="cifar10/test", chance=0.25, **row)


def prediction(**facts: object) -> Prediction:
    sure = {"class": "cat", "index": 0, "abstained": False, "top": "cat", "p_lower": 0.9, "p_upper": 1.0}
    unsure = {"class": None, "index": None, "abstained": True, "top": "dog", "p_lower": 0.4, "p_upper": 0.6}
    images = [
        PredictedImage(**sure, radius=0.25, image="a.png", notes=[]),
        PredictedImage(**unsure, radius=0.0, image="b.png", notes=["was resized"]),
    ]
    about = {"source": "x", "noise": NOISE, "norm": "l1", "samples": 9, "selection": 3, "alpha": 0.01, "warnings": []}
    said = {"rule": "majority", "bound": "exact", "theorem": "tight", "explanation": "Explained.", "unreadable": []}
    return Prediction(**{**about, **said, "predictions": images, **facts})


def self_test() -> SelfTest:
    about = {"kind": "broken", "held_out": False, "norm": "linf", "eps": 0.1, "causes": ["RK112"]}
    shares = {"clean": 0.9, "claimed": 0.8, "adaptive": None, "left": 0.25}
    codes = {"failed": ["RK112"], "warned": [], "skipped": [], "caught": True, "counts": True}
    case = SelfTestRow(name="rounded", **about, **shares, **codes, passes=10, seconds=1.0)
    budgets = SelfTestBudgets(images=64, steps=20, eot=10, queries=200, planted=8)
    return SelfTest(seed=3, budgets=budgets, checks=["RK112"], cases=[case], totals=totals_of([case.flagged]))


def verification() -> Verification:
    check = Check(code="RV101", name="votes-differ", status="pass", says="The votes agree.", figures={})
    estimate = Estimate(accuracy=0.5, low=0.25, high=0.75, votes=10)
    said = {"verdict": "consistent", "checks": [check], "sentence": "It is consistent.", "claim": "At most so many."}
    about = {"norm": "linf", "images": 4, "model": "hash", "selection": "the first 4"}
    claimed = {"claimed": estimate, "claimed_clean": estimate, "here": estimate, "digest": "d"}
    attack = VerifiedAttack(attack="pgd strict, m = 64", split="cifar10/test", eps=0.03, **about, **claimed, **said)
    proved = VerifiedCertificates(data="cifar10/test", **about, **said)
    target = {"target": "x", "recipe": "cifar10", "seed": 0, "verdict": "consistent"}
    return Verification(**target, attacks=[attack], certificates=[proved])


def exported(**facts: object) -> Exported:
    about = {"part": "classifier", "source": "x", "hash": "h", "image_size": 8, "channels": 3, "mean": [], "std": []}
    file = {"format": "timm", "file": "model.safetensors", "bytes": 2**20, "difference": 1e-6, "largest": 4.0}
    return Exported(**{**about, "noise": NOISE, "classes": ["cat"], "load": ["import timm"], **file, **facts})


STAGES: dict[str, Tabular] = {
    "pretrain": pretraining(knn_accuracy=0.5),
    "finetune": finetuning(),
    "cluster": clustering(),
    "import": imported("classifier", clean_check()),
    "evaluate": evaluation([True, True, True, False]),
    "attack": attacks(attack_row([1, 1, 1, 0], "paper"), attack_row([10, 5, 0, 0])),
    "certify": certification([0.05, 0.25, 0.1, 0.0], [True, True, False, False]),
    "predict": prediction(),
    "audit": audited("pass", "warn", "fail"),
    "self-test": self_test(),
    "probe": probed("pre-trained"),
    "verify": verification(),
    "export": exported(),
}
