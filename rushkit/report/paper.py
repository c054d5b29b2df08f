"""The published row beside which a model's figures stand, and in what the model differs from its method's setting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rushkit.recipe import toml
from rushkit.recipe.find import shipped_folder
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.results.published import PublishedRow, published_rows
from rushkit.results.words import noise_words, plain_noise
from rushkit.rounding import counted

SOURCE = (
    "Table 1 of the RUSH paper (arXiv 2207.05127), whose caption says ResNet-18 and l-inf 8/255 of every row; only "
    "some are that. RUSH's authors now say that the defence fails under EOT"
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

RUSH = "rush"

# The recipe with the paper's setting for a data set of pre-training; that of CIFAR-10 where the paper has none.
_SHIPPED = {"cifar100": "cifar100", "stl10": "stl10-unlabeled"}
# The recipes of other methods are NAME-cifar10, but for these.
_SHIPPED_FOR = {"free": "free-8-cifar10", "data-aug": "data-aug-ddpm-cifar10", "pgd-at-awp": "pgd-at-cifar10"}
# The recipes of the public ways to fine-tune.
_FINETUNINGS = {"linear": "slf", "full": "aff"}
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
    "finetune.objective": "fine-tuning objective {}, not {}",
}


def method_of(pretraining: Recipe | None, finetuning: Recipe | None, from_scratch: bool) -> str | None:
    """Return the ``objective`` of published rows that a model's training is, or None if it is not known.

    A pre-trained model is its pre-training's; RUSH's is so with a fine-tuning by cross-entropy alone. One that was
    trained from scratch is its fine-tuning's.

    Args:
        pretraining: The recipe of its pre-training, if any run of it is known.
        finetuning: The recipe of its fine-tuning; None for an encoder or a foreign model.
        from_scratch: Whether it was fine-tuned from random weights.
    """
    if finetuning is None:
        return None
    settings = finetuning.finetune
    if pretraining is not None:
        objective = pretraining.pretrain.objective
        return None if objective == RUSH and settings.objective != "cross-entropy" else objective
    if not from_scratch:
        return None
    options = settings.options
    if settings.objective == "trades" and (options.get("cutmix") or settings.average.decay or settings.extra.path):
        return "data-aug"
    return f"{settings.objective}-awp" if options.get("awp") else settings.objective


def finetuned(recipe: Recipe) -> str:
    """Return what a recipe fine-tunes: a ``"linear"`` head, or the ``"full"`` network."""
    return "full" if recipe.finetune.freeze == "none" else "linear"


def reported(method: str | None, data: tuple[str, str], tuned: str, samples: int) -> PublishedRow | None:
    """Return the published row of a method on its data, or None: the RUSH paper's before others, then the first.

    Example::

        row = reported("deacl", ("cifar10", "cifar10"), "full", samples=1)
        print(row.standard, row.what)

    Args:
        method: As ``method_of`` says.
        data: Data sets of pre-training and of test.
        tuned: ``"linear"`` or ``"full"``; of several rows that with such a fine-tuning comes first.
        samples: m, which tells RUSH's rows apart.
    """
    rows = [
        row
        for row in published_rows()
        if (row.objective, row.data) == (method, data)
        and row.samples in (None, samples)
        and (row.standard, row.pgd, row.autoattack) != (None, None, None)
    ]
    return min(rows, key=lambda row: (not row.table_1, row.finetuning != tuned), default=None)


def footnote(shown: str) -> str:
    """Return what the terms mean that appear in a text; empty where none does."""
    used = [term for term in TERMS if re.search(rf"\b{re.escape(term)}(?![\w+])", shown)]
    return "; ".join(f"{term}: {TERMS[term]}" for term in used) + "." if used else ""


def differences(
    pretraining: Recipe | None, finetuning: Recipe, method: str | None = RUSH, published: str = ""
) -> list[str]:
    """Return in what a model differs from its method's setting, such as "60 epochs of pre-training, not 1000".

    The setting is that of the shipped recipe for the method and, of RUSH, for the data set; keys that change no weight
    do not count. There are none where no recipe of the method is shipped.

    Args:
        pretraining: The recipe of the pre-training; None if no run of it is known.
        finetuning: The recipe of the fine-tuning.
        method: As ``method_of`` says.
        published: The ``finetuning`` of the published row, where it may be another than that of the shipped recipe.
    """
    phrases = []
    known = pretraining or finetuning
    rush = method in (RUSH, None)
    name = _SHIPPED.get(known.data.name, "cifar10") if rush else _SHIPPED_FOR.get(f"{method}", f"{method}-cifar10")
    if not (shipped_folder() / f"{name}.toml").exists():
        return []
    setting = load_recipe(f"rushkit/{name}", environment={}, components=False)
    ours, theirs = (plain_noise(recipe.noise) for recipe in (finetuning, setting))
    if ours != theirs:
        phrases.append(f"noise {noise_words(ours)}, not {noise_words(theirs)}")
    if pretraining is not None:
        phrases += _changed(pretraining, setting, ("backbone", "projector", "pretrain"))
    else:
        phrases += ["pre-training unknown"] if rush else []
        phrases += _changed(finetuning, setting, ("backbone",))
    if published and published != finetuned(setting):
        setting = load_recipe(f"rushkit/{_FINETUNINGS[published]}", environment={}, components=False)
    if finetuning.finetune.objective == setting.finetune.objective:
        phrases += _changed(finetuning, setting, ("finetune",))
    else:
        # Another objective has other settings: that it is another one says it all.
        named = (recipe.finetune.objective for recipe in (finetuning, setting))
        phrases.append(_PHRASES["finetune.objective"].format(*named))
    limits = sorted({recipe.data.limit for recipe in (pretraining, finetuning) if recipe and recipe.data.limit})
    if limits:
        phrases.append(f"at most {counted(limits[0], 'image')} a split, not all")
    return phrases


def _changed(recipe: Recipe, paper: Recipe, sections: Sequence[str]) -> Iterator[str]:
    """Return a phrase for each key of these sections that is not the paper's."""
    ours, theirs = toml.flatten(recipe.resolved()), toml.flatten(paper.resolved())
    for key in dict.fromkeys((*ours, *theirs)):
        value, other = ours.get(key, "unset"), theirs.get(key, "unset")
        # Options of one backbone are none of another's.
        foreign = key.startswith("backbone.") and key != "backbone.name" and recipe.backbone.name != paper.backbone.name
        if value != other and not foreign and key.partition(".")[0] in sections and not key.startswith(_SILENT):
            # The phrases that begin with a number of epochs.
            of_one = value == 1 and not isinstance(value, bool)
            phrase = _PHRASES.get(key, f"{key} {{}}, not {{}}")
            yield (phrase.replace("{} epochs", "{} epoch") if of_one else phrase).format(value, other)
