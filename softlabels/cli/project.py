"""Commands that check the inputs of a project and write its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softlabels._shared.cpus import usable_cpus
from softlabels._shared.files import read_small_text, write_atomically
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, Project, app
from softlabels.errors import InputError


@app.command(rich_help_panel="Start a project")
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    threads: Annotated[int | None, typer.Option(min=1, help="cases to read at once; default: all cores")] = None,
    again: Annotated[bool, typer.Option("--again", help="read files again that a run has read and verified")] = False,
) -> None:
    """Verify every input file by reading it completely, and print all errors at once.

    A case that a run has verified is not read again while the size and time of its files are the same.
    """
    from concurrent.futures import ThreadPoolExecutor

    from rich.progress import track

    from softlabels.config import recipe_notes
    from softlabels.inputs.case import Finding, check_case
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
        findings += [one for case in track(found, "Reading", len(unread)) for one in case]
    for note in recipe_notes(project.config):
        print(f"{'note':<7}  {note}")
    for finding in findings:
        print(f"{finding.severity:<7}  {finding}")
    n_errors = sum(finding.is_error for finding in findings)
    bad = len({finding.case_id for finding in findings if finding.is_error})
    print(f"{len(project.cases)} cases: {len(project.cases) - bad} good, {bad} with {n_errors} errors")
    if n_before := len(project.cases) - len(unread):
        print(f"{n_before} of them were verified by a run and have not changed since; --again reads them again")
    raise typer.Exit(1 if n_errors else 0)


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
