"""Turn a trained model into one that comes with rushkit, and what was measured of it into its card.

    rushkit pretrain --recipe digits && rushkit finetune --from digits
    python benchmarks/ship.py digits                  # writes the model: shipped/digits
    rushkit evaluate --from shipped/digits --samples 1,64
    rushkit attack --from shipped/digits --type pgd --limit 200
    python benchmarks/ship.py digits                  # again: adds what was measured, and writes the card

The weights of filters and of the head are stored in float16, all else in float32. A measurement of the stored weights
comes before one of the weights that were trained, and the card says where it is one of these.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from rushkit.models.network import num_parameters
from rushkit.recipe import toml
from rushkit.recipe.load import default_runs_dir, read_recipe
from rushkit.recipe.schema import System
from rushkit.report.terminal.headline import figures
from rushkit.results.attacks import Attacks
from rushkit.results.words import PROTOCOL_SENTENCES
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.names import CHECKPOINTS, RECIPE_FILE, RUN_FILE
from rushkit.run.shipped import PREFIX, card_file, shipped_folder, shipped_models
from rushkit.run.source import resolve_from
from rushkit.run.store import CheckpointStore
from rushkit.setup.model import load_classifier
from rushkit.system import Machine

MEASURED = ("evaluate", "attack")
MOST_BYTES = 1_000_000
# What a model was trained on, and what that allows.
DATA = {
    "digits": "the 1437 training images of the embedded digits (E. Alpaydin, C. Kaynak, Optical Recognition of "
    "Handwritten Digits, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49), which are CC BY 4.0 and come "
    "with rushkit: nothing has to be downloaded.",
    "cifar10": "the 50000 training images of CIFAR-10 (A. Krizhevsky, Learning Multiple Layers of Features from Tiny "
    "Images, 2009), which come without a licence and are not part of rushkit: `rushkit data fetch cifar10` brings "
    "them from their authors, or RUSHKIT_DATA says where they lie.",
}


def ship(spec: str, root: str) -> list[str]:
    """Write the model of a finished fine-tuning, or what was measured of it since. Returns what to do next."""
    source = resolve_from(spec, root, "finetune").run
    assert source is not None
    name = f"{PREFIX}{source.recipe}"
    there = shipped_models().get(name)
    if there is None or there.path.name != source.path.name:
        drop(there)
        encoder = next(run for run in find_runs(root) if run.path.name in Path(source.about.parent or "").parts)
        for run in (encoder, source):
            copy_run(run)
        write_weights(source)
        there = shipped_models()[name]
    checkpoint = there.store().load_latest()
    assert checkpoint is not None
    measured = newest_measurements(there, checkpoint.hash, root)
    for run in measured_of(there):
        if any(run.verb == newer.verb and run.path.name != newer.path.name for newer in measured):
            shutil.rmtree(run.path)
    for run in measured:
        copy_run(run)
    card_file(source.recipe).write_text(card(there, checkpoint), encoding="utf-8")
    lacking = [verb for verb in MEASURED if verb not in {run.verb for run in measured_of(there)}]
    return [f"not measured yet: rushkit {verb} --from {name}" for verb in lacking]


def drop(model: RunInfo | None) -> None:
    """Remove a shipped model that another one of its name replaces, and all that belongs to it."""
    for run in find_runs(shipped_folder()) if model else []:
        if model is not None and run.recipe == model.recipe:
            shutil.rmtree(run.path)


def copy_run(run: RunInfo) -> None:
    """Copy the run's recipe, facts and results without checkpoints and without paths of the machine it was made on."""
    target = shipped_folder() / run.path.name
    target.mkdir(parents=True, exist_ok=True)
    parent = portable(run.about.parent)
    argv = ["rushkit", *run.about.argv[1:]]
    facts = run.about.with_changes(argv=argv, parent=parent, platform=run.about.platform.partition("-")[0], git=None)
    write_json(target / RUN_FILE, facts.to_table())
    (target / RECIPE_FILE).write_text(portable_recipe((run.path / RECIPE_FILE).read_text(encoding="utf-8")))
    results = run.record()
    assert results is not None
    table = results.to_table()
    if table.get("source"):
        table["source"] = portable(str(table["source"]))
    write_json(target / "results.json", table)


def write_weights(model: RunInfo) -> None:
    """Write the encoder and the head of a model's last checkpoint, its filters in float16."""
    checkpoint = model.store().load_latest()
    assert checkpoint is not None
    tensors = {
        name: tensor.half() if tensor.dim() > 1 else tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(("encoder.", "head."))
    }
    meta = {**checkpoint.meta, "recipe": portable_recipe(str(checkpoint.meta["recipe"]))}
    store = CheckpointStore(shipped_folder() / model.path.name / CHECKPOINTS)
    path = store.save(int(checkpoint.path.stem.removeprefix("step-")), tensors, meta)
    if path.stat().st_size >= MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes: too many to come with rushkit")


def newest_measurements(model: RunInfo, stored: str, root: str) -> list[RunInfo]:
    """Return the newest finished run under ``root`` of each measuring verb, of the stored weights if there is one.

    Args:
        model: The shipped run; that under ``root`` has the same name.
        stored: The hash of its stored weights.
        root: A folder of runs.
    """
    runs = [run for run in measuring(model, find_runs(root)) if run.status == "finished"]
    runs.sort(key=lambda run: (run.about.hashes.get("parent") == stored, run.started))
    return list({run.verb: run for run in runs}.values())


def measured_of(model: RunInfo) -> list[RunInfo]:
    """Return the shipped measurements of a shipped model."""
    return measuring(model, find_runs(shipped_folder()))


def measuring(model: RunInfo, runs: Iterable[RunInfo]) -> list[RunInfo]:
    """Return those of the runs that measured a model."""
    return [run for run in runs if run.verb in MEASURED and model.path.name in Path(run.about.parent or "").parts]


def card(model: RunInfo, checkpoint: Checkpoint) -> str:
    """Return what a model states about itself: how it was made, of what, under which licence, and what was measured."""
    network = load_classifier(checkpoint, Machine(torch.device("cpu"), "float32"), fold=False).network
    recipe = read_recipe(str(checkpoint.meta["recipe"]), str(checkpoint.path))
    lines = [
        f"# {PREFIX}{model.recipe}",
        "",
        f"A {recipe.backbone.name} with {num_parameters(network) / 1e6:.2f} M parameters, trained by the recipe "
        f"`{model.recipe}` with seed {recipe.system.seed}: {model.started[:10]}, rushkit "
        f"{model.about.versions['rushkit']}.",
        "",
        f"Trained on {DATA[recipe.data.name]}",
        "",
        "Licence of the weights: Apache 2.0, as rushkit.",
        "",
        f"Stored in {checkpoint.path.stat().st_size // 1000} kB: filters and head in float16, all else in float32; "
        f"hash {checkpoint.hash[:12]}.",
        "",
        "Measured, in percent with 95 % intervals:",
        "",
    ]
    for run in sorted(measured_of(model), key=lambda run: run.started):
        record = run.record()
        words = figures(record) if record else []
        rounded = run.about.hashes.get("parent") == checkpoint.hash
        note = "" if rounded else " (of the weights before they were rounded to float16)"
        # Of an evaluation the vote stands for both rules.
        lines += [f"- {line}{note}" for line in words if run.verb != "evaluate" or ", mean:" not in line]
        if isinstance(record, Attacks):
            texts = [each.text for row in record.attacks for each in row.notes]
            lines += [f"- {text}" for text in dict.fromkeys(texts)]
    return "\n".join([*lines, "", *PROTOCOL_SENTENCES[:2], ""])


def portable(path: str | None) -> str | None:
    """Return the part of a checkpoint's path that is the same everywhere: run, ``checkpoints`` and file."""
    return "/".join(Path(path).parts[-3:]) if path else None


def portable_recipe(text: str) -> str:
    """Return a resolved recipe with the default folders of data and runs."""
    table, usual = toml.loads(text), System()
    system = table["system"]
    assert isinstance(system, dict)
    return toml.dumps(table | {"system": system | {"data_dir": usual.data_dir, "runs_dir": usual.runs_dir}})


def write_json(path: Path, table: object) -> None:
    """Write a JSON document without layout: outcomes of thousands of images would be as many lines."""
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    """Ship the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run of finetune, as --from names it")
    for line in ship(parser.parse_args().run, default_runs_dir()):
        print(line)


if __name__ == "__main__":
    main()
