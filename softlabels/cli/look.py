"""Commands that show what is there: they change nothing."""

from __future__ import annotations

import json
from pathlib import Path

from softlabels.cli.project import DEFAULT_CONFIG, CaseId, ConfigPath, Project, app


@app.command()
def status(config: ConfigPath = DEFAULT_CONFIG, logs: Path = Path("logs")) -> None:
    """Show what is done, computed or reused, and what failed; works while jobs run."""
    from rich.console import Console
    from rich.table import Table

    from softlabels.status import failures, summarise

    project = Project.load(config)
    table = Table(
        "node", "for", "done", "computed", "reused", "flagged", "seconds", title=f"{len(project.cases)} cases"
    )
    for row in summarise(project.plan, project.cases, project.results):
        cells = [row["node"], ", ".join(row["targets"]), f"{row['done']}/{row['of']}"]
        table.add_row(*cells, *(str(row[k]) for k in ("computed", "reused", "flagged")), f"{row['seconds']:.1f}")
    Console().print(table)
    for failed in failures(project.plan, project.cases, project.results, logs):
        print(f"failed or running: {failed['case']} {failed['node']}: {failed['last_line']} (log: {failed['log']})")


@app.command()
def explain(case: CaseId, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Say where every result of a case came from, and what would compute it anew."""
    from softlabels.status import explain_case

    project = Project.load(config)
    for row in explain_case(project.case(case).id, project.plan, project.results):
        print(f"{row['node']}: {row['state']}")
        if "receipt" in row:
            receipt, made = row["receipt"], row["provenance"]
            print(f"  entry      {receipt.key[:16]}… in {receipt.store}")
            by = f"{made['user']}@{made['host']}"
            print(f"  computed   {made['finished']} by {by} in {made['seconds']} s, for case {made['case']}")
        print(f"  depends on algorithm {row['algorithm']}, " + json.dumps(row["params"], sort_keys=True))
        print("  and on     " + ("the bytes of the case's files" if row["stage"] == "prepare" else "the entries above"))
        for flag in row["receipt"].flags if "receipt" in row else []:
            print(f"  note       {flag}")
