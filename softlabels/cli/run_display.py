"""How a run is shown: bars in a terminal, lines in a log, and a summary at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from softlabels._shared.counts import counted
from softlabels.monitor.follow import Follower, failed_summary
from softlabels.pipeline.cost import duration

if TYPE_CHECKING:
    from softlabels.monitor.run_state import RunState
    from softlabels.monitor.status import Work

#: Failures that are shown below the bars; all are listed at the end.
_N_SHOWN = 3
#: Seconds between two drawings of the bars.
_DRAW_SECONDS = 0.25
#: Seconds between two lines of progress in a log.
_LINE_SECONDS = 30
_OTHER_JOBS = "other jobs"


class Display:
    """Shows a run on stderr: with bars that move if that is a terminal, else with lines.

    Parameters
    ----------
    console : rich.console.Console, optional
        By default stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.is_live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._has_ended, self._draw_at = False, 0.0
        self._draw: Callable[[], None] = lambda: None
        self._began = time.monotonic()
        self._line_at, self._line = 0.0, ""
        self._shown: set[Work] = set()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def of(self, follower: Follower, is_interrupted: Callable[[], bool]) -> Iterator[None]:
        """Show the bars of a run, which stay when it ends."""
        if not self.is_live:
            yield
            return
        # Drawn by `update` alone: another thread would read the state while it changes.
        live = Live(console=self.console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._draw = lambda: live.update(self._bars(follower, is_interrupted()), refresh=True)
        with live:
            yield
            self._has_ended = True
            self._draw()

    def update(self, follower: Follower) -> None:
        """Draw the bars again, or print a line of progress if it is time for one."""
        state, now = follower.state, time.monotonic()
        if self.is_live and now >= self._draw_at:
            self._draw()
            # Of a huge cohort, drawing takes a while.
            self._draw_at = now + max(_DRAW_SECONDS, 10 * (time.monotonic() - now))
        if self.is_live or state is None or not state.jobs:
            return
        for work, failure in state.failures.items():
            if work not in self._shown:
                self.say(failure.line)
                self._shown.add(work)
        line = "; ".join([_counts(state), *_facts(state, now, is_remote=follower.is_remote)])
        if line != self._line and now >= self._line_at:
            self.say(f"{time.strftime('%H:%M:%S')}  {line}")
            self._line, self._line_at = line, now + _LINE_SECONDS

    def summarise(self, follower: Follower, exit_code: int, *, is_interrupted: bool) -> None:
        """Print what became of the run, every failure with its log, and what to do next."""
        state = follower.state
        if not follower.is_scheduled:
            for text in follower.early:
                self.say(text)
        if state is None:
            return
        if not self.is_live and state.jobs:
            self.say(f"{time.strftime('%H:%M:%S')}  {_counts(state)}")
        if is_interrupted:
            self.say("Stopped. Finished results are kept; run the same command to resume")
            return
        for line in failed_summary(len(state.failed_cases()), state.n_cases, follower.failures()):
            self.console.print(line, style="red", markup=False, soft_wrap=True)
        self._say_what_next(follower, exit_code)

    def _say_what_next(self, follower: Follower, exit_code: int) -> None:
        state, took = follower.state, duration(time.monotonic() - self._began)
        assert state is not None
        index, report = state.results / "index.json", state.results / "report" / "index.html"
        if exit_code == 0 and index.exists() and state.is_complete():
            look = f"; look at {report}" if report.exists() else ""
            self.say(f"All results are complete ({took}). Train on {index}{look}")
        elif state.failed_cases():
            self.say(
                "Correct what the lines above name and run the same command again: finished results are kept. "
                "To train without these cases: softlabels index --allow-missing"
            )
        elif exit_code == 0 and state.jobs:
            self.say(f"Done ({took})")

    def _bars(self, follower: Follower, is_interrupted: bool) -> RenderableType:
        """Return the bars of the stages, with what is known of the run above and the last failures below."""
        state, now = follower.state, time.monotonic()
        if state is None or not state.jobs:
            return Text("planning the jobs" if not follower.early or state is None else "", style="dim")
        facts = [] if self._has_ended else _facts(state, now, is_remote=follower.is_remote)
        facts = [counted(state.n_cases, "case"), *facts, duration(now - self._began)]
        head = Text(" · ".join(facts), style="bold")
        if is_interrupted:
            head.append("   stopping; finished results are kept", style="yellow")
        table = Table.grid(Column(), Column(width=40), Column(justify="right"), padding=(0, 2))
        for name, (n_done, n_all) in {**state.stages(), _OTHER_JOBS: state.others()}.items():
            if n_all:
                bar = ProgressBar(n_all, n_done, width=40, complete_style="cyan", finished_style="green")
                table.add_row(name, bar, f"{n_done}/{n_all}")
        # At the end, all of them are listed.
        failures = [] if self._has_ended else list(state.failures.values())[-_N_SHOWN:]
        return Group(head, table, *(Text(one.line, style="red", overflow="ellipsis", no_wrap=True) for one in failures))


def _counts(state: RunState) -> str:
    """Return how far each stage is, in words."""
    counts = {**state.stages(), _OTHER_JOBS: state.others()}
    return ", ".join(f"{name} {n_done}/{n_all}" for name, (n_done, n_all) in counts.items() if n_all)


def _facts(state: RunState, now: float, *, is_remote: bool) -> list[str]:
    """Return what else is known of a run: running jobs, failed cases, the time left."""
    n_active = len(state.active)
    facts = [f"{counted(n_active, 'job')} {'submitted' if is_remote else 'running'}"] if n_active else []
    if n_failed := len(state.failed_cases()):
        facts.append(f"{n_failed} failed")
    left = state.seconds_left(now)
    return facts + ([f"about {duration(left)} left"] if left else [])
