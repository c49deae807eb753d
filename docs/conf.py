"""The documentation site: `make docs` builds it into docs/_build/html; a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import softlabels
from generated_pages import write_api_pages, write_commands_page

project = "softlabels"
author = "The softlabels maintainers"
version = release = softlabels.__version__
extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "gallery/**/*.py", "gallery/**/*.ipynb"]
default_role = "code"
html_theme = "furo"
html_title = f"softlabels {release}"
html_copy_source = False
html_show_copyright = False

myst_heading_anchors = 3
autodoc_typehints = "none"
numpydoc_show_class_members = False
sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_\d",
    "ignore_pattern": "brain_slice",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    # Also what did not change itself: what it imports may have.
    "run_stale_examples": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
}

#: Pages of the repository that are not in docs/, and the pages here that include them.
_ELSEWHERE = {
    "../benchmarks/RESULTS.md": "results.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../softlabels/geodesic/README.md": "geodesic.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "softlabels/geodesic/README.md": "geodesic.md",
}


def _follow_links_out_of_docs(app, docname: str, source: list[str]) -> None:
    """Let links that lead somewhere in the repository lead to the page that shows the same file."""
    for file, page in _ELSEWHERE.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")


def _follow_links_of_included_files(app, path: Path, docname: str, source: list[str]) -> None:
    """Do the same for a file of the repository that a page includes."""
    _follow_links_out_of_docs(app, docname, source)


def setup(app) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    write_api_pages(HERE / "api")
    write_commands_page(HERE / "api")
    app.connect("source-read", _follow_links_out_of_docs)
    app.connect("include-read", _follow_links_of_included_files)
