"""The report of a cohort: one static HTML file with every case, stage, certificate, quality figure and flag.

The file needs nothing beside it: plots are inside. Case pictures are linked where they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from softlabels._shared.files import write_atomically
from softlabels.cohort.arrays import Cohort
from softlabels.cohort.index import TargetDescription
from softlabels.pipeline.receipts import Receipt
from softlabels.view.histograms import value_histogram
from softlabels.view.plots import QUALITY, data_uri, quality_plot, seconds_plot, values_plot
from softlabels.view.summary import CaptionedFigure, Report, node_targets, summarise

#: Distributions over voxels are taken from at most this many cases, spread evenly over the cohort.
MAX_HISTOGRAM_CASES = 20
_RANGES = {"probability": (0.0, 1.0), "signed": (-1.0, 1.0)}


def write_report(
    path: str | Path,
    receipts: Iterable[Receipt],
    targets: Mapping[str, TargetDescription],
    *,
    title: str = "Soft labels",
    pictures: Mapping[str, Path] | None = None,
    cohort: Cohort | None = None,
) -> Path:
    """Write the report of a cohort, in one step.

    Parameters
    ----------
    path : path
        The HTML file; its folder is made.
    receipts : iterable of Receipt
        One per case x node.
    targets : mapping of str to TargetDescription
    title : str
    pictures : mapping of str to Path, optional
        Case id to the path of its picture.
    cohort : Cohort, optional
        If given, the distribution of each soft label over the voxels is drawn, from at most `MAX_HISTOGRAM_CASES`
        cases. Reads all their voxels, in bounded memory.

    Returns
    -------
    Path
    """
    path, receipts = Path(path), list(receipts)
    links = {case: quote(os.path.relpath(picture, path.parent)) for case, picture in (pictures or {}).items()}
    figures = cohort_figures(receipts, targets, cohort)
    report = summarise(receipts, targets, title=title, pictures=links, figures=figures)
    write_atomically(path, report_page(report))
    return path


def report_page(report: Report) -> str:
    """Return the HTML of a report; every name in it is escaped."""
    return _templates().get_template("report.html.j2").render(report=report)


@cache
def _templates() -> Environment:
    """Return the templates of this package."""
    return Environment(
        loader=PackageLoader("softlabels.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def cohort_figures(
    receipts: Sequence[Receipt], targets: Mapping[str, TargetDescription], cohort: Cohort | None = None
) -> list[CaptionedFigure]:
    """Return the plots that the receipts, and the voxels of a cohort, give."""
    receipts = sorted(receipts, key=lambda receipt: (receipt.case, receipt.node))
    seconds = {}
    for node, names in node_targets(receipts, targets).items():
        computed = [r.seconds for r in receipts if r.node == node and r.outcome == "computed"]
        if computed:
            seconds[f"{node} ({names})" if names else node] = computed
    figures = []
    if seconds:
        uri = data_uri(seconds_plot(seconds))
        figures.append(CaptionedFigure("Seconds of each computed job; the line is the median.", uri))
    series = quality_series(receipts, targets)
    if any(values for by_target in series.values() for values in by_target.values()):
        uri = data_uri(quality_plot(series))
        figures.append(CaptionedFigure("Quality figures of the stored maps, a dot per case.", uri))
    if cohort is not None:
        figures += _histograms(receipts, cohort)
    return figures


def quality_series(
    receipts: Sequence[Receipt], targets: Mapping[str, TargetDescription]
) -> dict[str, dict[str, list[float]]]:
    """Return the quality figures of `softlabels.view.plots.QUALITY`: figure to target name to one value per case."""
    series: dict[str, dict[str, list[float]]] = {figure: {} for figure in QUALITY}
    for figure in QUALITY:
        for name, target in targets.items():
            own = (receipt.quality.get(figure) for receipt in receipts if receipt.node == target.node)
            if values := [float(value) for value in own if value is not None]:
                series[figure][name] = values
    return series


def _histograms(receipts: Sequence[Receipt], cohort: Cohort) -> list[CaptionedFigure]:
    """Return the distribution of each stored target over voxels."""
    case_ids = cohort.case_ids[:: -(-len(cohort) // MAX_HISTOGRAM_CASES)]
    figures = []
    for name, target in cohort.targets.items():
        if target.node is None:
            continue
        quality = [receipt.quality for receipt in receipts if receipt.node == target.node]
        bounds = _RANGES.get(target.kind) or (
            min((measured["lowest"] for measured in quality), default=-1.0),
            max((measured["highest"] for measured in quality), default=1.0),
        )
        histogram = value_histogram(cohort, name, case_ids, bounds)
        caption = f"{name}: soft label over all voxels of {len(case_ids)} of {len(cohort)} cases."
        figures.append(CaptionedFigure(caption, data_uri(values_plot(name, histogram.edges, histogram.counts))))
    return figures
