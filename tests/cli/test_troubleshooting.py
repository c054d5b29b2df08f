"""docs/troubleshooting.md against the messages as they are printed: each is provoked, and must be its heading there."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import TINY, only, sets
from hints import problems, repeats
from PIL import Image
from safetensors.torch import save_file

from rushkit import registries
from rushkit.distributed import ranks
from rushkit.distributed.start import run_ranks
from rushkit.errors import NoCertificate, Replaced, UsageError
from rushkit.files import write_error
from rushkit.locks import FolderLock
from rushkit.recipe.load import load_recipe
from rushkit.registry import Entry
from rushkit.setup.start import start_run
from rushkit.study.claims import Claim, take
from rushkit.study.job import Job
from rushkit.study.orders import Order, write_orders
from rushkit.study.places import Places
from rushkit.study.state import Standing
from rushkit.training import loop

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### `error: (.*)`$", PAGE, re.MULTILINE)

CIFAR = sets(*TINY, "data.name=cifar10", "data.image_size=32")
PHOTOS = sets(*TINY, "data.name=folder", "data.limit=0", "data.image_size=0", "pretrain.batch_size=4")
START = ("pretrain", "--recipe", "digits", *sets(*TINY))

# The start of a heading -> exit code and command line.
COMMANDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "no such command": (2, ("evaluat",)),
    "no such option": (2, ("evaluate", "--sampels", "3")),
    "got unexpected": (2, ("attack", "--eps", "8", "255")),
    "<option>: must be": (2, ("certify", "--alpha", "x")),
    "<option>: '<value>' is not": (2, ("certify", "--norm", "l3")),
    "--norm <norm> without --eps": (2, ("attack", "--norm", "l2")),
    "--run without --resume": (2, ("attack", "--run", "runs/x")),
    "--restarts without --nproc": (2, ("pretrain", "--recipe", "digits", "--restarts", "2")),
    "unknown recipe": (2, ("pretrain", "--recipe", "cifar11")),
    "<place>: unknown key": (2, ("pretrain", "--recipe", "digits", "--set", "pretrain.epoch=3")),
    "<place>: <key>: must be <what>": (2, ("evaluate", "--samples", "0")),
    "<place>: <key>: must be in pixel": (2, ("attack", "--eps", "8")),
    "the recipe has": (2, ("pretrain", "--recipe", "digits", *sets("pretrain.epochs=0", "noise.sclae=1"))),
    "<place>: noise": (2, ("pretrain", "--recipe", "digits", "--set", "noise.name=gaussian")),
    "a batch of <n> is larger": (2, ("pretrain", "--recipe", "digits", *sets(*TINY, "pretrain.batch_size=64"))),
    "<data set>: <n> of <m> files": (1, ("pretrain", "--recipe", "digits", *CIFAR)),
    "<folder> has neither": (1, ("pretrain", "--recipe", "digits", *PHOTOS)),
    "the images of <split> are <size>": (2, ("evaluate", *sets("data.image_size=16"))),
    "class <n> of <data>": (2, ("evaluate", *sets("data.name=letters"))),
    "no finished run of <verb> of": (2, ("evaluate", "--from", "cifar10")),
    "rushkit comes with no model": (2, ("evaluate", "--from", "shipped/nothing")),
    "there is no checkpoint": (1, ("evaluate", "--from", "gone.safetensors")),
    "there is no stopped run": (2, ("pretrain", "--resume")),
    "--resume goes on": (2, ("pretrain", "--resume", "--set", "pretrain.epochs=9")),
    "objective '<name>' learns": (2, ("pretrain", "--recipe", "deacl-digits", *sets(*TINY))),
    "the teacher": (
        2,
        ("pretrain", "--recipe", "deacl-digits", "--from", "digits", *sets(*TINY, "data.image_size=16")),
    ),
    "no clustering": (2, ("pretrain", "--recipe", "advcl-digits", *sets(*TINY, "pretrain.labels=gone"))),
    "<split> has <n> images": (2, ("cluster", "--from", "digits", "--clusters", "100000")),
    "device": (2, (*START, "--set", "system.device=cuda:77")),
    "noise '<name>' has no theorem": (2, ("certify", "--norm", "linf", "--set", "noise.name=odd")),
    "<n> draws can never": (2, ("certify", "--samples", "5")),
    "<place>: <key>: unknown <kind>": (2, (*START, "--set", "noise.name=unifrom")),
    "'<name>' of <owner> cannot": (3, (*START, "--set", "noise.name=broken")),
    "<place>: <key>: the <kind>": (2, (*START, "--set", "noise.name=twice")),
    "there is no file": (2, (*START, "--import", "gone.py")),
    "<file> registers": (2, (*START, "--import", "nothing.py")),
    "<file> cannot be imported": (3, (*START, "--import", "raises.py")),
}


def heading(start: str) -> str:
    """The one heading that begins so."""
    (found,) = [each for each in HEADINGS if each.startswith(start)]
    return found


def says(start: str, text: str) -> bool:
    """Whether the first line of an error is what the heading says, with anything for what stands in <…>."""
    line = re.search(r"^error: (.*)$", text, re.MULTILINE)
    pattern = "".join(".+" if part[:1] == "<" else re.escape(part) for part in re.split(r"(<[^>]*>)", heading(start)))
    return line is not None and re.fullmatch(pattern, line[1]) is not None


@pytest.fixture
def components(monkeypatch) -> None:
    """A noise that l2 alone has a theorem for, a broken plugin, a name of two owners, digits with other classes."""
    from rushkit.data.digits import Digits
    from rushkit.noises.gaussian import Gaussian

    class Odd(Gaussian):
        def certified_radius(self, p, norm, dim):
            if norm != "l2":
                raise NoCertificate("not proved")
            return super().certified_radius(p, norm, dim)

    class Letters(Digits):
        classes = tuple("abcdefghij")

    def odd() -> Odd:
        return Odd(scale=0.3)

    def letters(root: str, image_size: int = 8) -> Letters:
        return Letters(image_size)

    noises = [
        Entry("odd", "tests", target=odd),
        Entry("broken", "rushkit-broken", "1.2", "tests_no_such_module:x"),
        Entry("twice", "rushkit-one", target=odd),
        Entry("twice", "rushkit-two", target=odd),
    ]
    monkeypatch.setattr(registries.noises, "_entries", [*registries.noises.entries(), *noises])
    monkeypatch.setattr(
        registries.datasets, "_entries", [*registries.datasets.entries(), Entry("letters", "tests", target=letters)]
    )


@pytest.mark.parametrize("start", COMMANDS)
def test_a_command_says_what_the_page_explains(fails, runs, folder, components, start):
    (folder / "data").mkdir()
    (folder / "nothing.py").write_text("")
    (folder / "raises.py").write_text("1 / 0")
    code, arguments = COMMANDS[start]
    err = fails(code, *arguments).err
    assert says(start, err)
    hint = err.partition("hint: ")[2]
    assert problems(hint) == []
    assert not repeats(hint, arguments)


def photos(folder: Path) -> None:
    for split in ("train", "test"):
        place = folder / "data" / split / "cat"
        place.mkdir(parents=True)
        for index, size in enumerate((8, 9, 9, 9)):
            Image.new("RGB", (size, size)).save(place / f"{index}.png")


def images_of_two_sizes(fails, folder, monkeypatch) -> str:
    photos(folder)
    return fails(1, "pretrain", "--recipe", "digits", *PHOTOS).err


def a_damaged_image(fails, folder, monkeypatch) -> str:
    photos(folder)
    (folder / "data" / "train" / "cat" / "1.png").write_bytes(b"none")
    return fails(1, "pretrain", "--recipe", "digits", *PHOTOS).err


def a_class_without_a_place(fails, folder, monkeypatch) -> str:
    photos(folder)
    return fails(1, "pretrain", "--recipe", "digits", *PHOTOS, "--set", 'data.classes=["dog"]').err


def no_runs(fails, folder, monkeypatch) -> str:
    return fails(2, "evaluate", "--set", "system.runs_dir=none").err


def a_run_of_another_verb(fails, folder, monkeypatch) -> str:
    return fails(2, "evaluate", "--from", only(folder / "runs", "pretrain").name).err


def a_finished_run(fails, folder, monkeypatch) -> str:
    return fails(2, "finetune", "--resume", "--run", str(only(folder / "runs", "finetune"))).err


def a_copy(folder: Path) -> Path:
    (stored,) = (only(folder / "runs", "finetune") / "checkpoints").glob("*.safetensors")
    copy = folder / "copy.safetensors"
    copy.write_bytes(stored.read_bytes())
    return copy


def a_torn_checkpoint(fails, folder, monkeypatch) -> str:
    copy = a_copy(folder)
    copy.write_bytes(copy.read_bytes()[:-1])
    return fails(1, "evaluate", "--from", str(copy)).err


def an_altered_checkpoint(fails, folder, monkeypatch) -> str:
    copy = a_copy(folder)
    copy.write_bytes(copy.read_bytes()[:-1] + bytes([copy.read_bytes()[-1] ^ 1]))
    return fails(1, "evaluate", "--from", str(copy)).err


def a_foreign_checkpoint(fails, folder, monkeypatch) -> str:
    save_file({"weight": torch.zeros(3)}, folder / "other.safetensors")
    return fails(1, "evaluate", "--from", "other.safetensors").err


def a_run_that_is_going_on(fails, folder, monkeypatch) -> str:
    run = only(folder / "runs", "pretrain")
    (run / "run.json").write_text((run / "run.json").read_text().replace('"finished"', '"running"'))
    lock = FolderLock(run)
    said = fails(1, "pretrain", "--resume", "--run", str(run)).err
    lock.release()
    return said


def a_batch_that_does_not_divide(fails, folder, monkeypatch) -> str:
    monkeypatch.setattr(loop, "ranks", SimpleNamespace(world=lambda: 3))
    return fails(2, *START).err


def an_interrupted_run(fails, folder, monkeypatch) -> str:
    stepping(monkeypatch, lambda loss: os.kill(os.getpid(), signal.SIGINT) or loss)
    return fails(130, *START).err


def a_loss_that_is_nan(fails, folder, monkeypatch) -> str:
    stepping(monkeypatch, lambda loss: loss * float("nan"))
    return fails(1, *START).err


def too_little_memory(fails, folder, monkeypatch) -> str:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise MemoryError("Unable to allocate 3 GiB")

    stepping(monkeypatch, fail)
    return fails(1, *START).err


def stepping(monkeypatch, after: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Have something happen to the loss of every training step."""
    step = loop.train_batch
    monkeypatch.setattr(loop, "train_batch", lambda *arguments: after(step(*arguments)))


def a_full_disk(fails, folder, monkeypatch) -> str:
    return f"error: {write_error(folder / 'x', OSError(errno.ENOSPC, 'No space left on device')).message}"


def a_folder_that_was_deleted(fails, folder, monkeypatch) -> str:
    stepping(monkeypatch, lambda loss: shutil.rmtree(folder / "runs", ignore_errors=True) or loss)
    return fails(1, *START).err


def an_output_that_is_full(fails, folder, monkeypatch) -> str:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    return fails(1, "runs", "list").err


def a_folder_that_is_a_file(fails, folder, monkeypatch) -> str:
    (folder / "blocked").write_text("")
    return fails(1, *START, "--set", "system.runs_dir=blocked").err


def another_model(fails, folder, monkeypatch) -> str:
    source = only(folder / "runs", "pretrain")
    with start_run("finetune", load_recipe("digits"), parent=str(next((source / "checkpoints").glob("*.saf*")))) as run:
        told = json.loads((run.path / "run.json").read_text()) | {"status": "failed", "hashes": {"parent": "0" * 64}}
    (run.path / "run.json").write_text(json.dumps(told))
    return fails(1, "finetune", "--resume", "--run", str(run.path)).err


def other_images(fails, folder, monkeypatch) -> str:
    run = only(folder / "runs", "finetune")
    (run / "run.json").write_text((run / "run.json").read_text().replace('"finished"', '"failed"'))
    monkeypatch.setattr("rushkit.training.mixing.fingerprint_of", lambda split: "other")
    return fails(1, "finetune", "--resume", "--run", str(run)).err


def a_recipe_too_deep(fails, folder, monkeypatch) -> str:
    (folder / "deep.toml").write_text("data" + ".a" * 20 + " = 1\n")
    return fails(2, "pretrain", "--recipe", "deep.toml").err


def a_network_too_large(fails, folder, monkeypatch) -> str:
    monkeypatch.setattr("rushkit.setup.networks.memory_bytes", lambda: 1000)
    return fails(2, *START).err


def a_job_at_work(folder: Path) -> tuple[str, Claim]:
    job, places = Job(stage="pretrain", recipe={}), Places(folder / "runs")
    write_orders(places, job, Order(study="mine", row="A", seed=0))
    return job.id, take(places.job_folder(job.id))


def a_job_of_another_process(fails, folder, monkeypatch) -> str:
    job, claim = a_job_at_work(folder)
    with claim:
        return fails(4, "study", "work", "--job", job, "--runs", str(folder / "runs")).err


def a_job_that_was_taken_over(fails, folder, monkeypatch) -> str:
    _, claim = a_job_at_work(folder)
    with claim:
        (claim.folder / "claim.2").touch()
        with pytest.raises(Replaced) as raised:
            claim.check()
    return f"error: {raised.value.message}"


def results_of_another_version(fails, folder, monkeypatch) -> str:
    done = Standing("done", version="0.0.1")
    monkeypatch.setattr("rushkit.study.state.standings", lambda plan, runs: dict.fromkeys(plan.jobs, done))
    return fails(2, "study", "run", "digits").err


def no_such_row(fails, folder, monkeypatch) -> str:
    return fails(2, "study", "run", "digits", "--only", "nothing").err


PROVOKED: dict[str, Callable[..., str]] = {
    "<holder> works on the job": a_job_of_another_process,
    "another process has taken over": a_job_that_was_taken_over,
    "rushkit <version> made": results_of_another_version,
    "the study has no row": no_such_row,
    "<image> is <size>": images_of_two_sizes,
    "<image> cannot be read": a_damaged_image,
    "<folder> has class folders": a_class_without_a_place,
    "no finished run of <verb> in": no_runs,
    "<run> is a run of": a_run_of_another_verb,
    "<run> is finished": a_finished_run,
    "checkpoint <path> is cut": a_torn_checkpoint,
    "checkpoint <path> is altered": an_altered_checkpoint,
    "<path> is a safetensors": a_foreign_checkpoint,
    "another process (pid": a_run_that_is_going_on,
    "a batch of <n> does not": a_batch_that_does_not_divide,
    "the model changed": another_model,
    "the images of <split> are not": other_images,
    "<recipe> is not a valid recipe": a_recipe_too_deep,
    "the network's weights": a_network_too_large,
    "stopped at": an_interrupted_run,
    "the loss is": a_loss_that_is_nan,
    "out of memory": too_little_memory,
    "no room": a_full_disk,
    "cannot write": a_folder_that_is_a_file,
    "the run's folder <run> is gone": a_folder_that_was_deleted,
    "the standard output cannot": an_output_that_is_full,
}


@pytest.mark.parametrize("start", PROVOKED)
def test_what_goes_wrong_is_said_as_the_page_explains(fails, runs, folder, monkeypatch, start):
    assert says(start, PROVOKED[start](fails, folder, monkeypatch))


def test_an_error_of_ours_is_said_as_the_page_explains(cli, monkeypatch):
    monkeypatch.setattr("rushkit.recipe.find.available", lambda: {}["no such key"])
    said = cli("recipe", "list")
    assert said.code == 1
    assert says("an error inside", said.err)


LOSSES = {
    "rank <n> was killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "rank <n> lost the connection": "os._exit(75)",
    "rank <n> ended with exit code": "os._exit(9)",
}


@pytest.mark.parametrize("start", LOSSES)
def test_a_lost_rank_is_said_as_the_page_explains(capfd, start):
    run_ranks([sys.executable, "-c", f"import os, signal; {LOSSES[start]}"], 2)
    assert says(start, capfd.readouterr().err)


@pytest.mark.parametrize(
    ("start", "rank"), [("the environment variable", "two"), ("rank <n> of <m> has not come", "0")]
)
def test_a_rank_alone_is_said_as_the_page_explains(cli, monkeypatch, start, rank):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    where = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RUSHKIT_WAIT": "1"}
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    assert says(start, cli(*START).err)


def test_what_ranks_may_not_do_is_said_as_the_page_explains(fails, monkeypatch):
    monkeypatch.setattr(ranks, "world", lambda: 3)
    with pytest.raises(UsageError) as raised:
        ranks.check_device(SimpleNamespace(type="cuda", index=0))
    assert says("rank <n> has no GPU", f"error: {raised.value.message}")


def test_every_heading_is_provoked():
    ranks = ("the environment variable", "rank <n> of <m> has not come", "rank <n> has no GPU")
    rest = ("an error inside", *ranks, *LOSSES)
    provoked = [heading(start) for start in (*COMMANDS, *PROVOKED, *rest)]
    assert sorted(provoked) == sorted(HEADINGS)
    assert len(HEADINGS) == len(set(HEADINGS))
