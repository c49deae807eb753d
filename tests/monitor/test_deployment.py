"""Where the workflow is found, and what a job in another environment is given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

import softlabels
from softlabels.errors import InputError
from softlabels.monitor.deployment import isolated_package, project_files, workflow_folder


def test_checkout_runs_its_own_workflow():
    assert workflow_folder() == ROOT


def test_wheel_runs_the_workflow_inside_it(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "softlabels"
    (package / "workflow").mkdir(parents=True)
    (package / "workflow" / "Snakefile").touch()
    (tmp_path / "site-packages" / "Snakefile").touch()  # of something else
    monkeypatch.setattr(softlabels, "__file__", str(package / "__init__.py"))
    assert workflow_folder() == package / "workflow"


def test_package_without_a_workflow_is_an_error_that_names_where_it_was_sought(tmp_path, monkeypatch):
    monkeypatch.setattr(softlabels, "__file__", str(tmp_path / "softlabels" / "__init__.py"))
    with pytest.raises(InputError, match=f"{tmp_path}/softlabels/workflow or {tmp_path}.*Reinstall"):
        workflow_folder()


def test_a_project_that_was_copied_with_its_links_followed_gets_its_link_back(tmp_path):
    (tmp_path / "softlabels" / "store").mkdir(parents=True)
    (tmp_path / "softlabels" / "store" / "__init__.py").touch()
    isolated_package(tmp_path)
    assert (tmp_path / "softlabels").is_symlink() and [path.name for path in tmp_path.iterdir()] == ["softlabels"]


def test_job_of_another_environment_imports_softlabels_and_nothing_else_of_ours(tmp_path):
    folder = isolated_package(tmp_path / ".snakemake" / "package")
    assert [path.name for path in folder.iterdir()] == ["softlabels"] and folder.is_absolute()
    # Without site-packages: neither our numpy nor our softlabels is there but by the path.
    code = "import softlabels, importlib.util; print(softlabels.__file__); assert not importlib.util.find_spec('numpy')"
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env=known | {"PYTHONPATH": str(folder)},
        text=True,
        capture_output=True,
        check=True,
    )
    assert Path(done.stdout.strip()).resolve() == Path(softlabels.__file__).resolve()


def test_link_to_an_installation_that_moved_is_replaced(tmp_path):
    (tmp_path / "softlabels").symlink_to(tmp_path / "gone")
    isolated_package(tmp_path)
    assert (tmp_path / "softlabels").resolve() == Path(softlabels.__file__).resolve().parent
    assert [path.name for path in tmp_path.iterdir()] == ["softlabels"]


def test_project_files_are_a_snakefile_and_the_profile_of_a_plain_snakemake():
    files = project_files()
    assert set(files) == {"Snakefile", "profiles/default/config.yaml"}
    assert files["profiles/default/config.yaml"] == (ROOT / "profiles" / "default" / "config.yaml").read_text()
