"""The results that the RUSH paper reports: its Table 1, and the setting of its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rushkit.recipe import toml
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.report.published import PublishedRow, table_1
from rushkit.results.words import noise_words, plain_noise

SOURCE = (
    "Table 1 of the RUSH paper (arXiv 2207.05127), ResNet-18, l-inf 8/255; its authors now say that the defence fails "
    "under EOT"
)
NORM, EPS = "linf", 8 / 255
# What the paper calls a vote of 64 draws, and a single one.
STRATEGIES = {64: "I_F+", 1: "I_F"}
# What a reader outside the field may not know of what stands around Table 1.
TERMS = {
    "I_F": "the paper's prediction from one draw of noise",
    "I_F+": "the paper's majority vote of 64 draws",
    "EOT": "expectation over transformation, gradients as the mean over many draws of the noise",
}

# The recipe with the paper's setting for a data set of pre-training; that of CIFAR-10 where the paper has none.
_SHIPPED = {"cifar100": "cifar100", "stl10": "stl10-unlabeled"}
# What is looked at or kept while training, and changes no weight.
_SILENT = (
    "pretrain.knn.",
    "pretrain.save_every",
    "pretrain.keep",
    "finetune.save_every",
    "finetune.keep",
    "finetune.validation.",
)
_PHRASES = {
    "backbone.name": "backbone {}, not {}",
    "pretrain.objective": "pre-training objective {}, not {}",
    "pretrain.epochs": "{} epochs of pre-training, not {}",
    "pretrain.batch_size": "pre-training batches of {}, not {}",
    "finetune.epochs": "{} epochs of fine-tuning, not {}",
    "finetune.freeze": "fine-tuning froze {}, not {}",
}


def reported(pretrained_on: str, finetuned_on: str, samples: int) -> PublishedRow | None:
    """Return RUSH's row of Table 1 for these data sets and this m, or None if it has none."""
    key = ((pretrained_on, finetuned_on), samples)
    return next((row for row in table_1() if (row.data, row.samples) == key), None)


def footnote(shown: str) -> str:
    """Return what the terms mean that appear in a text; empty where none does."""
    used = [term for term in TERMS if re.search(rf"\b{re.escape(term)}(?![\w+])", shown)]
    return "; ".join(f"{term}: {TERMS[term]}" for term in used) + "." if used else ""


def differences(pretraining: Recipe | None, finetuning: Recipe) -> list[str]:
    """Return in what a model differs from the paper's setting, such as "60 epochs of pre-training, not 1000".

    The paper's setting is that of the shipped recipe for the data set; keys that change no weight do not count.
    """
    phrases = []
    ours = plain_noise(finetuning.noise)
    if ours != {"name": "uniform", "scale": 0.3}:
        phrases.append(f"noise {noise_words(ours)}, not uniform scale 0.3")
    if pretraining is None:
        phrases += ["pre-training unknown", *_changed(finetuning, ("backbone",))]
    else:
        phrases += _changed(pretraining, ("backbone", "projector", "pretrain"))
    phrases += _changed(finetuning, ("finetune",))
    limits = sorted({recipe.data.limit for recipe in (pretraining, finetuning) if recipe and recipe.data.limit})
    if limits:
        phrases.append(f"at most {limits[0]} images a split, not all")
    return phrases


def _changed(recipe: Recipe, sections: Sequence[str]) -> Iterator[str]:
    """Return a phrase for each key of these sections that is not the paper's."""
    paper = load_recipe(_SHIPPED.get(recipe.data.name, "cifar10"), environment={})
    ours, theirs = toml.flatten(recipe.resolved()), toml.flatten(paper.resolved())
    for key in dict.fromkeys((*ours, *theirs)):
        value, other = ours.get(key, "unset"), theirs.get(key, "unset")
        # Options of one backbone are none of another's.
        foreign = key.startswith("backbone.") and key != "backbone.name" and recipe.backbone.name != paper.backbone.name
        if value != other and not foreign and key.partition(".")[0] in sections and not key.startswith(_SILENT):
            yield _PHRASES.get(key, f"{key} {{}}, not {{}}").format(value, other)
