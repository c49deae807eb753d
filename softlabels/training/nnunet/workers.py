"""Why nnU-Net's background workers ended: batchgenerators itself says only that they are no longer alive."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from softlabels.errors import SoftLabelsError

#: What usually sends a signal, and what to do about it; `{n_allowed}` is the number of workers.
_CAUSES = {
    "SIGBUS": "Usually /dev/shm is full: give it more, in a container with `docker run --shm-size=8g` or `--ipc=host`",
    "SIGKILL": "Usually memory has run out: give the job more, or set nnUNet_n_proc_DA below {n_allowed}",
    "SIGTERM": "Something outside of the training ended it: a user, the batch system or a watchdog; see its log",
}
_CRASH = "A compiled library crashed: set PYTHONFAULTHANDLER=1 to see where, and reinstall that library"
_CAUSES |= dict.fromkeys(("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL"), _CRASH)


class WorkerError(SoftLabelsError, RuntimeError):
    """A background worker was killed, or ended with an error that is not of softlabels."""


class Failures:
    """The errors of background workers, handed to the process that trains.

    Made before the workers start, and given to them with the data set. A worker ends at its first error.
    """

    def __init__(self) -> None:
        self._errors: multiprocessing.SimpleQueue[SoftLabelsError] = multiprocessing.SimpleQueue()

    @contextmanager
    def recorded(self, identifier: str) -> Iterator[None]:
        """Record the error of a case, and let it pass on to the worker's loop.

        Parameters
        ----------
        identifier : str
            Of the case that is read within.
        """
        try:
            yield
        except SoftLabelsError as error:
            self._errors.put(error)
            raise
        except Exception as error:
            self._errors.put(WorkerError(f"case {identifier}: {type(error).__name__}: {error}"))
            raise

    def first(self) -> SoftLabelsError | None:
        """Return the error that was recorded first, and forget it; None if there is none."""
        return None if self._errors.empty() else self._errors.get()


def killed_error(exit_codes: Sequence[int | None], n_allowed: int) -> WorkerError | None:
    """Return the error of a training whose workers were killed, with what the signal means; None if none was.

    Parameters
    ----------
    exit_codes : sequence of int or None
        Of all workers: negative for a signal, None for one that still runs. Once a worker is gone, batchgenerators ends
        the others, those that do not react in time with SIGTERM. So SIGTERM is a cause only where no worker ended in
        another way.
    n_allowed : int
        The number of workers that nnU-Net was allowed.

    Examples
    --------
    >>> str(killed_error([-9, 0, 0], 2)).partition(".")[0]
    'data loading: 1 of 3 background workers was killed (SIGKILL)'
    """
    codes = [code for code in exit_codes if code]
    signals = [_signal_name(-code) for code in codes if code < 0]
    killed = [name for name in signals if name != "SIGTERM"]
    if not killed and max(codes, default=0) < 0:
        killed = signals
    if not killed:
        return None
    names = sorted(set(killed))
    causes = dict.fromkeys(
        _CAUSES.get(name, f"Another process sent {name}").format(n_allowed=n_allowed) for name in names
    )
    return WorkerError(
        f"data loading: {len(killed)} of {len(exit_codes)} background workers {'was' if len(killed) == 1 else 'were'} "
        f"killed ({', '.join(names)}). {'. '.join(causes)}. Then continue the training with nnUNetv2_train and --c"
    )


def _signal_name(number: int) -> str:
    """Return the name of a signal; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
