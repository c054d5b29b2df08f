"""A tracker that is kept level with a metrics file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pydantic import JsonValue

from rushkit.trackers import TrackedRun, Tracker

# Where a line stands, and of what kind it is: its place on the axis and its tag, not its figures.
_PLACE = ("step", "epoch", "kind")
Line = Mapping[str, JsonValue]


class Mirror:
    """Shows a tracker the lines of a metrics file; the first error ends it with a warning, and never the run.

    Args:
        name: The tracker's registered name, for the warning.
        tracker: The tracker.
        run: The run whose metrics they are.
        warn: Takes the warning.
    """

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun, warn: Callable[[str], None]) -> None:
        self._name, self._tracker, self._run, self._warn = name, tracker, run, warn
        self._failed = False
        self.begun = False

    def begin(self, lines: Iterable[Line]) -> None:
        """Start the tracker anew with these lines."""

        def start() -> None:
            self._tracker.begin(self._run)
            for line in lines:
                self._show(line)
            self._tracker.flush()

        self.begun = True
        self._try(start)

    def add(self, line: Line) -> None:
        """Show one line more."""
        self._try(lambda: self._show(line))

    def flush(self) -> None:
        """Bring to safety what was shown so far."""
        if self.begun:
            self._try(self._tracker.flush)

    def close(self) -> None:
        """End the tracker, if it was begun."""
        if self.begun:
            self.begun = False
            self._try(self._tracker.close)

    def _show(self, line: Line) -> None:
        """Show the numbers of a line; one without a step has no place on the axis, and is left out."""
        step = line.get("step")
        if not isinstance(step, int):
            return
        kind = f"{line['kind']}/" if "kind" in line else ""
        numbers = {key: value for key, value in line.items() if key not in _PLACE and isinstance(value, int | float)}
        self._tracker.add(step, {f"{kind}{key}": float(value) for key, value in numbers.items()})

    def _try(self, action: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, a training of days does not end for it
            self._failed = True
            what = str(error) or type(error).__name__
            self._warn(f"tracker {self._name}: {what}; the run goes on without it, and metrics.jsonl has everything")
