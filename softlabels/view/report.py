"""The report of a cohort: one HTML file with every case of the sheet, the most urgent first.

The file needs nothing beside it; pictures and thumbnails of cases are linked where they are. The table is made in the
browser from the figures in the page, so that thousands of cases stay usable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from math import log10
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from softlabels._shared.files import write_atomically
from softlabels.cohort.arrays import Cohort
from softlabels.cohort.index import TargetDescription
from softlabels.pipeline.receipts import Receipt
from softlabels.view.colours import class_colours
from softlabels.view.histograms import Histogram, value_histogram
from softlabels.view.summary import CohortSummary

#: Distributions over voxels are taken from at most this many cases, spread evenly over the cohort.
MAX_HISTOGRAM_CASES = 10
_RANGES = {"probability": (0.0, 1.0), "signed": (-1.0, 1.0)}
#: Size of a histogram in the page, in its own units.
_WIDTH, _HEIGHT = 320.0, 120.0


@dataclass(frozen=True)
class Curve:
    """The values of one class as a line of a plot."""

    name: str
    colour: str
    path: str


@dataclass(frozen=True)
class ValuesPlot:
    """How the soft label of one target is distributed over voxels, on a logarithmic axis."""

    target: str
    caption: str
    low: str
    high: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Provenance:
    """Where a report comes from.

    Parameters
    ----------
    written : str
        Date and time, as it is shown.
    version : str
        Of softlabels.
    configuration : str
        The configuration in full, as YAML.
    methods : sequence of str
        Paragraphs for the methods section of a paper.
    """

    written: str = ""
    version: str = ""
    configuration: str = ""
    methods: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """All that a report shows.

    Parameters
    ----------
    title : str
    summary : CohortSummary
    provenance : Provenance
    plots : sequence of ValuesPlot
    pictures, thumbnails : mapping of str to str
        Case id to an address, of those that have one.
    """

    title: str
    summary: CohortSummary
    provenance: Provenance = Provenance()
    plots: Sequence[ValuesPlot] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """What the script of the page needs, as plain JSON; a case is a list, because its keys would be most of it."""
        cases = [
            [
                case.id,
                case.split,
                case.state,
                case.rank,
                [None if value is None else float(f"{value:.5g}") for value in case.values],
                list(case.remarks) if any(case.remarks) else [],
                [list(flag) for flag in case.flags],
                [[problem.step, problem.why, problem.log] for problem in case.problems],
                self.pictures.get(case.id, ""),
                self.thumbnails.get(case.id, ""),
            ]
            for case in self.summary.cases
        ]
        measures = [[one.title, one.target, one.format] for one in self.summary.measures]
        return {"measures": measures, "cases": cases}


def write_report(path: str | Path, report: Report) -> Path:
    """Write a report in one step and return its path; its folder is made."""
    path = Path(path)
    write_atomically(path, report_page(report))
    return path


def report_page(report: Report) -> str:
    """Return the HTML of a report; every name in it is escaped."""
    assets = files("softlabels.view") / "templates"
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            style=(assets / "report.css").read_text("utf-8"),
            script=(assets / "report.js").read_text("utf-8"),
        )
    )


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


def addresses(folder: Path, results: Path, case_ids: Iterable[str], name: str) -> dict[str, str]:
    """Return case id to the address of a file of its results, as seen from a folder, of those that exist."""
    found = {case_id: results / case_id / name for case_id in case_ids}
    return {case_id: quote(os.path.relpath(path, folder)) for case_id, path in found.items() if path.is_file()}


def values_plots(
    receipts: Sequence[Receipt], targets: Mapping[str, TargetDescription], cohort: Cohort
) -> list[ValuesPlot]:
    """Return the distribution of each stored target over the voxels of some cases; reads them, in bounded memory."""
    case_ids = cohort.case_ids[:: -(-len(cohort) // MAX_HISTOGRAM_CASES)]
    colours = class_colours([one for target in targets.values() for one in target.classes])
    plots = []
    for name, target in cohort.targets.items():
        if target.node is None:
            continue
        quality = [receipt.quality for receipt in receipts if receipt.node == target.node]
        low, high = _RANGES.get(target.kind) or (
            min((measured["lowest"] for measured in quality), default=-1.0),
            max((measured["highest"] for measured in quality), default=1.0),
        )
        histogram = value_histogram(cohort, name, case_ids, (low, high))
        caption = f"voxels of {len(case_ids)} of {len(cohort)} cases, of large ones a regular sample; logarithmic axis"
        own = {one.name: colours.get(one.values, "#555555") for one in target.classes}
        plots.append(ValuesPlot(name, caption, f"{low:.3g}", f"{high:.3g}", _curves(histogram, own)))
    return plots


def _curves(histogram: Histogram, colours: Mapping[str, str]) -> tuple[Curve, ...]:
    """Return the steps of each class as paths of an SVG picture."""
    most = max((int(counts.max()) for counts in histogram.counts.values()), default=1)
    top = log10(max(most, 1)) + 0.3
    curves = []
    for name, counts in histogram.counts.items():
        width = _WIDTH / len(counts)
        heights = [_HEIGHT * (1 - (log10(n) + 0.3) / top) if n else _HEIGHT for n in counts.tolist()]
        steps = "".join(f"V{y:.1f}H{(i + 1) * width:.1f}" for i, y in enumerate(heights))
        curves.append(Curve(name, colours[name], f"M0 {_HEIGHT:.0f}{steps}V{_HEIGHT:.0f}"))
    return tuple(curves)
