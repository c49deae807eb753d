"""Commands that check the inputs of a project and write its reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels._shared.counts import counted, some_of
from softlabels._shared.cpus import usable_cpus
from softlabels._shared.files import read_small_text, write_atomically
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, Project, app, progress
from softlabels.errors import InputError

if TYPE_CHECKING:
    from softlabels.inputs.case import Finding, Severity

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
#: A warning or note of this many cases is one line, which names a few of them.
_MANY = 4


@app.command(rich_help_panel="Start a project")
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    threads: Annotated[int | None, typer.Option(min=1, help="cases to read at once; default: all cores")] = None,
    again: Annotated[bool, typer.Option("--again", help="read files again that a run has read and verified")] = False,
) -> None:
    """Verify every input file by reading it completely, and print all errors at once.

    A case that a run has verified is not read again while the size and time of its files are the same.

    Examples
    --------
        softlabels check

        softlabels check --again
    """
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.text import Text

    from softlabels.config import recipe_notes
    from softlabels.inputs.case import Finding, check_case
    from softlabels.monitor.trust import open_to_all
    from softlabels.pipeline.reuse import verified_receipt

    project = Project.load(config)
    checks = project.plan.nodes[project.plan.prepare].checks
    findings: list[Finding] = []
    unread = []
    for case in project.cases:
        receipt = None if again else verified_receipt(project.plan, case, project.results)
        if receipt is None:
            unread.append(case)
        else:
            findings += [Finding(case.id, "read before", flag, "warning") for flag in receipt.flags]
    with ThreadPoolExecutor(threads or usable_cpus()) as pool:
        found = pool.map(lambda case: check_case(case, threads=1, **checks), unread)
        findings += [one for case in progress(found, "Reading", len(unread)) for one in case]
    lines: list[tuple[Severity, str]] = [("note", note) for note in recipe_notes(project.config)]
    own: list[str | Path] = [Path.cwd(), config, project.config.cases, project.config.results, project.config.store]
    lines += [("warning", line) for line in open_to_all(own)]
    console = Console(highlight=False, soft_wrap=True)
    for severity, line in [*lines, *_grouped(findings)]:
        console.print(Text.assemble((f"{severity:<7}", _STYLES[severity]), f"  {line}"))
    n_errors = sum(finding.is_error for finding in findings)
    bad = len({finding.case_id for finding in findings if finding.is_error})
    with_errors = f", {bad} with {counted(n_errors, 'error')}" if bad else ""
    print(f"{counted(len(project.cases), 'case')}: {len(project.cases) - bad} good{with_errors}")
    if n_before := len(project.cases) - len(unread):
        print(f"{n_before} of them were verified by a run and have not changed since; --again reads them again")
    raise typer.Exit(1 if n_errors else 0)


def _grouped(findings: Iterable[Finding]) -> Iterator[tuple[Severity, str]]:
    """Yield severity and line of each finding; one that many cases share, and that is no error, is one line."""
    groups: dict[tuple[Severity, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        shared = finding.message if not finding.is_error else f"{finding.case_id}: {finding.message}"
        groups[finding.severity, finding.role, shared].append(finding)
    for (severity, role, message), group in groups.items():
        if len(group) < _MANY:
            yield from ((severity, str(finding)) for finding in group)
        else:
            named = some_of([finding.case_id for finding in group])
            yield severity, f"{len(group)} cases, {role}: {message} ({named})"


@app.command(hidden=True)
def reference(
    check: Annotated[bool, typer.Option(help="only check that the files are up to date")] = False,
    folder: Annotated[Path, typer.Option(help="the checkout")] = Path("."),
) -> None:
    """Write the config's JSON schema and reference page from the model that defines them."""
    from softlabels.config.reference import reference_files

    stale = []
    for name, text in reference_files(folder).items():
        path = folder / name
        if not path.exists() or read_small_text(path) != text:
            stale.append(name)
            if not check:
                write_atomically(path, text)
    if check and stale:
        raise InputError(f"{', '.join(stale)}: out of date. Run 'python -m softlabels reference'")
    print("up to date" if not stale else f"written: {', '.join(stale)}")
