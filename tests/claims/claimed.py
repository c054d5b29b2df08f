"""Attacks on nearest-mean classifiers of the digits, packed: small claims that are honest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nearest_mean import SIDE, nearest_mean

from rushkit.claims.artifact import Artifact
from rushkit.claims.pack import pack
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.robustness.attack import attack
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run

QUIET = Speaker(-1, rank=0)
IMAGES = 40
SETTINGS = (
    f"data.image_size={SIDE}",
    "backbone.name=pixels",
    "attack.0.type=pgd",
    "attack.0.steps=8",
    "attack.0.restarts=1",
    "attack.0.norm=linf",
    "attack.0.eps=0.1",
    f"attack.0.limit={IMAGES}",
    "system.device=cpu",
)
FIXED = ("noise.name=none", "attack.0.samples=[1]")
RANDOM = ("noise.name=uniform", "noise.scale=0.5", "attack.0.samples=[2]")


@dataclass(frozen=True)
class Claim:
    """An artifact, and what it was packed from."""

    artifact: Artifact
    recipe: Recipe
    model: Checkpoint
    run: Path


def make_claim(folder: Path, *changes: str, protocol: str = "strict", attacks: str = "") -> Claim:
    """Attack a nearest-mean classifier under these changes of the recipe, and pack the last row with the weights.

    ``attacks`` replaces the sections attack of ``SETTINGS``, as TOML.
    """
    settings = [one for one in SETTINGS if not attacks or not one.startswith("attack.")]
    settings += [f"attack={attacks}"] * bool(attacks)
    recipe = load_recipe("digits", [*settings, f"system.runs_dir={folder / 'runs'}", *changes], {})
    model = nearest_mean(recipe, folder / "model.safetensors")
    with start_run("attack", recipe, QUIET, model) as run:
        results = attack(recipe, model, run, [protocol], save=True)
    row = results.attacks[-1]
    return Claim(pack(row, recipe, model, run.path, with_weights=True), recipe, model, run.path)
