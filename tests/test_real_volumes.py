"""Real volumes are optional, and one rule says where they are."""

import pytest
from helpers import ROOT
from helpers.real_volumes import VARIABLE, real_volumes


def test_variable_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert real_volumes() == tmp_path


def test_mistyped_folder_is_an_error_and_no_reason_to_skip(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(NotADirectoryError, match=VARIABLE):
        real_volumes()


def test_nobody_else_knows_the_folder():
    files = [path for name in ("softlabels", "tests", "benchmarks", "examples") for path in (ROOT / name).rglob("*.py")]
    spelt = ('"shared" / "data"', "shared/data")
    knowing = {path.name for path in files if any(one in path.read_text() for one in spelt)}
    assert knowing == {"real_volumes.py", "test_real_volumes.py"}
