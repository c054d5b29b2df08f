"""Stages that take milliseconds, with figures that follow from the job: for tests of what runs them.

What they do is written to the file, or the pipe, that STUB_LEDGER names: a line ``EVENT ROW SEED STAGE PID`` for each
of begin, step and end. A file ``fail ROW STAGE`` or ``die ROW STAGE`` beside it makes them do that, and one called
``hold ROW STAGE`` lets them wait after a step until they are asked to stop.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import torch

from rushkit.errors import Interrupted, RushkitError
from rushkit.results.training import Finetuning, Pretraining
from rushkit.run.signals import graceful_stop
from rushkit.study.job import STAGES, canonical
from rushkit.study.perform import Call, StageCall

STEPS = 4


def note(call: Call, event: str) -> None:
    about = call.run.about.study
    line = f"{event} {about.row} {about.seed} {call.run.verb} {os.getpid()}\n"
    handle = os.open(os.environ["STUB_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def is_asked(call: Call, what: str) -> bool:
    name = f"{what} {call.run.about.study.row} {call.run.verb}"
    return Path(os.environ["STUB_LEDGER"]).with_name(name).exists()


def stub(call: Call) -> Pretraining | Finetuning:
    note(call, "begin")
    if is_asked(call, "fail"):
        raise RushkitError("asked to fail", "take the file away")
    if is_asked(call, "die"):
        os.kill(os.getpid(), signal.SIGKILL)
    found = call.run.checkpoints.load_latest()
    recipe = call.recipe.resolved()
    recipe["system"] = call.recipe.system.seed
    parent = 0.0 if call.model is None else float(call.model.tensors["w"])
    step, value = (found.meta["step"], float(found.tensors["w"])) if found else (0, parent)
    with graceful_stop() as stop:
        while step < STEPS:
            step += 1
            digest = hashlib.sha256(f"{value} {step} {call.run.verb} {canonical(recipe)}".encode()).digest()
            value = int.from_bytes(digest[:3], "big") / 2**24
            call.run.save_checkpoint(step, {"w": torch.tensor(value, dtype=torch.float64)}, {"step": step})
            note(call, "step")
            while is_asked(call, "hold") and not stop.requested:
                time.sleep(0.005)
            if stop.requested:
                raise Interrupted("stopped; saved")
    note(call, "end")
    if call.run.verb == "pretrain":
        return call.run.write_results(Pretraining(recipe="stub", epochs=1, loss=value, knn_protocol=None))
    return call.run.write_results(Finetuning(recipe="stub", epochs=1, source=None, loaded=0, trainable=[], loss=value))


STUBS = {stage: StageCall(stub, resumes=stage in ("pretrain", "finetune")) for stage in STAGES}
