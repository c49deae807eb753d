"""A ranking as one HTML file that needs nothing beside it: tables, plots, and pictures of where soft labels err."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from softlabels._shared.files import write_atomically
from softlabels.evaluation.ranking import BASELINE, Ranking


def ranking_page(
    ranking: Ranking, *, plot: str, pictures: Mapping[str, str], left_out: Mapping[str, str], title: str
) -> str:
    """Return the HTML of a ranking; every name in it is escaped.

    Parameters
    ----------
    ranking : Ranking
    plot : str
        `data_uri` of `softlabels.evaluation.plot.ranking_plot`.
    pictures : mapping of str to str
        Case id to `data_uri` of a picture of its errors.
    left_out : mapping of str to str
        Targets that cannot be judged, and why.
    title : str
    """
    template = _templates().get_template("rank.html.j2")
    return template.render(
        ranking=ranking, plot=plot, pictures=pictures, left_out=left_out, title=title, baseline=BASELINE
    )


def write_page(path: Path, html: str) -> Path:
    """Write a page in one step."""
    write_atomically(path, html)
    return path


def data_uri(figure: Figure, dpi: int = 110) -> str:
    """Return a figure as a PNG within a data URI; equal figures give equal text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@cache
def _templates() -> Environment:
    """Return the templates of this package."""
    return Environment(
        loader=PackageLoader("softlabels.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
