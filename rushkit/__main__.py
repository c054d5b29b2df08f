"""``python -m rushkit`` and the ``rushkit`` command."""

from __future__ import annotations

import os
import sys

try:
    from rushkit import interrupt
    from rushkit.voice import unfailing_output
except KeyboardInterrupt:
    sys.stderr.write("error: interrupted\n")
    sys.exit(130)


def main() -> int:
    """Run the command line of this process; Ctrl-C, SIGTERM and SIGHUP are heard before anything else is imported.

    A rank of ``--nproc`` hears them once it has joined the others.
    """
    try:
        if "RUSHKIT_JOB_FOLDER" in os.environ:
            from rushkit.distributed.leash import put_on

            put_on()
        else:
            interrupt.listen()
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
            from rushkit.distributed.notes import final_code

            # torchrun starts the ranks again whatever ended them.
            if (code := final_code()) is not None:
                return code
        with interrupt.heard():
            from rushkit.cli.app import main as run
        return run()
    except KeyboardInterrupt:
        # Nothing of the command line can be relied on yet. Of a rank the launcher says it.
        if "RUSHKIT_JOB_FOLDER" not in os.environ:
            with unfailing_output():
                sys.stderr.write("error: interrupted\n")
        return interrupt.EXIT_CODE
    finally:
        interrupt.leave()


if __name__ == "__main__":
    sys.exit(main())
