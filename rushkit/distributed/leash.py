"""The leash of a rank of ``--nproc``: it ends with the process that started it, even when that is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1


def put_on() -> None:
    """End this process as soon as its parent is gone, since nothing else would stop it.

    The end is as abrupt as a kill: files on disk stay intact, and ``--resume`` continues from there. Until the ranks
    have joined, a signal ends this process at once: a rank that waits for others inside torch would not hear it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if sys.platform == "linux":
        # Works even while a library holds the interpreter; the pipe works everywhere, and where the parent died first.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
