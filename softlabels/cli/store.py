"""Commands that maintain the store: verify, gc, du."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels._shared.counts import counted
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, StorePath, app, store_of
from softlabels.errors import InputError, StoreError

if TYPE_CHECKING:
    from softlabels.cohort.verify import CaseDamage
    from softlabels.store import Damage, Store


@app.command(rich_help_panel="Maintain the store")
def verify(
    where: Annotated[
        Path | None,
        typer.Argument(help="an index.json or a store: check that alone, which needs no project", show_default=False),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    store: StorePath = None,
    deep: Annotated[bool, typer.Option(help="read and hash every byte, not only sizes and seals")] = False,
    discard: Annotated[bool, typer.Option(help="remove damaged entries, so that the next run recomputes them")] = False,
) -> None:
    """Check the store and this project's receipts, or what an index names, for damage. The exit code is 1 if any.

    Examples
    --------
        softlabels verify

        softlabels verify --deep --discard

        softlabels verify results/index.json
    """
    if where is None:
        has_damage = _verify_project(config, store, deep=deep, discard=discard)
    elif where.is_dir():
        if store is not None:
            raise InputError(f"--store: got {store} and {where}, expected one store. Leave one of them out")
        has_damage = _verify_folder(where, deep=deep, discard=discard)
    else:
        has_damage = _verify_index(where, store, deep=deep, discard=discard)
    raise typer.Exit(int(has_damage))


def _verify_project(config: Path, store: Path | None, *, deep: bool, discard: bool) -> bool:
    """Check a store and the receipts of a project, and return whether damage remains."""
    opened = store_of(store, config)
    from softlabels.config import load_config
    from softlabels.pipeline.upkeep import absent_keys, damaged_receipts, forget_receipts, replaced_keys

    with _progress() as progress:
        problems = opened.verify(deep=deep, progress=progress)
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
    replaced = replaced_keys(results, opened, is_own=is_own) - damaged
    for key in sorted(replaced):
        print(f"replaced {key}: the entry was computed again since the receipts were written")
    outdated = absent | replaced
    done = ""
    if discard and (damaged or receipts or outdated):
        _discard(opened, damaged)
        forgotten = forget_receipts(results, damaged | outdated)
        done = f", discarded with {forgotten} receipts of this project. Run snakemake to recompute them"
    counts = f"{len(damaged)} damaged, {len(absent)} absent, {len(replaced)} replaced; {len(receipts)} damaged receipts"
    print(f"{opened.path}: {counted(len(list(opened.keys())), 'entry')}, {counts}{done}")
    return bool(unread or ((damaged or receipts or outdated) and not discard))


def _verify_folder(folder: Path, *, deep: bool, discard: bool) -> bool:
    """Check a store, whoever uses it, and return whether damage remains."""
    from softlabels.store import Store

    opened = Store(folder)
    n_entries = len(list(opened.keys()))
    if not n_entries:
        raise InputError(f"{folder}: no entry in it, expected a store or an index.json. Give the path of either")
    with _progress() as progress:
        problems = opened.verify(deep=deep, progress=progress)
    return _report(problems, opened if discard else None, f"{opened.path}: {counted(n_entries, 'entry')}")


def _verify_index(path: Path, store: Path | None, *, deep: bool, discard: bool) -> bool:
    """Check the entries that an index names, and return whether damage remains."""
    from softlabels._shared.archive import is_archive
    from softlabels.cohort import IndexedCohort
    from softlabels.cohort.verify import verify_cohort
    from softlabels.store import Store

    if discard and is_archive(path):
        raise InputError(f"--discard: {path} is an archive, of which nothing can be removed. Copy it again")
    cohort = IndexedCohort.open(path, store)
    with _progress() as progress:
        problems = verify_cohort(cohort, deep=deep, progress=progress)
    entries, cases = counted(len(cohort.index.keys()), "entry"), counted(len(cohort.index.cases), "case")
    checked = f"{path}: {entries} of {cases} in {cohort.store}"
    return _report(problems, Store(cohort.store) if discard else None, checked)


def _report(problems: Sequence[Damage | CaseDamage], store: Store | None, checked: str) -> bool:
    """Print what is wrong with entries, discard them if a store is given, and return whether damage remains."""
    absent = [one for one in problems if getattr(one, "is_absent", False)]
    unread = [one for one in problems if not one.is_certain]
    damaged = [one for one in problems if one not in absent and one not in unread]
    for word, group in (("damaged", damaged), ("absent", absent), ("unread", unread)):
        for problem in group:
            print(f"{word:8} {problem}")
    keys = {one.key for one in damaged}
    print(
        f"{checked}: {len(keys)} damaged, {len(absent)} absent" + (", discarded" if store is not None and keys else "")
    )
    if store is not None:
        _discard(store, keys)
    return bool(unread or absent or (damaged and store is None))


def _discard(store: Store, keys: set[str]) -> None:
    """Remove entries from a store."""
    for key in sorted(keys):
        store.discard(key)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar while entries are checked; give what moves it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(transient=True, disable=not Console().is_terminal) as bar:
        task = bar.add_task("Verifying")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command(rich_help_panel="Maintain the store")
def gc(
    config: ConfigPath = DEFAULT_CONFIG,
    store: StorePath = None,
    keep: Annotated[list[Path] | None, typer.Option(help="further results folders whose entries are kept")] = None,
    days: Annotated[float, typer.Option(min=0, help="keep entries that were used within this number of days")] = 14,
    delete: Annotated[bool, typer.Option(help="delete the entries; without this option they are only listed")] = False,
) -> None:
    """Delete entries that no project references: neither this one nor any other that used the store.

    Seeds and distances that this project no longer keeps (`keep` in the configuration) are not referenced.

    Examples
    --------
        softlabels gc

        softlabels gc --delete
    """
    from softlabels.config import load_config
    from softlabels.pipeline.plan import make_plan
    from softlabels.pipeline.upkeep import forget_kept, live_keys

    opened, settings = store_of(store, config), load_config(config)
    results = Path(settings.results)
    not_kept = {node.id for node in make_plan(settings).nodes.values() if not node.is_kept}
    others = {path.resolve() for path in (*(keep or []), *opened.registered_results())} - {results.resolve()}
    live = live_keys([results], not_kept) | live_keys(others)
    if delete:
        forget_kept(results, not_kept)
    found = opened.gc(live, delete=delete, min_age_s=days * 86400)
    kept = [garbage for garbage in found if garbage.error is not None]
    for garbage in found:
        outcome = "unused" if not delete else "removed" if garbage.error is None else "kept"
        print(f"{outcome}  {garbage.key[:16]}  {garbage.nbytes / 1e6:8.1f} MB  {garbage.error or ''}".rstrip())
    if delete:
        opened.sweep_stale_tmp()
    total = sum(garbage.nbytes for garbage in found if garbage.error is None) / 1e6
    done = f"{counted(len(found) - len(kept), 'entry')}, {total:.1f} MB"
    print(done + ("" if delete or not found else ". Nothing was deleted. Add --delete to delete them"))
    raise typer.Exit(1 if kept else 0)


@app.command(rich_help_panel="Maintain the store")
def du(config: ConfigPath = DEFAULT_CONFIG, store: StorePath = None) -> None:
    """Show disk usage by stage and method.

    Examples
    --------
        softlabels du

        softlabels du --store /shared/softlabels
    """
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
