"""The files of the checkout that are made from the code, so that they cannot drift from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from softlabels._shared.section import Section
from softlabels.config.model import Config, json_schema
from softlabels.config.prepare import Prepare
from softlabels.config.tables import (
    DEFAULT_HEADER,
    LOSS_HEADER,
    METHOD_HEADER,
    METRIC_HEADER,
    default_rows,
    key_rows,
    loss_rows,
    markdown,
    method_rows,
    metric_rows,
)
from softlabels.config.tune import Tune
from softlabels.errors import InputError
from softlabels.methods import METHODS, Distance
from softlabels.methods.keys import Calibrate
from softlabels.seeds import STRATEGIES

_KEY_HEADER = ("key", "values", "default", "meaning")
_METRICS_INTRO = """
The cost of one step by metric; h is its length in mm, dI the difference of intensity. Packages cannot add a metric:
each is a fixed sequence of float32 operations that the compiled kernels of every device and the certificate repeat.
"""


def reference_files(checkout: Path) -> dict[str, str]:
    """Return path in the checkout to text, for every file that is generated, wholly or between markers.

    Only what is built in is in them, whatever packages are installed.

    Parameters
    ----------
    checkout : Path
        Where the pages with markers are read from.

    Raises
    ------
    InputError
        If a page lacks its markers.
    """
    methods = _filled(
        (checkout / "docs/methods.md").read_text(encoding="utf-8"), "methods", METHOD_HEADER, method_rows()
    )
    losses = (checkout / "docs/losses.md").read_text(encoding="utf-8")
    return {
        "workflow/schemas/config.schema.json": json.dumps(json_schema(), indent=1) + "\n",
        "docs/config.md": _config_page(),
        "docs/methods.md": _filled(methods, "defaults", DEFAULT_HEADER, default_rows()),
        "docs/losses.md": _filled(losses, "losses", LOSS_HEADER, loss_rows()),
    }


def _config_page() -> str:
    """Return the reference page of all keys as Markdown."""
    sections: list[tuple[str, type[Section]]] = [("top level", Config), ("prepare", Prepare), ("tune", Tune)]
    sections += [(f"seeds: strategy {name}", strategy) for name, strategy in STRATEGIES.built_in.items()]
    sections += [("distance", Distance), ("calibrate", Calibrate)]
    sections += [(f"target: method {name}", method) for name, method in METHODS.built_in.items()]
    parts = ["# Every key of config.yaml", "", "Made from the models by `python -m softlabels reference`."]
    for title, model in sections:
        parts += ["", f"## {title}", "", (model.__doc__ or "").strip(), "", *markdown(_KEY_HEADER, key_rows(model))]
        if model is Distance:
            parts += [_METRICS_INTRO, *markdown(METRIC_HEADER, metric_rows())]
    return "\n".join(parts) + "\n"


def _filled(page: str, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a page with a table between the markers of that name."""
    start, end = f"<!-- {name}: made by `python -m softlabels reference` -->", f"<!-- end of {name} -->"
    if page.count(start) != 1 or page.count(end) != 1:
        raise InputError(f"table of {name}: expected the lines {start!r} and {end!r} once in its page. Put them back")
    made = "\n".join([start, "", *markdown(header, rows), "", end])
    return re.sub(re.escape(start) + ".*" + re.escape(end), lambda _: made, page, flags=re.DOTALL)
