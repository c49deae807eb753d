"""``python -m softlabels``, as the rules call it, and the command ``softlabels``."""

import atexit
import gc
import os
import sys
import threading

from softlabels.cli import main

#: Objects made before Python looks among them for cycles. Nearly all that an import makes stay, and looking at them
#: after every 700, which is Python's own number, takes 5 to 10 % of a short command.
_YOUNG_OBJECTS = 50_000


def _leave() -> None:
    """End a process whose command succeeded, without taking apart what it has in memory.

    Python would free every object and module before the system takes the memory back: a third of a second of a job.
    Before that it waits for threads, calls what is registered for the end and writes what is buffered, as here;
    `multiprocessing` ends its processes in the same way.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by whoever started the process
                stream.flush()
    except OSError:
        return  # Python says what went wrong, and with which code, when it ends by itself.
    os._exit(0)


def _is_watched() -> bool:
    """Return whether a profiler or tracer runs, which writes its figures after the command."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = map(monitoring.get_tool, range(6)) if monitoring else ()
    return sys.getprofile() is not None or sys.gettrace() is not None or any(tools)


def run() -> None:
    """Run a command and end the process."""
    gc.set_threshold(_YOUNG_OBJECTS)
    try:
        main()
    except SystemExit as ended:
        if ended.code or _is_watched():
            raise
    _leave()


if __name__ == "__main__":
    run()
