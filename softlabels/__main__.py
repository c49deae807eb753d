"""``python -m softlabels``, as the rules call it, and the command ``softlabels``."""

import atexit
import os
import sys
import threading

from softlabels.cli import main


def _leave() -> None:
    """End a process whose command succeeded, without taking apart what it has in memory.

    Python would free every object and module before the system takes the memory back: a third of a second of a job.
    Before that it waits for threads, calls what is registered for the end and writes what is buffered, as here;
    `multiprocessing` ends its processes in the same way.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run() -> None:
    """Run a command and end the process."""
    try:
        main()
    except SystemExit as ended:
        # A profiler writes its figures after this.
        if ended.code or sys.getprofile() is not None:
            raise
    _leave()


if __name__ == "__main__":
    run()
