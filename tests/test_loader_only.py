"""A machine with softlabels[loader] alone: what an error tells the user to type can be typed there.

The packages of the workflow are hidden from the import system of a process, as if they were not installed.
"""

import subprocess
import sys
import tomllib
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from helpers import ROOT
from helpers.made_cohort import SHAPES, make_cohort
from helpers.made_project import Project

from softlabels.cli import EXTRAS
from softlabels.cohort.case_table import CaseTable
from softlabels.cohort.index import Index
from softlabels.grid import Grid
from softlabels.view.entries import case_entries

#: Module to the name of its package, where they differ.
PACKAGES = {"yaml": "PyYAML", "skimage": "scikit-image", "jinja2": "Jinja2"}
#: typer and zarr bring pydantic and PyYAML along.
HIDDEN = sorted(name for name, extra in EXTRAS.items() if extra == "workflow" and name not in ("pydantic", "yaml"))
_HIDE = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


@pytest.fixture
def index(tmp_path):
    return make_cohort(tmp_path, {"small": SHAPES["small"], "empty": SHAPES["empty"]})


def run(code, folder, *arguments):
    script = f"{_HIDE}\nsys.argv[1:] = {list(map(str, arguments))}\n{code}"
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)


def softlabels(folder, *arguments):
    return run("from softlabels.cli import main\nmain()", folder, *arguments)


def damage(index):
    """Truncate a file of the store; return the entry's key."""
    shard = max(index.parents[1].rglob("target/c/0/0/0/0"), key=lambda path: path.stat().st_size)
    for path in (shard.parent, shard):
        path.chmod(0o755)
    shard.write_bytes(shard.read_bytes()[:-1])
    return next(parent.name for parent in shard.parents if len(parent.name) == 64)


def test_extras_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, extra in EXTRAS.items():
        name = PACKAGES.get(module, module)
        assert any(one.startswith(name) for one in extras[extra]), f"{module} in {extra}"


def test_verify_takes_an_index(index):
    done = softlabels(index.parent, "verify", "index.json", "--deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("index.json: 8 entries of 2 cases in ")
    assert done.stdout.endswith("0 damaged, 0 absent\n")


@pytest.mark.parametrize("where", ["results/index.json", "store"])
def test_verify_names_damage_and_discards_it(index, where):
    key = damage(index)
    project = index.parents[1]
    found = softlabels(project, "verify", where)
    assert found.returncode == 1
    assert f"damaged  {'case' if where != 'store' else key[:12]}" in found.stdout and key[:12] in found.stdout
    assert "in the project's folder, run `softlabels verify --discard`" in found.stdout
    gone = softlabels(project, "verify", where, "--discard")
    assert "1 damaged, 0 absent, discarded" in gone.stdout
    again = softlabels(project, "verify", where)
    assert again.returncode == (1 if where != "store" else 0)
    assert ("absent   case" in again.stdout) == (where != "store")


def test_a_store_that_is_elsewhere_is_named(index):
    project = index.parents[1]
    (project / "store").rename(project / "copy")
    absent = softlabels(project, "verify", "results/index.json")
    assert absent.returncode == 1 and absent.stdout.count("absent   case ") == 8
    assert softlabels(project, "verify", "results/index.json", "--store", "copy").returncode == 0


def test_wrong_paths_are_one_line(index):
    project = index.parents[1]
    for arguments, message in [
        (["nope.json"], "index nope.json: no such file. Run snakemake in the project's folder"),
        (["results"], "results: no entry in it, expected a store or an index.json"),
        (["store", "--store", "store"], "--store: got store and store, expected one store"),
    ]:
        done = softlabels(project, "verify", *arguments)
        assert done.returncode == 1 and done.stderr.startswith(f"softlabels: {message}")
        assert done.stderr.count("\n") == 1


def test_copy_and_restore_need_the_index_only(index, tmp_path):
    for destination, opened in (("disk/cohort", "disk/cohort/index.json"), ("cohort.zip", "cohort.zip")):
        done = softlabels(tmp_path, "copy", index, destination, "--target", "geols")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout.startswith(f"{opened}: copied 4 entries of 2 cases, ")
        assert softlabels(tmp_path, "verify", opened, "--deep").stdout.endswith("0 damaged, 0 absent\n")
    again = softlabels(tmp_path, "copy", index, "disk/cohort", "--target", "geols")
    assert again.stdout.endswith("copied 0 entries of 2 cases, 0.0 MB, 4 were there\n")
    np.save(tmp_path / "prediction.npy", np.ones((3, *SHAPES["small"]), np.float32))
    grid = Grid(SHAPES["small"], (3.0, 1.0, 1.0))
    noted = replace(Index.read(index), cases=CaseTable.of(replace(case, grid=grid) for case in Index.read(index).cases))
    noted.write(index)
    arguments = ["small", "prediction.npy", "--index", index, "--target", "geols", "-o", "new/labels.nii.gz"]
    done = softlabels(tmp_path, "restore", *arguments)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "new/labels.nii.gz\n")
    assert (tmp_path / "new" / "labels.nii.gz").stat().st_size > 0


def test_disk_usage_needs_the_store_only(index):
    done = softlabels(index.parents[1], "du", "--store", "nowhere")
    assert done.stderr == "softlabels: store nowhere: no such folder. Give the store of a project, or omit --store\n"


def test_export_needs_the_project_only(tmp_path, monkeypatch):
    project = Project(tmp_path, monkeypatch, n_cases=1, targets={"geols": {"method": "geols"}})
    absent = softlabels(tmp_path, "export", "case0")
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1)
    assert "case0" in absent.stderr and "Run snakemake" in absent.stderr
    project.run_together()
    done = softlabels(tmp_path, "export", "case0", "--intermediate")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("image", "labels", "geols", "geols_seeds", "geols_distance"):
        assert {f"export/case0_{name}.nii.gz", f"export/case0_{name}.json"} <= set(done.stdout.splitlines())
    expected = case_entries(project.config, project.plan, "case0").targets["geols"].target.soft_label()
    written = nibabel.load("export/case0_geols.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(written.T, expected)


@pytest.mark.parametrize("arguments", [["show", "small"], ["run"]])
def test_a_command_of_the_workflow_says_what_to_install(index, arguments):
    done = softlabels(index.parents[1], *arguments)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"`softlabels {arguments[0]}` needs " in done.stderr
    assert "pip install 'softlabels[workflow]'" in done.stderr


def test_a_missing_module_of_another_package_keeps_its_traceback(index):
    code = "import softlabels.cli as cli\ncli.app_for = lambda _: __import__('no_such_plugin')\ncli.main()"
    done = run(code, index.parent)
    assert "Traceback" in done.stderr and "no_such_plugin" in done.stderr


def test_the_loader_reads_and_names_the_remedy(index):
    damage(index)
    code = """
from softlabels.loader import SoftLabelDataset
from softlabels.errors import FormatError
for target in ("geols", "sing", "svls"):
    for sample in (0, 1):
        try:
            SoftLabelDataset("index.json", target=target, mode="whole")[sample]
        except FormatError as error:
            print(error)
"""
    done = run(code, index.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in the project's folder, run `softlabels verify --discard`, then snakemake") == 1


def test_an_open_cohort_says_that_it_needs_dask(index):
    done = run("import softlabels\nsoftlabels.open_cohort('index.json')['small'].image", index.parent)
    assert done.stderr.endswith("ImportError: open_cohort needs dask: pip install 'softlabels[workflow]'\n")
