"""Models from outside a study: the run or the checkpoint that a row names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rushkit.errors import CheckpointError
from rushkit.study.derive import Made
from rushkit.study.stages import MODELS


@dataclass(frozen=True)
class Outside:
    """A model that no job of the study makes.

    Attributes:
        made: What its checkpoint says.
        identity: ``sha256:`` and the hash of the checkpoint's tensors and metadata.
        path: The checkpoint's file.
    """

    made: Made
    identity: str
    path: Path


def open_outside(named: str, runs: Path) -> Outside:
    """Open the checkpoint that a row names. Imports torch.

    Args:
        named: A run's id, the end of it, a folder, ``shipped/NAME`` or a checkpoint's file.
        runs: The folder of runs.

    Raises:
        UsageError: nothing of this name.
        CheckpointError: no checkpoint, a damaged one, or one that no training stage wrote.
    """
    from rushkit.run.source import resolve_from
    from rushkit.setup.model import image_size_of, recipe_of

    checkpoint = resolve_from(named, runs, MODELS).load()
    stage = next((stage for stage in MODELS if stage == checkpoint.meta.get("stage")), None)
    if stage is None:
        raise CheckpointError(f"{checkpoint.path} was written by no training stage", "name another one")
    made = Made(stage, recipe_of(checkpoint), image_size_of(checkpoint))
    return Outside(made, f"sha256:{checkpoint.hash}", checkpoint.path)
