"""RESULTS.md, section by section: each benchmark replaces its own."""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).with_name("RESULTS.md")


def read_section(title: str) -> str:
    """Return the text below a heading, empty if there is none."""
    return _sections().get(title, "")


def write_section(title: str, text: str) -> None:
    """Replace the text below a heading; a new one comes last."""
    sections = _sections() | {title: text.strip("\n")}
    PATH.write_text("# Measurements\n" + "".join(f"\n## {name}\n\n{body}\n" for name, body in sections.items()))


def _sections() -> dict[str, str]:
    """Return heading to text."""
    parts = PATH.read_text().split("\n## ")[1:] if PATH.exists() else []
    return {name: body.strip("\n") for name, _, body in (part.partition("\n") for part in parts)}
