"""Standard output and error streams whose failures never stop the work that prints to them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Voice:
    """A text stream whose writes do not fail: after its first failure it is silent, and ``failure`` says why.

    A reader that has left, a full disk, a terminal that was closed, a stream that was never open: none of it is a
    reason to stop a computation. A character that the stream's encoding lacks is written escaped.

    Args:
        stream: Where the text goes; None, as ``sys.stdout`` is without a file descriptor, fails at the first write.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, if the stream takes it. Raises TypeError for bytes, as every text stream does."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream writes str, not {type(text).__name__}")
        if self._stream is None:
            self.failure = self.failure or OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.failure is None and self._stream is not None:
            try:
                self._write(self._stream, text)
            except RuntimeError:
                # From a signal handler in the middle of a write to this very stream, which Python forbids: the
                # interrupted write goes on, and only this text is lost.
                pass
            except Exception as error:  # noqa: BLE001 - whatever a stream raises, the work is not to hear of it
                self.failure = error
        return len(text)

    def flush(self) -> None:
        """Flush the text written so far, if the stream takes it."""
        if self.failure is None and self._stream is not None:
            try:
                self._stream.flush()
            except RuntimeError:
                pass
            except Exception as error:  # noqa: BLE001
                self.failure = error

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        try:
            return bool(self._stream is not None and self._stream.isatty())
        except Exception:  # noqa: BLE001 - a closed stream, or one that is none
            return False

    def finish(self) -> None:
        """Flush for the last time. What a failed stream still holds is dropped: at exit it would fail once more."""
        self.flush()
        if self.failure is not None and self._stream is not None:
            with contextlib.suppress(Exception):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)

    @staticmethod
    def _write(stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def unfailing(stream: TextIO | None) -> TextIO:
    """Return the stream wrapped in a ``Voice``, unless it already is one."""
    return cast(TextIO, stream if isinstance(stream, Voice) else Voice(stream))


@contextlib.contextmanager
def unfailing_output() -> Iterator[Voice]:
    """``sys.stdout`` and ``sys.stderr`` as voices inside the block, for everybody who prints; yields that of stdout."""
    _occupy_standard_descriptors()
    before = sys.stdout, sys.stderr
    out, err = Voice(before[0]), Voice(before[1])
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out
    finally:
        out.finish()
        err.finish()
        sys.stdout, sys.stderr = before


def _occupy_standard_descriptors() -> None:
    """Open the null device where a standard stream is closed: the next file would take its number, and its output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is given, and that is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
