"""The page itself: for the server, or with everything in one file."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

#: The NiiVue that comes with this package, and the SHA-256 of its file; see assets/README.md.
NIIVUE_VERSION = "0.69.0"
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
ASSETS = Path(__file__).parent / "assets"
#: What the page may do: run its own scripts and read its own layers. Nothing reaches another host.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self' data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALONE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
)


def asset(name: str) -> bytes:
    """Return a script of the page; FileNotFoundError if there is none of that name."""
    if name not in ("viewer.js", "niivue.umd.js"):
        raise FileNotFoundError(name)
    return (ASSETS / name).read_bytes()


def served_page(cases: list[dict[str, Any]]) -> str:
    """Return the page for the server.

    Parameters
    ----------
    cases : list of dicts
        From `CaseView.describe`.
    """
    return _page(cases=cases, files={}, facts={}, policy=None, library=None)


def lone_page(cases: list[dict[str, Any]], files: Mapping[str, bytes], facts: Mapping[str, str]) -> str:
    """Return a page that needs no server and no network.

    Parameters
    ----------
    cases : list of dicts
        From `CaseView.describe`.
    files : mapping
        ``case/layer/channel`` to a NIfTI file; the case and the channel by their numbers.
    facts : mapping
        What the page says of itself, below the pictures.
    """
    return _page(
        cases=cases,
        files={name: _packed(content) for name, content in files.items()},
        facts=dict(facts),
        policy=_ALONE_POLICY,
        library=_packed(asset("niivue.umd.js")),
        # Inside a script element, nothing may look like its end.
        main=Markup(asset("viewer.js").decode().replace("</", "<\\/")),
    )


def _packed(content: bytes) -> str:
    """Return bytes as base64 of gzip, the same for the same bytes."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _page(**content: object) -> str:
    style = Markup((ASSETS / "viewer.css").read_text(encoding="utf-8"))
    return _templates().get_template("page.html.j2").render(style=style, **content)


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
