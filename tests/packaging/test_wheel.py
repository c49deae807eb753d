"""softlabels from a built wheel, where no checkout is: what is in it, and the job that its workflow runs.

By default the wheel's environment borrows the dependencies of this one, but not its softlabels, which takes seconds.
With SOFTLABELS_TEST_WHEEL=fresh, as `make test-wheel` sets it, pip installs `softlabels[workflow]` into an empty one.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import SimpleITK as sitk
import yaml
from helpers import ROOT, made_data
from helpers.made_truth import add_references

TRAVELS = ("Snakefile", "config.yaml", "envs", "workflow")
IS_FRESH = os.environ.get("SOFTLABELS_TEST_WHEEL") == "fresh"


def run(*command, cwd: Path, **environment: str) -> str:
    """Run a command that knows nothing of this checkout; return its output, or fail with it."""
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=known | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(target: str, source: Path, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", into, cwd=source)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Return the python of an environment where softlabels is what the wheel holds."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", *(() if IS_FRESH else ("--without-pip",)), folder, cwd=folder)
    python = folder / "bin" / "python"
    if IS_FRESH:
        constraints = ROOT / "constraints" / f"py{sys.version_info[0]}.{sys.version_info[1]}.txt"
        run(python, "-m", "pip", "install", "-q", "-c", constraints, f"{wheel}[workflow]", cwd=folder)
    else:
        pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index")
        run(*pip, wheel, cwd=folder)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        borrowed = folder / "lib" / version / "site-packages" / "borrowed.pth"
        borrowed.write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import softlabels; print(softlabels.__file__)", cwd=folder).strip()
    assert Path(where).is_relative_to(folder)
    return python


def sources(*under: str) -> set[str]:
    """Return the files of the checkout that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *under]
    listed = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def made_by(python: Path, project: Path, data: Path) -> Path:
    """Begin a project with the wheel's command, and give it the cases of a folder."""
    run(python, "-m", "softlabels", "init", project, cwd=data)
    config = yaml.safe_load((project / "config.yaml").read_text())
    config |= {"channels": ["T1"], "labels": made_data.CONFIG["labels"], "pictures": True}
    (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for i in range(2):
        image, labels = made_data.tissue(seed=i)
        made_data.write_volume(project / f"case{i}_t1.nii.gz", image)
        made_data.write_volume(project / f"case{i}_seg.nii.gz", labels)
    rows = [f"case{i}\tcase{i}_t1.nii.gz\tcase{i}_seg.nii.gz" for i in range(2)]
    (project / "cases.tsv").write_text("\n".join(["case\timage:T1\tlabel", *rows]) + "\n")
    return project


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with what git tracks")
def test_wheel_holds_package_and_workflow_and_nothing_else(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == sources("softlabels") | {f"softlabels/workflow/{name}" for name in sources(*TRAVELS)}


def test_sdist_makes_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = (tmp_path / "source").iterdir()
    again = build("wheel", source, tmp_path / "again")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="compares with what git tracks")
def test_sdist_holds_what_tests_and_docs_need(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held >= sources("softlabels", "tests", "docs", "constraints", "examples", "benchmarks", *TRAVELS)
    assert {"README.md", "LICENSE", "CITATION.cff", "Makefile"} <= held


def test_editable_install_is_a_path_to_the_checkout_and_no_copy_of_the_workflow(tmp_path):
    code = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    name = run(sys.executable, "-c", code, tmp_path, cwd=ROOT).splitlines()[-1]
    archive = zipfile.ZipFile(tmp_path / name)
    (path,) = [held for held in archive.namelist() if ".dist-info/" not in held]
    assert path.endswith(".pth") and archive.read(path).decode().strip() == str(ROOT)


def test_metadata_says_what_people_look_for(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = archive.read(name).decode()
    for field in ("Author", "Keywords", "Classifier: Typing :: Typed", "License-Expression: Apache-2.0"):
        assert f"\n{field}" in metadata


def test_project_runs_where_no_checkout_is(python, tmp_path):
    project = made_by(python, tmp_path / "project", tmp_path)
    home = {"HOME": str(tmp_path / "home")}
    assert "2 good" in run(python, "-m", "softlabels", "check", "-C", "project", cwd=tmp_path, **home)
    said = run(python, "-m", "softlabels", "run", "-C", "project", "--cores", "2", cwd=tmp_path, **home)
    assert "prepare 2/2" in said and "All results are complete" in said and "Train on results/index.json" in said
    index = json.loads((project / "results" / "index.json").read_text())
    assert [case["id"] for case in index["cases"]] == ["case0", "case1"] and set(index["targets"]) == {"geols", "sing"}
    assert (project / "results" / "report" / "index.html").exists()
    assert "Nothing to be done" in run(python, "-m", "snakemake", "--cores", "2", cwd=project, **home)
    run(python, "-m", "softlabels", "export", "case0", "--output", "nifti", cwd=project, **home)
    assert sitk.ReadImage(str(project / "nifti" / "case0_labels.nii.gz")).GetSize() == made_data.SHAPE[::-1]


def test_tune_runs_as_jobs_where_no_checkout_is(python, tmp_path):
    project = made_by(python, tmp_path / "project", tmp_path)
    add_references(project)
    config = yaml.safe_load((project / "config.yaml").read_text()) | {"tune": {"methods": ["gaussian"]}}
    (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    home = {"HOME": str(tmp_path / "home")}
    said = run(python, "-m", "snakemake", "--cores", "2", "tune", cwd=project, **home)
    assert said.count("rule tune_case:") == 2
    assert (project / "results" / "tune" / "tune.txt").read_text().startswith("Chosen: gaussian")
    assert "Nothing to be done" in run(python, "-m", "snakemake", "--cores", "2", "tune", cwd=project, **home)


def test_workflow_of_the_wheel_runs_in_a_folder_without_a_snakefile(python, tmp_path):
    project = made_by(python, tmp_path / "project", tmp_path)
    (project / "Snakefile").unlink()
    (project / "profiles" / "default" / "config.yaml").unlink()
    (project / "profiles" / "default").rmdir()
    said = run(python, "-m", "softlabels", "run", "--dry-run", cwd=project, HOME=str(tmp_path))
    assert said.count("rule stages:") == 2 and "workflow/profiles/default" in said


def test_slurm_profile_of_the_wheel_plans_the_same_jobs(python, tmp_path):
    project = made_by(python, tmp_path / "project", tmp_path)
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "home" / ".config")}
    run(python, "-m", "softlabels", "init", "--profile", "slurm", "--partition", "short", cwd=project, **home)
    said = run(python, "-m", "snakemake", "--profile", "slurm", "--dry-run", cwd=project, **home)
    assert said.count("rule stages:") == 2 and "slurm_partition=short" in said


def test_paths_between_files_of_the_workflow_hold_in_the_wheel(python, tmp_path):
    code = "from softlabels.monitor.deployment import workflow_folder; print(workflow_folder())"
    home = Path(run(python, "-c", code, cwd=tmp_path).strip())
    assert home.is_relative_to(python.parents[1]) and {path.name for path in home.iterdir()} == set(TRAVELS)
    rules = home / "workflow" / "rules"
    named = {name for path in rules.glob("*.smk") for name in re.findall(r'"(\.\./[^"]+)"', path.read_text())}
    assert {"../../envs/pipeline.yaml", "../report/montage.rst"} <= named
    assert [name for name in named if not (rules / name).is_file()] == []
