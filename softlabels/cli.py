"""The commands a person types, and the one that the rules call. Each only reads arguments, calls, and prints."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from softlabels.errors import InputError, SoftLabelsError

app = typer.Typer(
    help="Exact soft labels for segmentation networks, computed once, offline.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="the configuration file")]
CaseId = Annotated[str, typer.Argument(help="a case id of the sheet")]


def main() -> None:
    """Run a command; a softlabels error ends it with one line on stderr and exit code 1."""
    try:
        app()
    except SoftLabelsError as error:
        where = "".join(f"\n  in {note}" for note in getattr(error, "__notes__", []))
        print(f"softlabels: {error}{where}", file=sys.stderr)
        sys.exit(1)


@dataclass(frozen=True)
class Project:
    """A configuration with its plan and cases."""

    config: object
    plan: object
    cases: list
    results: Path

    @classmethod
    def load(cls, path: Path, config_json: str | None = None) -> Project:
        """Return the project of a configuration file, or of the JSON that Snakemake resolved from it."""
        from softlabels.cases import read_sheet
        from softlabels.config import load_config, parse_config
        from softlabels.plan import make_plan

        config = parse_config(json.loads(config_json)) if config_json else load_config(path)
        return cls(config, make_plan(config), read_sheet(config.cases, config.channels), Path(config.results))

    def case(self, case_id: str):
        """Return one case of the sheet, or raise InputError with near names."""
        import difflib

        by_id = {case.id: case for case in self.cases}
        if case_id not in by_id:
            near = difflib.get_close_matches(case_id, by_id, 3) or list(by_id)[:3]
            raise InputError(f"case {case_id!r}: not in {self.config.cases}. Did you mean {', '.join(near)}?")
        return by_id[case_id]


@app.command(hidden=True)
def stage(
    node: Annotated[str, typer.Option(help="the node as JSON")],
    case: Annotated[str, typer.Option(help="the case as JSON")],
    store: Annotated[Path, typer.Option()],
    results: Annotated[Path, typer.Option()],
    device: Annotated[str, typer.Option()] = "cpu",
    threads: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Run one job: one case x one node. The rules call this."""
    from softlabels.cases import Case
    from softlabels.plan import Node
    from softlabels.stages import Job, run_job
    from softlabels.store import Store

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    job = Job(Case.from_json(case), Node.from_json(node), Store(store), results, device, threads)
    run_job(job)


@app.command()
def index(
    config: ConfigPath = Path("config.yaml"),
    config_json: Annotated[str | None, typer.Option(hidden=True)] = None,
    output: Annotated[Path | None, typer.Option(help="default: index.json in the results folder")] = None,
    allow_missing: Annotated[bool, typer.Option(help="leave out cases that failed")] = False,
) -> None:
    """Write index.json, the one file a trainer opens, from what is done."""
    from softlabels.index import build_index

    project = Project.load(config, config_json)
    path = output or project.results / "index.json"
    content = build_index(project.config, project.plan, project.cases, path.parent, allow_missing=allow_missing)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{path}: {len(content['cases'])} cases, {len(content['missing'])} left out")


@app.command()
def status(config: ConfigPath = Path("config.yaml"), logs: Path = Path("logs")) -> None:
    """Show what is done, computed or reused, and what failed; works while jobs run."""
    from rich.console import Console
    from rich.table import Table

    from softlabels.status import failures, summarise

    project = Project.load(config)
    table = Table("node", "for", "done", "computed", "reused", "flagged", "seconds", title=f"{len(project.cases)} cases")
    for row in summarise(project.plan, project.cases, project.results):
        cells = [row["node"], ", ".join(row["targets"]), f"{row['done']}/{row['of']}"]
        table.add_row(*cells, *(str(row[k]) for k in ("computed", "reused", "flagged")), f"{row['seconds']:.1f}")
    Console().print(table)
    for failed in failures(project.plan, project.cases, project.results, logs):
        print(f"failed or running: {failed['case']} {failed['node']}: {failed['last_line']} (log: {failed['log']})")


@app.command()
def explain(case: CaseId, config: ConfigPath = Path("config.yaml")) -> None:
    """Say where every result of a case came from, and what would compute it anew."""
    from softlabels.status import explain_case

    project = Project.load(config)
    for row in explain_case(project.case(case).id, project.plan, project.results):
        print(f"{row['node']}: {row['state']}")
        if "receipt" in row:
            receipt, made = row["receipt"], row["provenance"]
            print(f"  entry      {receipt.key[:16]}… in {receipt.store}")
            print(f"  computed   {made['finished']} by {made['user']}@{made['host']} in {made['seconds']} s, for {made['case']}")
        print(f"  depends on algorithm {row['algorithm']}, " + json.dumps(row["params"], sort_keys=True))
        print("  and on     " + ("the bytes of the case's files" if row["stage"] == "prepare" else "the entries above"))
        for flag in row["receipt"].flags if "receipt" in row else []:
            print(f"  note       {flag}")


@app.command()
def reference(
    check: Annotated[bool, typer.Option(help="only say whether the files are up to date")] = False,
    folder: Annotated[Path, typer.Option(help="the checkout")] = Path("."),
) -> None:
    """Write the config's JSON schema and reference page from the model that defines them."""
    from softlabels.config.reference import reference_files

    stale = []
    for name, text in reference_files().items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    if check and stale:
        raise InputError(f"{', '.join(stale)}: not what softlabels/config says. Run 'python -m softlabels reference'")
    print("up to date" if not stale else f"written: {', '.join(stale)}")
