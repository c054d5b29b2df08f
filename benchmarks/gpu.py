"""What rushkit does on one GPU, in one go of at most 8 minutes; benchmarks/gpu.sh runs it.

It checks torch and the device, runs the tests that need CUDA, profiles a pre-training step, measures `rushkit bench`,
then pre-trains the recipe for as many epochs as fit, with its schedule scaled to them, fine-tunes, evaluates, attacks
under both protocols, certifies, and writes the report. With --smoke it does all that on a CPU, on a few digits.

Each step is a process of its own, and is given the time that is left but for what the later ones are expected to take.
One that does not fit is skipped, and one that takes longer is stopped as Ctrl-C stops it; both are said. OUT holds

    summary.json            what each step found, written anew whenever a step begins or ends
    results.tar.gz.00 ...   at most 7 parts below 16 MB, with logs, results.json files, figures and small tables, and
                            the weights where they fit: `cat results.tar.gz.* | tar xz`
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_session import ROOT, SUMMARY, Session, Skipped, Step, pack, run_steps

# Seconds that a command takes to import what it needs.
_IMPORT = 8.0
# Compiling again what the profile compiled takes about so long, and a step of fine-tuning so much of pre-training's.
_COMPILE, _FINETUNING_STEP = 20.0, 0.7
# Steps a second that are assumed where none was measured; a training that takes longer is stopped.
_UNMEASURED = 10.0

# Prints what is known of the machine as JSON; without rushkit, so that it works where rushkit does not.
_LOOK = """
import importlib.util, json, os, platform, sys
names = ("torch torchvision timm rich typer safetensors scipy matplotlib PIL jinja2 filelock pydantic pydantic_core "
         "annotated_types typing_inspection torchattacks").split()
missing = [name for name in names if importlib.util.find_spec(name) is None]
facts = {"python": platform.python_version(), "cpus": os.cpu_count(), "missing": missing}
if "torch" not in missing:
    import torch
    facts |= {"torch": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        facts |= {"device": about.name, "memory_bytes": about.total_memory}
        facts |= {"capability": f"{about.major}.{about.minor}"}
        facts |= {"processors": about.multi_processor_count, "cudnn": torch.backends.cudnn.version()}
        facts |= {"bf16": torch.cuda.is_bf16_supported(), "devices": torch.cuda.device_count()}
if not missing:
    import rushkit, torchvision, timm
    from rushkit.system import choose_machine
    facts |= {"rushkit": rushkit.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    facts |= {"machine": str(choose_machine())}
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
        smoke: Whether it does without a GPU.
        seconds: Of the whole run.
        recipe: The recipe.
        changes: Its keys that are changed, for every command.
        backbone: Of the profile.
        batch: Of profile, bench and training.
        images: Of the training split.
        epochs: At most so many of pre-training, and of fine-tuning.
        measure: Seconds for each way of the profile, and for bench.
        draws: Draws of an evaluation, then of the attacks, in the order in which they run.
        attacked: Images that are attacked.
        certified: Images that are certified.
        certificate_draws: Draws of a certificate, the most that fit.
    """

    smoke: bool
    seconds: float
    recipe: str
    changes: tuple[str, ...]
    backbone: str
    batch: int
    images: int
    epochs: tuple[int, int]
    measure: tuple[float, float]
    draws: tuple[int, int]
    attacked: int
    certified: int
    certificate_draws: tuple[int, ...]


FULL = Size(
    smoke=False,
    seconds=465,
    recipe="cifar10",
    changes=(),
    backbone="resnet18",
    batch=512,
    images=50_000,
    epochs=(1000, 25),
    measure=(5.0, 15.0),
    draws=(1, 64),
    attacked=256,
    certified=100,
    certificate_draws=(100_000, 30_000, 10_000, 1_000),
)
SMOKE = Size(
    smoke=True,
    seconds=60,
    recipe="digits",
    changes=("data.limit=64", "data.image_size=8", "projector.hidden=16", "projector.out=8", "system.device=cpu"),
    backbone="resnet10-small",
    batch=16,
    images=64,
    epochs=(2, 1),
    measure=(0.2, 1.0),
    draws=(2, 2),
    attacked=2,
    certified=2,
    certificate_draws=(100,),
)


class GpuRun(Session):
    """A run of this script.

    Args:
        out: The folder that summary and archive go to.
        work: The folder for everything else.
        size: How large it is.
    """

    def __init__(self, out: Path, work: Path, size: Size) -> None:
        super().__init__(out, work, size.seconds, size.changes)
        self.size = size
        self.summary["smoke"] = size.smoke


def look(session: GpuRun, given: float) -> dict[str, Any]:
    """Check torch, the device and what else is needed."""
    text, _ = session.command("machine", ["-c", _LOOK], given)
    facts: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    if facts["missing"]:
        raise Skipped(f"not installed: {', '.join(facts['missing'])}; docs/performance.md says how to bring them along")
    if "device" not in facts and not session.size.smoke:
        raise Skipped("torch sees no CUDA device; --smoke does without")
    return facts


def test(session: GpuRun, given: float) -> dict[str, Any]:
    """Run the tests that need CUDA."""
    try:
        import pytest  # noqa: F401
    except ImportError:
        raise Skipped("pytest is not installed") from None
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text(encoding="utf-8")]
    chosen = [ROOT / "tests" / "test_cuda.py"] if session.size.smoke else sorted(marked)
    # A newer or older torch warns of other things, which is no concern here.
    options = ["-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider", "-q", "-rfE", "-m", "cuda"]
    try:
        text, cut = session.command("tests", ["-m", "pytest", *options, *chosen], given)
    except RuntimeError:
        text, cut = (session.work / "logs" / "tests.txt").read_text(), False
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    return {"counts": counts, "failed": failed} | ({"cut": True} if cut else {})


def profile(session: GpuRun, given: float) -> dict[str, Any]:
    """Profile a pre-training step."""
    place, size = session.work / "profile.json", session.size
    ways = "float32,graph" if size.smoke else "float32,eager,graph,compiled"
    words = ["benchmarks/step_profile.py", "--recipe", size.recipe, "--backbone", size.backbone, "--ways", ways]
    words += ["--batch", str(size.batch), "--seconds", str(size.measure[0]), "--json", str(place)]
    try:
        _, cut = session.command(
            "profile", [*words, *session.changes, *(["--device", "cpu"] if session.size.smoke else [])], given
        )
    except RuntimeError:
        if not place.is_file():
            raise
        cut = True
    found: dict[str, Any] = json.loads(place.read_text()) if place.is_file() else {}
    return found | ({"cut": True} if cut else {})


def bench(session: GpuRun, given: float) -> dict[str, Any]:
    """Measure views, training, attack and votes beside the bare passes."""
    size = session.size
    seconds = min(size.measure[1], max(1.0, given - _IMPORT))
    words = ["bench", "--recipe", size.recipe, "--batch", str(size.batch), "--seconds", str(seconds), "--json"]
    text, cut = session.command("bench", ["-m", "rushkit", *words, *session.changes], given)
    return {"bench": None if cut else json.loads(text)} | ({"cut": True} if cut else {})


def plan(ways: Sequence[dict[str, Any]], images: int, batch: int, given: float, most: int) -> tuple[int, str]:
    """Return how many epochs of pre-training fit, and ``system.compile`` for them: "on" where more fit with it.

    Args:
        ways: Those of the profile.
        images: Of the training split.
        batch: Images a step.
        given: Seconds.
        most: At most so many epochs.
    """
    rates = {way["name"]: way["per_second"] for way in ways}
    plain = rates.get("eager", rates.get("float32", _UNMEASURED))
    choices = [(plain, given - _IMPORT, "off"), (rates.get("compiled", 0.0), given - _IMPORT - _COMPILE, "on")]
    # A tenth more for logs, checkpoints and what the profile does not see.
    fits = [(int(seconds * rate / (images // batch * 1.1)), compiled) for rate, seconds, compiled in choices]
    epochs, compiled = max(fits, key=lambda choice: choice[0])
    return min(epochs, most), compiled


def pretrain(session: GpuRun, given: float) -> dict[str, Any]:
    """Pre-train for as many epochs as fit."""
    size, ways = session.size, session.found("profile").get("ways", [])
    epochs, compiled = plan(ways, size.images, size.batch, given, size.epochs[0])
    if epochs < 1:
        raise Skipped(f"not one epoch fits into {given:.0f} s")
    changes = [f"pretrain.epochs={epochs}", f"pretrain.save_every={max(1, epochs // 4)}", f"system.compile={compiled}"]
    # A rate for a thousand epochs is reached by a warm-up where there are few; the cosine is that of the epochs.
    changes += [f"pretrain.batch_size={size.batch}", f"pretrain.schedule.warmup_epochs={int(epochs > 2)}"]
    changes += [f"pretrain.knn.every={epochs}"]
    session.note("pretrain", epochs=epochs, compile=compiled)
    return session.rushkit("pretrain", "pretrain", "--recipe", size.recipe, seconds=given, changes=changes)


def finetune(session: GpuRun, given: float) -> dict[str, Any]:
    """Fine-tune for as many epochs as fit, at most those of the recipe."""
    size = session.size
    rates = [
        way["per_second"] for way in session.found("profile").get("ways", []) if way["name"] in ("eager", "float32")
    ]
    an_epoch = size.images / size.batch * _FINETUNING_STEP / (max(rates) if rates else _UNMEASURED)
    epochs = min(size.epochs[1], int((given - _IMPORT) / (1.1 * an_epoch)))
    if epochs < 1:
        raise Skipped(f"not one epoch fits into {given:.0f} s")
    session.note("finetune", epochs=epochs)
    changes = [f"finetune.epochs={epochs}", f"finetune.save_every={epochs}", f"finetune.batch_size={size.batch}"]
    source = session.run_of("pretrain")
    words = ["finetune", "--from", source]
    return session.rushkit("finetune", *words, seconds=given, changes=[*changes, "system.compile=off"])


def evaluate(session: GpuRun, given: float) -> dict[str, Any]:
    """Evaluate with one draw and with many."""
    samples = ",".join(map(str, session.size.draws))
    words = ["evaluate", "--from", session.run_of("finetune"), "--samples", samples]
    return session.rushkit("evaluate", *words, seconds=given)


def attack(draws: int) -> Callable[[GpuRun, float], dict[str, Any]]:
    """Return the step that attacks under both protocols, with this many draws."""

    def work(session: GpuRun, given: float) -> dict[str, Any]:
        words = ["attack", "--from", session.run_of("finetune"), "--type", "pgd", "--protocol", "both"]
        words += ["--samples", str(draws), "--limit", str(session.size.attacked)]
        return session.rushkit(f"attack-{draws}", *words, seconds=given)

    return work


def certify(session: GpuRun, given: float) -> dict[str, Any]:
    """Certify with as many draws as fit, by the speed of votes that bench measured."""
    size, rows = session.size, (session.found("bench").get("bench") or {}).get("rows", [])
    rate = next((row["per_second"] for row in rows if row["part"] == "votes"), 20_000.0)
    fitting = [draws for draws in size.certificate_draws if draws * size.certified < 0.7 * rate * (given - _IMPORT)]
    draws = max(fitting, default=min(size.certificate_draws))
    words = ["certify", "--from", session.run_of("finetune"), "--norm", "l1", "--samples", str(draws)]
    return {"draws": draws} | session.rushkit("certify", *words, "--limit", str(size.certified), seconds=given)


def report(session: GpuRun, given: float) -> dict[str, Any]:
    """Write the page on the model."""
    out = session.work / "report"
    _, cut = session.command("report", ["-m", "rushkit", "report", session.run_of("finetune"), "--out", out], given)
    return {"files": sorted(path.name for path in out.iterdir())} | ({"cut": True} if cut else {})


def steps_of(size: Size) -> list[Step]:
    """Return the steps of a run."""
    trained, measured = ("machine", "pretrain"), ("machine", "finetune")
    table = [
        ("machine", look, 5, 15, ()),
        ("tests", test, 15, 30, ("machine",)),
        ("profile", profile, 20, 90, ("machine",)),
        ("bench", bench, 15, 25, ("machine",)),
        ("pretrain", pretrain, 30, 100, ("machine",)),
        ("finetune", finetune, 15, 25, trained),
        ("evaluate", evaluate, 10, 20, measured),
        *((f"attack-{draws}", attack(draws), 10, 30, measured) for draws in sorted(set(size.draws))),
        ("certify", certify, 10, 30, measured),
        ("report", report, 5, 12, measured),
    ]
    # On a CPU with tiny settings every step takes about as long as its imports.
    return [
        Step(name, work, 3 if size.smoke else least, 4 if size.smoke else expected, needs)
        for name, work, least, expected, needs in table
    ]


def main() -> int:
    """Make the run, and return 0 where every step came to something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder for summary.json and the archive")
    parser.add_argument("--smoke", action="store_true", help="tiny settings, on a CPU")
    parser.add_argument("--seconds", type=float, help="for the whole run; 465, or 60 with --smoke")
    parser.add_argument(
        "--work", type=Path, help="the folder for runs and logs; else a temporary one, which is removed"
    )
    arguments = parser.parse_args()
    size = SMOKE if arguments.smoke else FULL
    if arguments.seconds is not None:
        if not 1 <= arguments.seconds <= 86_400:
            parser.error(f"--seconds must be from 1 to 86400 (got {arguments.seconds:g})")
        size = replace(size, seconds=arguments.seconds)
    work = arguments.work or Path(tempfile.mkdtemp(prefix="rushkit-gpu-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    session = GpuRun(arguments.out.resolve(), work.resolve(), size)
    try:
        run_steps(session, steps_of(size))
        pack(session, weights=True)
    finally:
        if arguments.work is None:
            shutil.rmtree(work, ignore_errors=True)
    states = {name: facts["status"] for name, facts in session.summary["steps"].items()}
    print(f"{arguments.out / SUMMARY}: {', '.join(f'{name} {state}' for name, state in states.items())}")
    return 0 if all(state in ("done", "cut") for state in states.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
