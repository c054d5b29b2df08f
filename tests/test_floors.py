from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rushkit.documents.names import DOCUMENTS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rushkit"
MAX_LINES = 500

# From the ground up. A module may import from a row below its own and from its own part; parts of one row do not import
# one another. "rushkit" is the package's own file, which everybody may import and which imports nobody.
FLOORS = (
    {"errors", "paths", "ratio", "rounding", "interrupt", "voice", "prose", "notebook"},
    {"files", "image_size"},
    {"locks"},
    {"registry", "place"},
    {"registries", "bar"},
    {"registrations"},
    {"named_code"},
    {"recipe"},
    {"bf16"},
    {"binomial", "system"},
    {"data", "views", "noises", "models", "trackers", "corruptions"},
    {"statistics", "buckets", "checked", "streams", "units", "votes"},
    {"smoothing"},
    {"attacks", "certificates", "sequential_test"},
    {"objectives"},
    {"results"},
    {"run", "distributed"},
    {"foreign"},
    {"setup"},
    {"training", "evaluation", "robustness", "certification", "auditing", "exchange"},
    {"claims"},
    {"description", "doctor", "plugin_template", "speed"},
    {"study"},
    {"report"},
    {"documents"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of everything that a module imports, at whatever depth and under whatever condition."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}" if base else above
            # `from rushkit import statistics` names a module, `from rushkit.errors import X` does not.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(module: Path) -> Iterator[str]:
    package = ".".join(["rushkit", *module.relative_to(PACKAGE).parts[:-1]])
    return imported_names(ast.parse(module.read_text(encoding="utf-8")), package)


def wrong_imports(part: str, names: Iterator[str]) -> list[str]:
    """The imports from rushkit that a part may not have."""
    wrong = []
    for name in names:
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top != "rushkit" or other in ("", "__version__", part):
            continue
        if part == "__init__" or other not in FLOOR_OF or FLOOR_OF[other] >= FLOOR_OF[part]:
            wrong.append(name)
    return wrong


def test_every_part_of_the_package_has_its_floor():
    assert {part_of(module) for module in modules()} - {"__init__"} == set(FLOOR_OF)


@pytest.mark.parametrize("module", modules(), ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_module_imports_only_from_floors_below(module):
    assert wrong_imports(part_of(module), imports_of(module)) == []


@pytest.mark.parametrize(
    "code",
    [
        "from rushkit.setup import start",
        "from rushkit import setup",
        "import rushkit.training.loop as loop",
        "def f():\n    from rushkit.training.loop import train",
        "if TYPE_CHECKING:\n    from rushkit.cli import app",
        "from ..setup import start",
        "from rushkit import unheard_of",
    ],
)
def test_an_import_from_above_is_seen_however_it_is_written(code):
    assert len(wrong_imports("run", imported_names(ast.parse(code), "rushkit.run"))) == 1


@pytest.mark.parametrize("code", ["from rushkit import errors", "from . import files", "import rushkit", "import os"])
def test_an_import_from_below_is_allowed(code):
    assert wrong_imports("run", imported_names(ast.parse(code), "rushkit.run")) == []


@pytest.mark.parametrize("code", ["from rushkit.evaluation import probe", "import rushkit.robustness.attack"])
def test_stages_of_one_room_do_not_know_those_of_another(code):
    assert len(wrong_imports("training", imported_names(ast.parse(code), "rushkit.training"))) == 1


def name_of(module: Path) -> str:
    return ".".join(["rushkit", *module.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def arrows(sources: dict[str, ast.AST]) -> dict[str, set[str]]:
    """Which of the modules each module imports, whether as a module or for a name in it."""
    graph: dict[str, set[str]] = {}
    for name, tree in sources.items():
        package = name if name in PACKAGES else name.rpartition(".")[0]
        seen = set(imported_names(tree, package))
        graph[name] = {other for other in seen | {each.rpartition(".")[0] for each in seen} if other in sources}
        # A package's own file stands for the package: its modules may use it, and it may not use them in turn.
        graph[name] -= {name, "rushkit"}
    return graph


PACKAGES = {name_of(module) for module in modules() if module.name == "__init__.py"}


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty where there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        circle = next((circle for other in sorted(graph[name]) if (circle := visit(other, [*path, name]))), [])
        done.add(name)
        return circle

    return next((circle for name in sorted(graph) if (circle := visit(name, []))), [])


def test_no_modules_import_each_other_in_a_circle():
    sources = {name_of(module): ast.parse(module.read_text(encoding="utf-8")) for module in modules()}
    assert circle_in(arrows(sources)) == []


def test_a_circle_is_seen():
    planted = {
        "rushkit.run.info": "from rushkit.run.lineage import chain",
        "rushkit.run.lineage": "from rushkit.run import names",
        "rushkit.run.names": "if TYPE_CHECKING:\n    from rushkit.run.info import RunInfo",
    }
    sources = {name: ast.parse(code) for name, code in planted.items()}
    assert sorted(circle_in(arrows(sources))) == sorted(planted)


# Rooms with floors of their own, from the ground up: a module imports only from a row below its own.
INSIDE: dict[str, tuple[set[str], ...]] = {
    "setup": (
        {"class_order", "components", "resumable"},
        {"named_module", "networks"},
        {"given"},
        {"in_memory", "model", "start"},
        {"fronted", "surrogate"},
        {"resume"},
        {"subject", "outcomes"},
    ),
    "training": (
        {"batch", "knn", "schedule", "lars", "average", "mixing", "epoch_log", "starting", "teacher"},
        {"kmeans", "labels", "optimizer"},
        {"job"},
        {"accuracy", "bare_passes", "collapse", "recomputation", "restore", "validation"},
        {"loop"},
        {"cluster", "pretrain", "finetune", "dry_run"},
    ),
    "robustness": (
        {
            "deviations",
            "export_images",
            "failures",
            "final_votes",
            "log_checks",
            "one_panel",
            "own_attacks",
            "resume",
            "saved_images",
        },
        {"pace", "protocols", "transfer"},
        {"block", "jobs", "meter"},
        {"nearest", "surrogates"},
        {"smallest"},
        {"attack"},
    ),
    "certification": (
        {"claim", "image_files", "tasks"},
        {"caveats", "draws"},
        {"counts"},
        {"procedure"},
        {"all_splits", "fixed_samples", "sequential"},
        {"procedures"},
        {"contradictions", "log_checks", "predict", "together"},
        {"logged_counts"},
        {"conclude"},
        {"certify"},
        {"resume"},
    ),
    "auditing": (
        {"gradients", "planted", "rejections", "scoring", "training_images"},
        {"given", "landscapes", "plan", "probes"},
        {"attacks"},
        {"kept", "versions"},
        {"measure"},
        {"checks"},
        {"selftest"},
        {"audit"},
        {"asked"},
    ),
    "foreign": ({"bystanders", "claims", "onnx_model"}, {"bounds"}, {"other_kinds"}, {"file"}),
    "exchange": (
        {"exported", "foreign_model", "published", "rules"},
        {"known_names", "misfit"},
        {"foreign_names", "part"},
        {"export_onnx", "export_timm", "nearest", "pretrained"},
        {"export", "plan"},
        {"import_model"},
    ),
    "claims": (
        {"canonical", "counts", "implausible", "problem", "recount", "redraw"},
        {"container", "plausible", "tensors"},
        {"certificates", "manifest"},
        {"chain", "record", "words"},
        {"artifact", "published"},
        {"evidence"},
        {"pack", "scoring"},
        {"case", "of_run"},
        {"of_answers", "of_attack", "of_images", "of_model"},
        {"verify"},
        {"targets"},
        {"entries"},
    ),
    "attacks": (
        {"checks", "guard", "losses", "margins", "norms", "result", "scoring", "torchattacks_kinds"},
        {"ascend", "grid", "hyperplane", "square_windows", "steps", "symptoms", "targeted", "victim"},
        {"ddn", "judged", "race"},
        {"best", "torchattacks_adapter"},
        {"cascade", "hopskipjump", "restarts", "square"},
        {"apgd", "fab", "pgd"},
        {"autoattack"},
        {"abilities"},
    ),
    "results": (
        {"rows"},
        {"base", "published"},
        {"adaptive", "clustering", "dry_run", "jsonable", "notes", "rounds", "taken", "threats", "unions"},
        {"words"},
        {"distances", "evaluation", "imported", "prediction", "together"},
        {"attacks", "auditing", "quantiles", "training", "verification"},
        {"certification", "run_file"},
        {"selftest"},
        {"frames", "logs", "records"},
        {"hit_rate", "intervals", "statements"},
        {"convergence"},
    ),
    "run": (
        {
            "checkpoint",
            "environment",
            "index",
            "log",
            "log_checks",
            "names",
            "optimizer_state",
            "signals",
            "speaker",
        },
        {"metrics", "partial", "size", "store"},
        {"info"},
        {"folder", "lineage", "shipped", "stored_recipe"},
        {"named"},
        {"asked", "clean", "parent", "source"},
        {"remove"},
    ),
    "trackers": ({"mirror", "tensorboard", "wandb"},),
    "speed": ({"figures"}, {"bench"}),
    "doctor": ({"examination"}, {"examine"}),
    "distributed": ({"leash", "notes", "rendezvous"}, {"ranks", "start"}, {"share"}),
    "study": (
        {"claims", "cost", "find", "isolation", "job", "places"},
        {"estimate", "failure", "plan", "stages"},
        {"derive", "engines", "schema", "state"},
        {"load", "options", "orders", "outside", "tree", "words"},
        {"links", "perform", "run"},
        {"live", "make", "work"},
        {"worker"},
    ),
    "documents": (
        {"components", "data", "files", "form", "machine", "models", "runs", "studies", "written"},
        {"derive"},
        {"names"},
        {"schemas"},
    ),
    "report": (
        {"chosen", "families", "hit_rate", "links", "own_noise", "places", "publication", "search", "table", "words"},
        {
            "bounds",
            "breakdown",
            "distances",
            "fallen",
            "headlines",
            "left_out",
            "significance",
            "taken",
            "threats",
            "worst",
        },
        {"against_passes", "classes", "figures", "paper"},
        {"compare", "curves", "protocols", "quotable", "quoted", "taken_together", "unfilled"},
        {"measured", "numbers", "tables"},
        {"beside", "listing", "rungs", "spreadsheet"},
        {"pictures", "ranking", "sheets", "summary"},
        {"terminal"},
        {"content", "document"},
        {"page"},
        {"card", "inline", "leaderboard", "study"},
        {"figure_files", "publishing"},
        {"write"},
        {"compared", "make"},
    ),
}


def inner_name(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[1].removesuffix(".py")


@pytest.mark.parametrize("room", INSIDE)
def test_a_room_has_floors_of_its_own(room):
    floor_of = {name: floor for floor, names in enumerate(INSIDE[room]) for name in names}
    files = [module for module in modules() if part_of(module) == room and module != PACKAGE / room / "__init__.py"]
    assert {inner_name(module) for module in files} == set(floor_of)
    assert [wrong for module in files if (wrong := wrong_inside(room, module, imports_of(module), floor_of))] == []


def wrong_inside(room: str, module: Path, names: Iterator[str], floor_of: dict[str, int]) -> list[str]:
    own = inner_name(module)
    inner = [name.split(".")[2] for name in names if name.startswith(f"rushkit.{room}.")]
    return [name for name in inner if name != own and name in floor_of and floor_of[name] >= floor_of[own]]


def test_an_import_from_above_inside_a_room_is_seen():
    floor_of = {"knn": 0, "loop": 0, "pretrain": 1}
    names = imported_names(ast.parse("from rushkit.training.pretrain import pretrain"), "rushkit.training")
    assert wrong_inside("training", PACKAGE / "training" / "loop.py", names, floor_of) == ["pretrain"]


def test_no_room_holds_more_than_a_sixth_of_the_package():
    lines: dict[str, int] = {}
    for module in modules():
        lines[part_of(module)] = lines.get(part_of(module), 0) + len(module.read_bytes().splitlines())
    total = sum(lines.values())
    assert {room: count for room, count in lines.items() if count > total / 6} == {}


@pytest.mark.parametrize("name", ["click", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"])
def test_nobody_imports(name):
    sources = [
        *modules(),
        *(file for part in ("plugins", "tests", "benchmarks") for file in (ROOT / part).rglob("*.py")),
    ]
    assert [str(module) for module in sources if name in imported_tops(module)] == []


@functools.cache
def imported_tops(module: Path) -> set[str]:
    """The top-level names of everything that a module imports."""
    names = imported_names(ast.parse(module.read_text(encoding="utf-8")), "")
    return {name.partition(".")[0] for name in names}


def test_nobody_unpickles_through_torch_or_numpy():
    for module in [*modules(), *(ROOT / "plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            call, keywords = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
            assert keywords.get("allow_pickle", "False") == "False", f"{module}:{node.lineno}"
            assert call != "torch.load" or keywords.get("weights_only") == "True", f"{module}:{node.lineno}"
            assert call != "torch.save", f"{module}:{node.lineno}"


def test_no_file_is_too_long_to_read():
    sources = [
        *modules(),
        *(file for part in ("plugins", "tests", "benchmarks") for file in (ROOT / part).rglob("*.py")),
    ]
    lengths = {str(module.relative_to(ROOT)): len(module.read_bytes().splitlines()) for module in sources}
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}


LIGHT = (
    ["--help"],
    ["--version"],
    ["recipe", "show", "cifar10"],
    ["recipe", "list"],
    ["plugins"],
    ["pretrain", "--help"],
    ["runs", "list"],
    ["schema"],
    *(["schema", name] for name in DOCUMENTS),
)
RUN = {"verb": "finetune", "recipe": "digits", "status": "finished", "started": "2030-01-01T00:00:00+00:00"}
RESULTS = {
    "stage": "finetune",
    "recipe": "digits",
    "epochs": 1,
    "source": None,
    "loaded": 0,
    "trainable": ["head.weight"],
}


def test_the_light_commands_do_not_import_torch(tmp_path):
    run = tmp_path / "runs" / "20300101-000000-finetune-digits-000000"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(RUN))
    (run / "results.json").write_text(json.dumps({**RESULTS, "loss": 0.25}))
    code = f"""
import sys
import rushkit
assert "torch" not in sys.modules, "import rushkit"
from rushkit.cli.app import main
for arguments in {LIGHT!r}:
    assert main(arguments) == 0, arguments
    assert "torch" not in sys.modules, arguments
    assert "scipy" not in sys.modules, arguments
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "loss 0.250" in done.stdout


def test_a_worker_imports_timm_for_a_backbone_of_timm_alone():
    code = (
        "import sys, rushkit.study.perform, rushkit.study.work; assert not {'timm', 'torchvision'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
