"""Results that are not kept: computed when a later stage first reads them, in the memory of one job, never written.

Their keys follow from the recipe alone, so what is computed from them has the key, and the bits, that it has where
everything is kept. A value is read as the store would give it back: rounded as it would have been written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boxed import BoxedVolumes
from softlabels._shared.compile_clock import clock
from softlabels._shared.on_demand import VolumesOnDemand
from softlabels.errors import InputError
from softlabels.pipeline.receipts import LINK_SUFFIX, Receipt

if TYPE_CHECKING:
    from softlabels.pipeline.node import Node
    from softlabels.pipeline.stages.base import Job, Result, Upstream
    from softlabels.store.publish import Layer
    from softlabels.store.read import Entry

log = logging.getLogger(__name__)


class Work:
    """The time that some work takes, less what is measured apart within it.

    Examples
    --------
    >>> with CaseMemory().measured() as work:
    ...     pass
    >>> 0 <= work.seconds < 1
    True
    """

    def __init__(self) -> None:
        self._started = _clocks()
        self._ended: tuple[float, float] | None = None
        self._apart = (0.0, 0.0)

    @property
    def seconds(self) -> float:
        """Wall time, up to now or to the end of the work."""
        return self._spent()[0]

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all threads of the process."""
        return self._spent()[1]

    def end(self) -> None:
        """Stop the clocks."""
        self._ended = _clocks()

    def leave_out(self, other: Work) -> None:
        """Leave out work that was measured apart, with all that was left out of that."""
        whole = [end - start for start, end in zip(other._started, other._ended or _clocks(), strict=True)]
        self._apart = (self._apart[0] + whole[0], self._apart[1] + whole[1])

    def _spent(self) -> tuple[float, float]:
        """Return wall and CPU time."""
        now = self._ended or _clocks()
        return now[0] - self._started[0] - self._apart[0], now[1] - self._started[1] - self._apart[1]


def _clocks() -> tuple[float, float]:
    """Return wall and CPU time in seconds since some time, without that of compiling kernels."""
    return time.perf_counter() - clock.wall_seconds, time.process_time() - clock.cpu_seconds


def volumes_of(entry: Entry, layer: str, n_threads: int) -> VolumesOnDemand:
    """Return a layer of channels of an entry that are read when they are needed, those that share chunks at a time."""

    def read(first: int, stop: int) -> NDArray[Any]:
        return entry.read(layer, n_threads=n_threads, channels=(first, stop))

    return VolumesOnDemand(entry.shape(layer), read, dtype=entry.dtype(layer), n_together=entry.chunks(layer)[0])


class CaseMemory:
    """What the jobs of one case in one process hand on without writing it.

    Parameters
    ----------
    nodes : iterable of Node
        All nodes that are worked on: a result is held until the last of them that reads it is done.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._open = {node.id: node for node in nodes}
        self._held: dict[str, HeldResult] = {}
        self._measured: list[Work] = []

    def get(self, node_id: str) -> HeldResult | None:
        """Return the result of a node that is not kept, or None if this case has none."""
        return self._held.get(node_id)

    def hold(self, node_id: str, result: HeldResult) -> None:
        """Hand a result on to the jobs that follow."""
        self._held[node_id] = result

    def readers(self, node_id: str) -> list[Node]:
        """Return the nodes that are not done and read the result of a node."""
        return [node for node in self._open.values() if node_id in node.inputs.values()]

    def finish(self, node_id: str) -> None:
        """Note that a node reads nothing more, and release what nobody is left to read."""
        done = self._open.pop(node_id, None)
        for upstream in set(done.inputs.values()) if done else ():
            held = self._held.get(upstream)
            if held is not None and not self.readers(upstream):
                held.release()
                self.finish(upstream)

    def drop(self, node_id: str) -> None:
        """Take back a result that could not be computed: what reads it has to wait."""
        self._held.pop(node_id, None)

    @contextmanager
    def measured(self) -> Iterator[Work]:
        """Measure the work inside; what is measured further inside counts there alone."""
        work = Work()
        self._measured.append(work)
        try:
            yield work
        finally:
            work.end()
            self._measured.pop()
            if self._measured:
                self._measured[-1].leave_out(work)


class HeldResult:
    """The result of one case x node that is not kept. It reads like an entry of the store.

    Parameters
    ----------
    job : Job
    sources : Upstream
        What the job reads.
    key : str
        Of the entry that it would be.
    result : callable
        Computes it; called once at most.
    recorded : callable
        Returns the context in which a failure to compute it is recorded.

    Notes
    -----
    If the store has that entry, from another project or from before `keep` was changed, it is read instead. A layer
    that is made on demand is made again for every reader, and what it is made of is held as long as it may be read.
    """

    def __init__(
        self,
        job: Job,
        sources: Upstream,
        key: str,
        result: Callable[[], Result],
        recorded: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.key, self.grid, self.params = key, sources.grid, job.node.params
        self._job, self._sources, self._result, self._recorded = job, sources, result, recorded
        self._layers: dict[str, Layer] = {}
        self._entry: Entry | None = None
        self._quality: dict[str, Any] | Callable[[], dict[str, Any]] | None = None
        self._works: list[Work] = []

    @property
    def quality(self) -> dict[str, Any]:
        """The figures of the result, which is computed if it has not been."""
        self.compute()
        return self._figures()

    def _figures(self) -> dict[str, Any]:
        """Return the figures of the result, with what is left to make of a layer on demand; empty if not computed."""
        if callable(self._quality):
            with self._at_work():
                self._quality = self._quality()
        return {} if self._quality is None else self._quality

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers."""
        self.compute()
        return self._entry.layers if self._entry is not None else tuple(self._layers)

    def channels(self, name: str) -> tuple[str, ...] | None:
        """Return the names of a layer's channels; None if it has no channel axis."""
        self.compute()
        if self._entry is not None:
            return self._entry.channels(name)
        names = self._layer(name).channels
        return None if names is None else tuple(names)

    def read(self, name: str, *, n_threads: int = 1) -> NDArray[Any]:
        """Return a whole layer as `Entry.read` would; not a copy, so it cannot be written to."""
        self.compute()
        if self._entry is not None:
            return self._entry.read(name, n_threads=n_threads)
        values = self._layer(name).values
        return values.dense() if isinstance(values, BoxedVolumes | VolumesOnDemand) else np.asarray(values)

    def boxed(self, name: str, *, fill: float) -> BoxedVolumes | None:
        """Return a layer of channels if it is held in boxes of what is not `fill`, else None."""
        self.compute()
        held = None if self._entry is not None else self._layer(name).values
        return held if isinstance(held, BoxedVolumes) and held.fill == fill else None

    def volumes(self, name: str) -> VolumesOnDemand:
        """Return a layer of channels, a few of which are read or made at a time."""
        self.compute()
        if self._entry is not None:
            return volumes_of(self._entry, name, self._job.threads or 1)
        values = self._layer(name).values
        if isinstance(values, VolumesOnDemand):
            return values
        return VolumesOnDemand(values.shape, lambda a, b: values[a:b, :, :, :], dtype=values.dtype)

    def compute(self) -> None:
        """Compute the result, or find it in the store; nothing happens the second time."""
        if self._quality is not None:
            return
        job = self._job
        with self._at_work():
            self._entry = job.store.find(self.key)
            self._quality = self._computed() if self._entry is None else self._entry.quality
        if not callable(self._quality):
            job.memory.finish(job.node.id)
        found = "computed" if self._entry is None else "found in the store"
        later = ", its maps on demand" if callable(self._quality) else ""
        log.info("%s %s: %s in %.2f s, not kept%s", job.case.id, job.node.id, found, self._works[0].seconds, later)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Measure work on this result apart from that of its reader; a failure takes the result back."""
        job = self._job
        try:
            with self._recorded(), job.memory.measured() as work:
                self._works.append(work)
                yield
        except BaseException:
            # A receipt of an earlier run must not pass for a result that this run did not produce.
            job.memory.drop(job.node.id)
            job.receipt_path.unlink(missing_ok=True)
            raise

    def _computed(self) -> dict[str, Any] | Callable[[], dict[str, Any]]:
        """Compute the layers, those on demand aside; return the figures of the result, or what returns them."""
        from softlabels.store.in_memory import in_memory

        result = self._result()
        while result.layers:
            layer = in_memory(result.layers.pop(0), self._job.threads or 1)
            if isinstance(layer.values, VolumesOnDemand):
                layer = replace(layer, values=layer.values.within(self._at_work))
            self._layers[layer.name] = layer
        return result.quality

    def release(self) -> None:
        """Forget the values; the figures stay."""
        self._layers = {}

    def history(self) -> dict[str, dict[str, Any]]:
        """Return stage to key and figures, of this result and of all that it was computed from but the prepared case.

        Of what was not computed there are no figures.
        """
        own = {self._job.node.stage: {"key": self.key, "quality": self._figures()}}
        if self._entry is not None:
            return self._entry.provenance.get("history", {}) | own
        return self._sources.history() | own

    def write_receipts(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the receipts of this result and of those not kept before it.

        Parameters
        ----------
        known : mapping
            The `history` in the provenance of what was computed from this result, for figures where that was reused.
        """
        for earlier in self._sources.held():
            earlier.write_receipts(known)
        job, recorded = self._job, known.get(self._job.node.stage, {})
        quality = self._figures()
        if self._quality is None:
            quality = recorded.get("quality", {}) if recorded.get("key") == self.key else {}
        is_computed = self._quality is not None and self._entry is None
        works = self._works if is_computed else []
        job.receipt_path.with_suffix(LINK_SUFFIX).unlink(missing_ok=True)
        Receipt(
            case=job.case.id,
            node=job.node.id,
            stage=job.node.stage,
            key=self.key,
            manifest=None,
            store=str(job.store.path),
            outcome="computed" if is_computed else "reused",
            seconds=round(sum(work.seconds for work in works), 4),
            cpu_seconds=round(sum(work.cpu_seconds for work in works), 4),
            quality=quality,
            flags=sorted(quality.get("flags", [])),
            upstream=dict(self._sources.keys),
        ).write(job.receipt_path)

    def _layer(self, name: str) -> Layer:
        """Return a layer, or raise InputError naming those there are."""
        if name not in self._layers:
            raise InputError(f"{self._job.node.id}: got layer {name!r}, expected one of {', '.join(self.layers)}")
        return self._layers[name]
