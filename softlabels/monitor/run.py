"""Snakemake as a child process of `softlabels run`: its command line, its events, the signals that are passed on."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from softlabels._shared.cpus import usable_cpus
from softlabels._shared.files import explained
from softlabels.errors import InputError
from softlabels.monitor.deployment import workflow_folder
from softlabels.monitor.environment import python_path
from softlabels.monitor.events import TEXT, VARIABLE

#: Where Snakemake looks for a workflow.
_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
#: What makes a Snakefile run the workflow of the package with config.yaml of the folder.
_INCLUDE = 'include: workflow_folder() / "Snakefile"'
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: What Snakemake's own output is wanted of, or what runs no jobs; names of its parsed arguments.
_PLAIN = (
    *("dryrun", "verbose", "printshellcmds", "logger", "debug_dag", "touch", "unlock", "lint", "report", "archive"),
    *("dag", "rulegraph", "filegraph", "d3dag", "summary", "detailed_summary", "list_rules", "list_target_rules"),
    *("list_changes", "list_input_changes", "list_params_changes", "list_untracked", "list_conda_envs"),
    *("delete_all_output", "delete_temp_output", "cleanup_metadata", "conda_create_envs_only", "generate_unit_tests"),
    *("containerize", "export_cwl", "print_compilation", "conda_cleanup_envs", "cleanup_shadow"),
    "container_cleanup_images",
)

#: Set for the jobs of a run that shows failures itself.
FAILURES_ARE_SHOWN = "SOFTLABELS_FAILURES_ARE_SHOWN"


def check_snakemake_cache() -> None:
    """Raise StoreError if Snakemake's cache of sources cannot be written; Snakemake itself ends in a traceback."""
    from snakemake.common import get_appdirs

    folder = Path(get_appdirs().user_cache_dir) / "snakemake" / "source-cache"
    with explained(folder, "Snakemake's cache cannot be written; XDG_CACHE_HOME names another folder for it"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # More than the smallest block of a file system, and as much as a source has.
            file.write(bytes(1 << 14))


@dataclass(frozen=True)
class RunCommand:
    """What a run of Snakemake is asked to do.

    Parameters
    ----------
    arguments : list of str
        Those of the user, with the workflow, its profile and the number of cores where they say nothing of them.
    folder : Path
        The folder that Snakemake works in.
    config_files : list of Path
        The configurations that it reads.
    is_own : bool
        Whether the workflow runs with exactly these configurations, as it does in a folder of `softlabels init`.
    is_remote : bool
        Whether jobs run elsewhere, such as on Slurm.
    is_plain : bool
        Whether the user wants Snakemake's own output, such as that of a dry run.
    """

    arguments: list[str]
    folder: Path
    config_files: list[Path]
    is_own: bool
    is_remote: bool
    is_plain: bool

    @property
    def command(self) -> list[str]:
        """Return the command that runs Snakemake in UTF-8 mode, without the folder on the path of imports."""
        return [sys.executable, "-P", "-X", "utf8", "-m", "snakemake", *self.arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of Snakemake, to which the workflow adds that of its jobs."""
        return os.environ | {"PYTHONUTF8": "1", "PYTHONPATH": python_path()} | more

    def replace_process(self) -> NoReturn:
        """Run Snakemake in place of this process."""
        os.execve(sys.executable, self.command, self.environment())


def run_command(arguments: Sequence[str]) -> RunCommand:
    """Return what the arguments of `softlabels run` ask for, by Snakemake's own parser and profiles.

    Raises
    ------
    SystemExit
        If Snakemake refuses the arguments, or they ask for its help.
    """
    arguments = list(arguments)
    found = _parsed(arguments)
    folder = Path(found.directory or ".")
    snakefile = found.snakefile or next((one for one in _SNAKEFILES if Path(one).exists()), None)
    before = []
    if snakefile is None:
        snakefile = workflow_folder() / "Snakefile"
        before += ["--snakefile", str(snakefile)]
    if found.workflow_profile is None and not _has_default_profile(Path(snakefile)):
        before += ["--workflow-profile", str(workflow_folder() / "workflow" / "profiles" / "default")]
    if before:
        found = _parsed([*before, *arguments])
    is_remote = found.executor not in (None, "local", "dryrun", "touch")
    if found.cores is None and found.jobs is None and not is_remote:
        before += ["--cores", str(usable_cpus())]
    return RunCommand(
        arguments=[*before, *arguments],
        folder=folder,
        config_files=[Path(one) for one in found.configfile or []] or [folder / "config.yaml"],
        is_own=_is_own(Path(snakefile)) and not found.config and len(found.configfile or [""]) == 1,
        is_remote=is_remote,
        is_plain=any(getattr(found, name, None) not in (None, False, [], ()) for name in _PLAIN)
        or found.quiet is not None,
    )


def _parsed(arguments: Sequence[str]) -> Any:
    """Return the arguments as Snakemake understands them; what it says of profiles it says again when it runs."""
    from snakemake.cli import parse_args
    from snakemake.exceptions import WorkflowError

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse_args(list(arguments))[1]
    except SystemExit as ended:
        if ended.code:
            reason = said.getvalue().rpartition("error: ")[2].strip()
            print(f"softlabels: run: Snakemake says: {reason}. See snakemake --help", file=sys.stderr)
        raise
    except (OSError, ValueError, WorkflowError) as error:
        raise InputError(f"run: Snakemake refuses the arguments: {error}") from None


def _has_default_profile(snakefile: Path) -> bool:
    """Return whether Snakemake finds a profile of the workflow by itself."""
    return any((folder / "profiles" / "default").exists() for folder in (Path(), snakefile.parent))


def _is_own(snakefile: Path) -> bool:
    """Return whether a Snakefile is the one of the package, or includes it."""
    try:
        text = snakefile.read_text(encoding="utf-8")
        return _INCLUDE in text or snakefile.samefile(workflow_folder() / "Snakefile")
    except (OSError, UnicodeDecodeError):
        return False


class RunningWorkflow:
    """Snakemake as a child process. A signal that this process gets is passed on to it and all its jobs, once.

    Used as a context manager. The child leads a process group of its own, so that the terminal sends Ctrl-C to this
    process alone.

    Parameters
    ----------
    command : RunCommand
    is_captured : bool
        Whether what the child and its jobs print is captured and returned by `messages`, because a progress display
        is in its place.
    """

    def __init__(self, command: RunCommand, *, is_captured: bool) -> None:
        self.n_interrupts = 0
        self.exit_code = 0
        self._command, self._is_captured = command, is_captured
        self._process: subprocess.Popen[bytes] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> RunningWorkflow:
        events, write_end = os.pipe()
        output = subprocess.PIPE if self._is_captured else None
        for number in _FORWARDED:
            self._handlers[number] = signal.signal(number, self._forward)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)
        self._process = subprocess.Popen(
            self._command.command,
            env=self._command.environment(**{VARIABLE: str(write_end), FAILURES_ARE_SHOWN: "1"}),
            pass_fds=[write_end],
            stdin=subprocess.DEVNULL,
            stdout=output if sys.stdout.isatty() else None,
            stderr=output,
            process_group=0,
        )
        os.close(write_end)
        self._watch(open(events, "rb", buffering=0), "event")
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                self._watch(stream, "text")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.has_ended():
            self._send(signal.SIGINT)
        self.exit_code = self._process.wait() if self._process else 1
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)
        self._selector.close()

    def messages(self, seconds: float) -> Iterator[Mapping[str, Any]]:
        """Yield what has been said, after waiting up to some seconds: events, and lines of text as `text` events."""
        for key, _ in self._selector.select(seconds):
            kind, decoder, rest = key.data
            data = os.read(key.fd, 1 << 16)
            *lines, rest[0] = (rest[0] + decoder.decode(data, final=not data)).split("\n")
            if not data:
                self._close(key.fileobj)
                # The rest of an event is that of a Snakemake that was killed while it wrote.
                lines += [rest[0]] if rest[0] and kind == "text" else []
            for line in lines:
                yield json.loads(line) if kind == "event" else {"kind": TEXT, "text": line}

    def has_ended(self) -> bool:
        """Return whether Snakemake has ended. What it said last may still have to be read."""
        return self._process is not None and self._process.poll() is not None

    def _watch(self, stream: Any, kind: str) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._selector.register(stream, selectors.EVENT_READ, (kind, decoder, [""]))

    def _close(self, stream: Any) -> None:
        self._selector.unregister(stream)
        stream.close()

    def _forward(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on: with it, Snakemake ends its jobs or cancels them on Slurm, and then itself."""
        self.n_interrupts += 1
        self._send(signal.Signals(number))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Stop (Ctrl-Z) Snakemake and its jobs with this process, and continue (fg, bg) them with it."""
        self._send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
