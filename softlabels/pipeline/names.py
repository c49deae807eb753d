"""Links in the results of a case that are named as people name things: `geols.zarr`, `geols-distance.zarr`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from softlabels._shared.files import link_atomically
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import LINK_SUFFIX


def link_names(plan: Plan, results: Path, case_ids: Iterable[str]) -> None:
    """Make a link `<target>.zarr`, `<target>-<stage>.zarr` to each node's link in the results of each case.

    Links of names that the plan no longer has, or whose node has no entry, are removed; nothing else is touched.

    Parameters
    ----------
    plan : Plan
    results : Path
    case_ids : iterable of str
        Cases without a folder in the results are passed over.
    """
    # `geols/target` is `geols`, and `geols/prepare` is `prepare`.
    names = {name: node for name, node in plan.names().items() if not name.endswith(("/target", "/prepare"))}
    wanted = {f"{name.replace('/', '-')}{LINK_SUFFIX}": f"{node}{LINK_SUFFIX}" for name, node in names.items()}
    for case_id in case_ids:
        folder = results / case_id
        try:
            found = {one.name: _leads_to(one) for one in os.scandir(folder) if one.name.endswith(LINK_SUFFIX)}
        except FileNotFoundError:
            continue
        for name, node_link in wanted.items():
            if node_link in found and found.get(name) != node_link:
                link_atomically(folder / name, node_link)
        for name, leads_to in found.items():
            is_ours = leads_to is not None and os.sep not in leads_to and leads_to.endswith(LINK_SUFFIX)
            if is_ours and (wanted.get(name) != leads_to or leads_to not in found):
                (folder / name).unlink(missing_ok=True)


def _leads_to(one: os.DirEntry[str]) -> str | None:
    """Return where a link leads, None for what is no link."""
    return os.readlink(one.path) if one.is_symlink() else None
