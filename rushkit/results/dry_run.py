"""What a training would take, as ``--dry-run`` says it."""

from __future__ import annotations

from rushkit.results.base import Record


class DryRun(Record):
    """The sizes of a training that is not done, in words.

    Attributes:
        images: Number of training images.
        steps: Number of steps, and of how many epochs.
        input: Images and their shape in a step.
        parameters: Number of parameters, and how many of them train.
        arithmetic: Multiply-accumulates of a view.
        memory: What a step needs.
        machine: Device, precision and threads, and whether the network is compiled or recomputes its activations.
    """

    images: str
    steps: str
    input: str
    parameters: str
    arithmetic: str
    memory: str
    machine: str
