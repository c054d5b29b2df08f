"""A process that claims a job again and again: ``python claimant.py FOLDER``. It says when it holds, and is told to go.

The kernel's own lock, which dies with its process, is the truth that the claims are held against.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from rushkit.errors import Busy
from rushkit.study import claims


def main() -> None:
    folder = Path(sys.argv[1])
    with (folder / "truth").open("a") as truth:
        while True:
            try:
                claim = claims.take(folder)
            except Busy:
                time.sleep(0.002)
                continue
            try:
                fcntl.flock(truth, fcntl.LOCK_EX | fcntl.LOCK_NB)
                said = "holds"
            except BlockingIOError:
                said = "second"
            os.write(1, f"{said} {claim.number} {os.getpid()}\n".encode())
            if not sys.stdin.readline():
                return
            fcntl.flock(truth, fcntl.LOCK_UN)
            claim.release()


if __name__ == "__main__":
    main()
