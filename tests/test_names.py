"""Names of modules: what `make check` cannot hold; it holds the import layers."""

import sys

from helpers import ROOT


def test_no_module_shadows_the_standard_library():
    names = {path.stem for path in (ROOT / "softlabels").rglob("*.py")}
    names |= {path.name for path in (ROOT / "softlabels").rglob("*") if path.is_dir()}
    assert names & sys.stdlib_module_names == set()


def test_tests_mirror_the_wings():
    wings = {path.parent.name for path in (ROOT / "softlabels").glob("*/__init__.py")} - {"cli"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("test_*.py"))}
    assert wings <= folders
