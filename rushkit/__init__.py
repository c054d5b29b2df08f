"""rushkit: contrastive learning with randomized smoothing, and an honest measure of the robustness that comes of it.

Public names are imported when they are first used, so ``import rushkit`` does not import torch.
"""

from __future__ import annotations

# Not that of typing: the command's first line is to come as early as it can, and a Ctrl-C before it is a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

# Public name -> "module:attribute", or the module itself.
_LAZY = {
    "RushkitError": "rushkit.errors:RushkitError",
    "SmoothedClassifier": "rushkit.smoothing:SmoothedClassifier",
    "attack": "rushkit.robustness.attack:attack",
    "attacks": "rushkit.attacks",
    "audit": "rushkit.auditing.audit:audit",
    "audit_settings": "rushkit.auditing.audit:audit_settings",
    "backbones": "rushkit.models",
    "bench": "rushkit.speed.bench:bench",
    "certificates": "rushkit.certificates",
    "certify": "rushkit.certification.certify:certify",
    "classifier": "rushkit.setup.in_memory:classifier",
    "cluster": "rushkit.training.cluster:cluster",
    "compare": "rushkit.report.compared:compare",
    "datasets": "rushkit.data",
    "evaluate": "rushkit.evaluation.evaluate:evaluate",
    "export": "rushkit.exchange.export:export",
    "find_runs": "rushkit.run.info:find_runs",
    "finetune": "rushkit.training.finetune:finetune",
    "import_model": "rushkit.exchange.import_model:import_model",
    "import_recipe": "rushkit.exchange.plan:import_recipe",
    "load": "rushkit.setup.model:load",
    "load_recipe": "rushkit.recipe.load:load_recipe",
    "noises": "rushkit.noises",
    "objectives": "rushkit.objectives",
    "open_checkpoint": "rushkit.setup.model:open_checkpoint",
    "predict": "rushkit.certification.predict:predict",
    "pretrain": "rushkit.training.pretrain:pretrain",
    "probe": "rushkit.evaluation.probe:probe",
    "read_metrics": "rushkit.run.metrics:read_metrics",
    "registries": "rushkit.registries",
    # A package that can be called.
    "report": "rushkit.report",
    "results": "rushkit.results",
    "statistics": "rushkit.statistics",
    "trackers": "rushkit.trackers",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'rushkit' has no attribute {name!r}")
    import importlib

    module, _, attribute = _LAZY[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted(__all__)
