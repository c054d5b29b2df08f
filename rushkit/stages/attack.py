"""Robust accuracy under attack, protocol by protocol, with what every image did.

Attacks run on blocks of images, and each block's outcome goes to the run folder as soon as it is there: a stopped
attack goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rushkit.data.memory import Split, limit
from rushkit.errors import Interrupted
from rushkit.recipe.schema import Attack, Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.run.signals import graceful_stop
from rushkit.smoothing import Rule, SmoothedClassifier
from rushkit.stages import build
from rushkit.stages.blocklog import BlockLog
from rushkit.stages.load import load_classifier
from rushkit.stages.outcomes import labels_of, smoothed
from rushkit.stages.protocols import Candidate, Plan, ProtocolName, plan_attack
from rushkit.stages.robustness import robustness_row
from rushkit.stages.start import machine_of, start_run
from rushkit.system import Machine, derived_seed

# Images that one gradient pass holds, draws included, where the recipe does not say.
_PASS = {"cpu": 512, "cuda": 8192, "mps": 1024}
# Draws that choose between the candidates of an image; none of them scores it.
_SELECTION_SAMPLES = 100
RULES: tuple[Rule, ...] = ("majority", "mean")


def attack(
    recipe: Recipe, source: Checkpoint, run: Run | None = None, protocols: Sequence[ProtocolName] = ("paper", "strict")
) -> dict[str, Any]:
    """Attack a fine-tuned model by every ``[[attack]]`` of the recipe, under each m and protocol.

    Args:
        recipe: Sections data, noise, attack, system.
        source: A fine-tuned checkpoint.
        run: Takes outcomes and results; one that was stopped goes on. None: a new one.
        protocols: Which of ``paper`` and ``strict``.

    Returns:
        What results.json holds: ``attacks``, one row for each attack, protocol and m, with every image's outcome.

    Raises:
        Interrupted: a signal asked to stop; what is done is kept.
    """
    if run is None:
        with start_run("attack", recipe, parent=str(source.path)) as run:
            return attack(recipe, source, run, protocols)
    machine = machine_of(recipe)
    classifier = load_classifier(source, machine)
    dataset, noise = build.build_dataset(recipe), build.build_noise(recipe)
    jobs = [
        (section, protocol, m)
        for section in recipe.attack
        for m in sorted(set(section.samples))
        for protocol in protocols
    ]
    rows = []
    with graceful_stop(lambda name: run.speaker.say(f"{name}: stopping after this block")) as stop:
        for section, protocol, m in jobs:
            split = limit(build.load_split(recipe, dataset, section.split), section.limit)
            labels_of(split, len(classifier.classes))
            plan = plan_attack(section, protocol, m, len(classifier.classes), recipe.system.seed)
            g = smoothed(classifier.network, noise, m, recipe.system.chunk, machine)
            size = recipe.system.chunk or _PASS[machine.device.type]
            size = max(1, size // plan.gradient_samples)
            name = f"{section.type}-{section.norm}-{section.eps:.6g}-{protocol}-m{m}"
            log = BlockLog(
                run.subfolder("counts") / f"{name}.jsonl",
                {
                    "model": source.hash,
                    "data": split.name,
                    "images": len(split),
                    "noise": recipe.noise.model_dump(),
                    "plan": [[candidate.name, candidate.options] for candidate in plan.candidates],
                    "norm": section.norm,
                    "eps": section.eps,
                    "samples": m,
                    "votes": plan.votes,
                    "block": size,
                    "seed": recipe.system.seed,
                },
            )
            run.speaker.say(_announce(section, plan, m, split, machine))
            started = time.perf_counter()
            with run.speaker.progress(len(split), f"{section.type} {protocol} m={m}", "images", start=log.done) as bar:
                for block in blocks(split, log.done, size, machine.device):
                    outcome = attack_block(g, plan, section, block, recipe.system.seed)
                    log.append(outcome)
                    bar.advance(len(outcome["images"]))
                    if stop.requested:
                        raise Interrupted(
                            f"stopped; the outcomes of {log.done} of {len(split)} images under {name} are kept",
                            f"go on with: rushkit attack --resume --run {run.path}",
                        )
            rows.append(
                {
                    "attack": section.type,
                    "norm": section.norm,
                    "eps": section.eps,
                    "protocol": protocol,
                    "samples": m,
                    "votes": plan.votes,
                    "gradient_samples": plan.gradient_samples,
                    "candidates": [{"label": c.label, "options": c.options} for c in plan.candidates],
                    "seconds": time.perf_counter() - started,
                    **robustness_row(log.records(), plan.votes),
                }
            )
    results = {
        "stage": "attack",
        "recipe": recipe.name,
        "source": str(source.path),
        "data": recipe.data.name,
        "noise": recipe.noise.model_dump(),
        "attacks": rows,
    }
    run.write_results(results)
    return results


@dataclass(frozen=True)
class Block:
    """A few images under attack together.

    Attributes:
        start: Index of the first one in the split.
        x: (N, C, H, W) float32 in [0, 1].
        y: (N,) int64.
    """

    start: int
    x: Tensor
    y: Tensor


def blocks(split: Split, start: int, size: int, device: torch.device) -> Iterator[Block]:
    """The images from index ``start`` on, ``size`` at a time."""
    assert split.labels is not None
    for first in range(start, len(split), size):
        images, labels = split.images[first : first + size], split.labels[first : first + size]
        yield Block(first, build.to_float(images.to(device)), labels.to(device))


def attack_block(g: SmoothedClassifier, plan: Plan, section: Attack, block: Block, seed: int) -> dict[str, Any]:
    """Run the plan's attacks on a block, keep the best image of each, and let fresh noise vote on it.

    Returns:
        A JSON record: for each image its label, which candidate it kept, and of how many votes it and its clean
        original are right, by rule; and the passes that the attacks made.
    """
    found, forwards, backwards = [], 0, 0
    for candidate in plan.candidates:
        # Draws of their own for each block: the seed of the recipe alone would repeat them.
        own = Candidate(candidate.label, candidate.name, _with_seed(candidate.options, block.start))
        attacker = own.create(section)
        before = g.image_forwards
        if hasattr(attacker, "run"):
            result = attacker.run(g, block.x, block.y)
            found.append(result.x_adv)
            forwards, backwards = forwards + result.image_forwards, backwards + result.image_backwards
        else:
            found.append(attacker(g, block.x, block.y))
            forwards += g.image_forwards - before
    chosen = choose(g, found, block.y, derived_seed(seed, "selection", block.start))
    x_adv = torch.stack(found)[chosen, torch.arange(len(block.x), device=block.x.device)]
    return {
        "images": list(range(block.start, block.start + len(block.x))),
        "labels": block.y.tolist(),
        "chosen": chosen.tolist(),
        "right": count_right(g, x_adv, block.y, plan.votes, derived_seed(seed, "score", block.start)),
        "clean_right": count_right(g, block.x, block.y, plan.votes, derived_seed(seed, "clean", block.start)),
        "image_forwards": forwards,
        "image_backwards": backwards,
    }


def choose(g: SmoothedClassifier, found: Sequence[Tensor], y: Tensor, seed: int) -> Tensor:
    """(N,) which of several adversarial versions of each image loses most votes on a panel that scores nothing else."""
    if len(found) == 1:
        return torch.zeros_like(y)
    leads = []
    for x_adv in found:
        # The same draws for every version: what differs is the image.
        with g.fresh_noise(seed):
            tally = g.tally(x_adv, max(g.samples, _SELECTION_SAMPLES))
        own = tally.votes.gather(1, y[:, None]).squeeze(1)
        rival = tally.votes.scatter(1, y[:, None], -1).amax(dim=1)
        # Confidence decides between equal votes.
        doubt = 1 - tally.confidence.gather(1, y[:, None]).squeeze(1) / tally.samples
        leads.append((rival - own) + doubt)
    return torch.stack(leads).argmax(dim=0)


def count_right(g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int) -> dict[str, list[int]]:
    """By rule, for each image, how many of ``votes`` independent predictions by m fresh draws are right."""
    right = {rule: torch.zeros_like(y) for rule in RULES}
    with g.fresh_noise(seed):
        for _ in range(votes):
            tally = g.tally(x)
            for rule in RULES:
                right[rule] += tally.predict(rule) == y
    return {rule: counts.tolist() for rule, counts in right.items()}


def _with_seed(options: dict[str, Any], start: int) -> dict[str, Any]:
    return options | {"seed": derived_seed(options["seed"], "attack", start)} if "seed" in options else options


def _announce(section: Attack, plan: Plan, m: int, split: Split, machine: Machine) -> str:
    labels = ", ".join(candidate.label for candidate in plan.candidates)
    times = "one vote" if plan.votes == 1 else f"{plan.votes} votes"
    return (
        f"attack {section.type} {section.norm} eps {section.eps:.4g}, protocol {plan.protocol}, m = {m}: {labels}; "
        f"{plan.gradient_samples} draws a gradient; {times} of fresh noise on {len(split)} images of {split.name}; "
        f"{machine}"
    )
