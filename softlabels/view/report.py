"""The report of a cohort: one static HTML file with every case, stage, certificate, quality figure and flag.

The file needs nothing beside it: plots are inside. Case pictures are linked where they lie.
"""

from __future__ import annotations

import os
from collections import defaultdict
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from softlabels._shared.files import write_atomically
from softlabels.view.plots import QUALITY, data_uri, quality_plot, seconds_plot, value_histogram, values_plot

#: Distributions over voxels are taken from at most so many cases, spread evenly over the cohort.
MAX_HISTOGRAM_CASES = 20
_RANGES = {"probability": (0.0, 1.0), "signed": (-1.0, 1.0)}


def write_report(path, receipts, targets, *, title="Soft labels", pictures=None, cohort=None) -> Path:
    """Write the report of a cohort, in one step.

    Parameters
    ----------
    path : path
        The HTML file; its folder is made.
    receipts : iterable of dicts
        One per case x node, as the receipt files hold them.
    targets : dict
        Target name to its description, as in index.json.
    title : str
    pictures : dict, optional
        Case id to the path of its picture.
    cohort : softlabels.cohort.arrays.Cohort, optional
        If given, the distribution of each soft label over the voxels is drawn, from at most `MAX_HISTOGRAM_CASES`
        cases. Reads all their voxels, in bounded memory.

    Returns
    -------
    Path
    """
    path = Path(path)
    receipts = sorted(receipts, key=lambda receipt: (receipt["case"], receipt["node"]))
    links = {case: quote(os.path.relpath(picture, path.parent)) for case, picture in (pictures or {}).items()}
    figures = cohort_figures(receipts, targets, cohort)
    write_atomically(path, report_page(receipts, targets, title=title, links=links, figures=figures))
    return path


def report_page(receipts, targets, *, title, links, figures) -> str:
    """Return the HTML of a report.

    Parameters
    ----------
    receipts, targets, title
        As for `write_report`.
    links : dict
        Case id to the address of its picture.
    figures : dict
        Caption to the address (or data URI) of a figure.

    Returns
    -------
    str
    """
    nodes = _nodes(receipts, targets)
    plots = "".join(
        f'<figure><img src="{uri}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, uri in figures.items()
    )
    return _PAGE.format(
        title=escape(title),
        totals=_totals(receipts),
        nodes=_table(["node", "target", "cases", "computed", "reused", "seconds, median", "seconds, sum", "flagged"])(
            [_node_cells(node, made, receipts) for node, made in nodes.items()]
        ),
        plots=plots,
        cases=_table(["case", "picture", *(_label(node, nodes) for node in nodes), "flags"])(
            _case_rows(receipts, nodes, links)
        ),
    )


def cohort_figures(receipts, targets, cohort=None) -> dict[str, str]:
    """Return caption to data URI of each plot that the receipts (and the voxels of a cohort) give."""
    nodes = _nodes(receipts, targets)
    seconds = {
        node: [r["seconds"] for r in receipts if r["node"] == node and r["outcome"] == "computed"] for node in nodes
    }
    figures = {}
    if any(seconds.values()):
        figures["Seconds of each computed job; the line is the median."] = data_uri(
            seconds_plot({_label(node, nodes): values for node, values in seconds.items() if values})
        )
    series = quality_series(receipts, targets)
    if any(values for by_target in series.values() for values in by_target.values()):
        figures["Quality figures of the stored maps, a dot per case."] = data_uri(quality_plot(series))
    if cohort is not None:
        figures |= _histograms(receipts, cohort)
    return figures


def quality_series(receipts, targets) -> dict[str, dict[str, list[float]]]:
    """Return the quality figures of `softlabels.view.plots.QUALITY`: figure to target name to one value per case.

    Examples
    --------
    >>> receipt = {"node": "target-1", "quality": {"disagreement": 0.25}}
    >>> quality_series([receipt], {"geols": {"node": "target-1"}})["disagreement"]
    {'geols': [0.25]}
    """
    series = {figure: {} for figure in QUALITY}
    for figure in QUALITY:
        for name, target in targets.items():
            found = [r["quality"].get(figure) for r in receipts if r["node"] == target["node"]]
            values = [float(value) for value in found if value is not None]
            if values:
                series[figure][name] = values
    return series


def _histograms(receipts, cohort) -> dict[str, str]:
    """Return the distribution of each stored target over voxels."""
    step = -(-len(cohort) // MAX_HISTOGRAM_CASES)
    case_ids = cohort.case_ids[::step]
    figures = {}
    for name, target in cohort.targets.items():
        if target["node"] is None:
            continue
        quality = [r["quality"] for r in receipts if r["node"] == target["node"]]
        bounds = _RANGES.get(target["kind"]) or (
            min((q["lowest"] for q in quality), default=-1.0),
            max((q["highest"] for q in quality), default=1.0),
        )
        edges, counts = value_histogram(cohort, name, case_ids, bounds)
        caption = f"{name}: soft label over all voxels of {len(case_ids)} of {len(cohort)} cases."
        figures[caption] = data_uri(values_plot(name, edges, counts))
    return figures


def _nodes(receipts, targets) -> dict[str, str]:
    """Return the nodes in the order of the stages, each with the names of the targets it makes."""
    stages = ("prepare", "seeds", "distance", "target")
    found = {receipt["node"]: stages.index(receipt["stage"]) for receipt in receipts}
    made = defaultdict(list)
    for name, target in targets.items():
        made[target["node"]].append(name)
    return {node: ", ".join(made[node]) for node in sorted(found, key=lambda node: (found[node], node))}


def _label(node, nodes) -> str:
    """Return a node's id, with the targets it makes."""
    return f"{node} ({nodes[node]})" if nodes[node] else node


def _totals(receipts) -> str:
    """Return the report in one sentence."""
    cases = {receipt["case"] for receipt in receipts}
    computed = sum(receipt["outcome"] == "computed" for receipt in receipts)
    maps = [m for receipt in receipts for m in receipt["quality"].get("maps", [])]
    exact = sum(bool(m["certified"]) for m in maps)
    flagged = {receipt["case"] for receipt in receipts if receipt["flags"]}
    seconds = sum(receipt["seconds"] for receipt in receipts)
    return (
        f"{len(cases)} cases, {len(receipts)} results: {computed} computed, {len(receipts) - computed} reused, "
        f"{seconds:,.0f} s of work. {exact} of {len(maps)} distance maps are certified exact. "
        f"{len(flagged)} cases carry flags."
    )


def _node_cells(node, made, receipts) -> list[tuple]:
    """Return the row of one node: (text, sort value) per cell."""
    own = [receipt for receipt in receipts if receipt["node"] == node]
    seconds = [receipt["seconds"] for receipt in own if receipt["outcome"] == "computed"]
    counts = [len(own), len(seconds), len(own) - len(seconds)]
    median = float(np.median(seconds)) if seconds else 0.0
    flagged = sum(bool(receipt["flags"]) for receipt in own)
    times = [(f"{median:.2f}" if seconds else "–", median), (f"{sum(seconds):.1f}", sum(seconds))]
    return [
        (escape(node), node),
        (escape(made), made),
        *((str(n), n) for n in counts),
        *times,
        (str(flagged), flagged),
    ]


def _case_rows(receipts, nodes, links) -> list[list[tuple]]:
    """Return a row per case: (HTML, sort value) per cell."""
    by_case = defaultdict(dict)
    for receipt in receipts:
        by_case[receipt["case"]][receipt["node"]] = receipt
    rows = []
    for case, own in by_case.items():
        flags = sorted({flag for receipt in own.values() for flag in receipt["flags"]})
        link = f'<a href="{links[case]}">picture</a>' if case in links else ""
        listed = "".join(f'<li class="flag">{escape(flag)}</li>' for flag in flags)
        cells = [_result_cell(own.get(node)) for node in nodes]
        rows.append([(escape(case), case), (link, ""), *cells, (f"<ul>{listed}</ul>" if flags else "", len(flags))])
    return rows


def _result_cell(receipt) -> tuple:
    """Return what became of one case x node, and the seconds to sort by."""
    if receipt is None:
        return '<span class="flag">missing</span>', -1.0
    note = _quality_note(receipt["quality"])
    time = f"{receipt['seconds']:.2f} s" if receipt["outcome"] == "computed" else "reused"
    return f"{time}<br><small>{note}</small>", receipt["seconds"]


def _quality_note(quality) -> str:
    """Return the figures that matter most of one result."""
    parts = []
    if "maps" in quality:
        exact = sum(bool(m["certified"]) for m in quality["maps"])
        text = f"{exact} of {len(quality['maps'])} exact"
        parts.append(text if exact == len(quality["maps"]) else f'<span class="flag">{text}</span>')
    fallbacks = [c for c in quality.get("classes", []) if isinstance(c, dict) and c.get("fallback")]
    if fallbacks:
        parts.append(f"{len(fallbacks)} by fallback")
    for figure, word in (("disagreement", "differs"), ("saturated", "saturated")):
        if quality.get(figure) is not None:
            parts.append(f"{word} {quality[figure]:.2%}")
    if quality.get("entropy_mean") is not None:
        parts.append(f"{quality['entropy_mean']:.3f} bits")
    return ", ".join(parts)


def _table(headers):
    """Return a function that makes a sortable table of rows of (HTML, sort value)."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)

    def filled(rows) -> str:
        body = "".join(
            "<tr>" + "".join(f'<td data-v="{escape(str(value))}">{html}</td>' for html, value in row) + "</tr>\n"
            for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"

    return filled


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 2rem; color: #222; }}
h1 {{ margin-bottom: 0.2rem; }} h2 {{ margin-top: 2rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }}
th {{ cursor: pointer; position: sticky; top: 0; background: #f4f4f4; }}
small {{ color: #666; }} .flag {{ color: #b3261e; }} ul {{ margin: 0; padding-left: 1rem; }}
figure {{ display: inline-block; margin: 0 1.5rem 1rem 0; vertical-align: top; }}
figcaption {{ color: #666; font-size: 12px; }} img {{ max-width: 100%; }}
</style></head><body>
<h1>{title}</h1><p>{totals}</p>
<h2>Stages</h2>{nodes}
<h2>Distributions</h2>{plots}
<h2>Cases</h2><p>Click a column to sort by it.</p>{cases}
<script>
for (const head of document.querySelectorAll("th")) head.onclick = () => {{
  const column = head.cellIndex, body = head.closest("table").tBodies[0];
  const value = row => row.cells[column].dataset.v, down = head.dataset.down !== "1";
  const order = (a, b) => value(a) - value(b) || value(a).localeCompare(value(b), undefined, {{ numeric: true }});
  head.dataset.down = down ? "1" : "0";
  body.append(...[...body.rows].sort((a, b) => down ? order(a, b) : order(b, a)));
}};
</script></body></html>
"""
