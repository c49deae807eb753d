"""The time that this process has spent on compiling kernels, which is once per machine and no work on a case.

Imports no compiler, so that any clock may ask it.
"""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

#: What a job writes into its log when it begins to compile; `softlabels status` looks for it.
COMPILING = "compiling kernels (once per machine)"


class CompileClock:
    """Sums up compilations, of which one may be part of another.

    Examples
    --------
    >>> clock = CompileClock()
    >>> clock.start(), clock.start(), clock.end(), clock.end()
    (None, None, None, None)
    >>> clock.n_kernels, clock.wall_seconds >= 0
    (1, True)
    """

    def __init__(self) -> None:
        self.wall_seconds = self.cpu_seconds = 0.0
        self.n_kernels = 0
        self._depth = 0
        self._started = (0.0, 0.0)

    def start(self) -> None:
        """Note that a compilation begins. The first one of a process is logged."""
        if self._depth == 0:
            if self.n_kernels == 0:
                log.info(COMPILING)
            self._started = time.perf_counter(), time.process_time()
        self._depth += 1

    def end(self) -> None:
        """Note that the compilation that began last has ended."""
        self._depth -= 1
        if self._depth == 0:
            self.wall_seconds += time.perf_counter() - self._started[0]
            self.cpu_seconds += time.process_time() - self._started[1]
            self.n_kernels += 1


#: Of this process.
clock = CompileClock()
