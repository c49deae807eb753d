"""Commands that maintain the store: verify, gc, du."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, StorePath, app, store_of
from softlabels.errors import StoreError


@app.command(rich_help_panel="Maintain the store")
def verify(
    config: ConfigPath = DEFAULT_CONFIG,
    store: StorePath = None,
    deep: Annotated[bool, typer.Option(help="read and hash every byte, not only sizes and seals")] = False,
    discard: Annotated[bool, typer.Option(help="remove damaged entries, so that the next run recomputes them")] = False,
) -> None:
    """Check the store and this project's receipts for damage. The exit code is 1 if there is any."""
    from rich.progress import Progress

    from softlabels.config import load_config
    from softlabels.pipeline.upkeep import absent_keys, damaged_receipts, forget_receipts

    opened = store_of(store, config)
    with Progress(transient=True) as bar:
        task = bar.add_task("Verifying")
        problems = opened.verify(deep=deep, progress=lambda done, total: bar.update(task, completed=done, total=total))
    settings = load_config(config)
    results, is_own = Path(settings.results), opened.path == Path(settings.store).absolute()
    receipts = damaged_receipts(results)
    unread = [problem for problem in problems if not problem.is_certain]
    for problem in [*(one for one in problems if one.is_certain), *receipts.values()]:
        print(f"damaged  {problem}")
    for problem in unread:
        print(f"unread   {problem}")
    damaged = {problem.key for problem in problems if problem.is_certain}
    absent = absent_keys(results, opened, is_own=is_own)
    for key in sorted(absent):
        print(f"absent   {key}: receipts name an entry that is not in the store")
    done = ""
    if discard and (damaged or receipts or absent):
        for key in sorted(damaged):
            opened.discard(key)
        forgotten = forget_receipts(results, damaged | absent)
        done = f", discarded with {forgotten} receipts of this project. Run snakemake to recompute them"
    counts = f"{len(damaged)} damaged, {len(absent)} absent; {len(receipts)} damaged receipts"
    print(f"{opened.path}: {len(list(opened.keys()))} entries, {counts}{done}")
    raise typer.Exit(1 if unread or ((damaged or receipts or absent) and not discard) else 0)


@app.command(rich_help_panel="Maintain the store")
def gc(
    config: ConfigPath = DEFAULT_CONFIG,
    store: StorePath = None,
    keep: Annotated[list[Path] | None, typer.Option(help="further results folders whose entries are kept")] = None,
    days: Annotated[float, typer.Option(min=0, help="keep entries that were used within this number of days")] = 14,
    delete: Annotated[bool, typer.Option(help="delete the entries; without this option they are only listed")] = False,
) -> None:
    """Delete entries that no project references: neither this one nor any other that used the store."""
    from softlabels.config import load_config
    from softlabels.pipeline.upkeep import live_keys

    opened = store_of(store, config)
    live = live_keys([Path(load_config(config).results), *(keep or []), *opened.registered_results()])
    found = opened.gc(live, delete=delete, min_age_s=days * 86400)
    kept = [garbage for garbage in found if garbage.error is not None]
    for garbage in found:
        outcome = "unused" if not delete else "removed" if garbage.error is None else "kept"
        print(f"{outcome}  {garbage.key[:16]}  {garbage.nbytes / 1e6:8.1f} MB  {garbage.error or ''}".rstrip())
    if delete:
        opened.sweep_stale_tmp()
    total = sum(garbage.nbytes for garbage in found if garbage.error is None) / 1e6
    done = f"{len(found) - len(kept)} entries, {total:.1f} MB"
    print(done + ("" if delete else ". Nothing was deleted. Add --delete to delete them"))
    raise typer.Exit(1 if kept else 0)


@app.command(rich_help_panel="Maintain the store")
def du(config: ConfigPath = DEFAULT_CONFIG, store: StorePath = None) -> None:
    """Show disk usage by stage and method."""
    from collections import defaultdict

    from rich.console import Console
    from rich.table import Table

    from softlabels.store.read import open_entry

    opened = store_of(store, config)
    rows: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for key in list(opened.keys()):
        try:
            entry = open_entry(opened.path, key)  # unlike find, this does not count as a use of the entry
        except StoreError:
            name, size, files = "damaged (softlabels verify)", 0, 0
        else:
            if entry is None:
                continue
            params = entry.attributes["params"]
            name = " ".join([entry.attributes["stage"], *(params[k] for k in ("method", "variant") if k in params)])
            size, files = entry.nbytes, entry.n_files
        rows[name] = [a + b for a, b in zip(rows[name], (1, files, size), strict=True)]
    table = Table("stage", "entries", "files", "MB", title=str(opened.path))
    for name in sorted(rows):
        n_entries, files, size = rows[name]
        table.add_row(name, str(n_entries), str(files), f"{size / 1e6:.1f}")
    Console().print(table)
