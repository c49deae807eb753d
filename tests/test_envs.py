"""Every way to install softlabels installs the same versions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = tuple(PROJECT["optional-dependencies"])
#: Needed where snakemake is started, not in the environment of a job.
OF_THE_CONTROLLER = {"snakemake", "snakemake-executor-plugin-slurm", "pygments"}


def asked(*groups: str) -> dict[str, SpecifierSet]:
    """Return what pyproject.toml asks for in its dependencies and extras: package to allowed versions."""
    lists = [PROJECT["dependencies"] if g == "dependencies" else PROJECT["optional-dependencies"][g] for g in groups]
    requirements = [Requirement(text) for group in lists for text in group]
    return {canonicalize_name(one.name): one.specifier for one in requirements}


def content(name: str) -> dict:
    return yaml.safe_load((ROOT / "envs" / name).read_text())


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name.lower()): version for name, version in found}


def conda_pins(name: str) -> dict[str, str]:
    (pip,) = [d["pip"] for d in content(name)["dependencies"] if isinstance(d, dict)]
    return {re.sub(r"[-_.]+", "-", n.lower()): v for n, v in (pin.split("==") for pin in pip)}


@pytest.mark.parametrize("name", ["pipeline.yaml", "cuda.yaml", "loader.yaml"])
def test_conda_environment_pins_equal_the_constraints(name):
    constraints = pins(ROOT / "constraints" / "py3.12.txt")
    for package, version in conda_pins(name).items():
        assert constraints[package] == version, f"{package} in envs/{name}"


def test_geodistk_environments_agree():
    assert conda_pins("geodistk.yaml").items() >= pins(ROOT / "envs" / "geodistk-requirements.txt").items()


def test_constraints_cover_every_supported_python():
    versions = {path.stem.removeprefix("py") for path in (ROOT / "constraints").glob("py*.txt")}
    assert versions == {"3.11", "3.12", "3.13"}


def test_lowest_versions_are_allowed_and_not_above_the_tested_ones():
    lowest, tested = (pins(ROOT / "constraints" / name) for name in ("lowest.txt", "py3.11.txt"))
    allowed = asked("dependencies", "workflow", "demo", "nnunet", "dev")
    assert set(allowed) <= set(lowest)
    assert [name for name, versions in allowed.items() if not versions.contains(lowest[name])] == []
    assert [name for name in allowed if Version(lowest[name]) > Version(tested[name])] == []


def test_every_dependency_has_a_lower_bound():
    operators = {name: {one.operator for one in allowed} for name, allowed in asked("dependencies", *EXTRAS).items()}
    assert [name for name, of_one in operators.items() if not of_one & {">=", "=="}] == []


@pytest.mark.parametrize("minor", ["3.11", "3.12", "3.13"])
def test_constraints_pin_what_the_project_asks_for(minor):
    names = set(asked("dependencies", *EXTRAS))
    assert names <= set(pins(ROOT / "constraints" / f"py{minor}.txt"))


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("pipeline.yaml", ("dependencies", "workflow")),
        ("cuda.yaml", ("dependencies", "workflow", "cuda")),
        ("loader.yaml", ("dependencies", "loader")),
    ],
)
def test_conda_environment_holds_what_its_rules_import_in_versions_that_the_project_allows(name, groups):
    wanted = {package: allowed for package, allowed in asked(*groups).items() if package not in OF_THE_CONTROLLER}
    made = conda_pins(name)
    assert set(made) == set(wanted)
    assert [package for package, version in made.items() if not wanted[package].contains(version)] == []


def test_every_rule_names_an_environment_and_no_rule_another_file():
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    named = set(re.findall(r'"\.\./\.\./envs/([a-z]+\.yaml)"', rules))
    assert named == {"pipeline.yaml", "cuda.yaml"} and all((ROOT / "envs" / name).exists() for name in named)
    assert len(re.findall(r"^    conda:$", rules, re.MULTILINE)) == len(re.findall(r"^rule\b", rules, re.MULTILINE))


@pytest.mark.parametrize("name", ["pipeline.yaml", "cuda.yaml", "loader.yaml", "geodistk.yaml"])
def test_conda_environment_has_a_python_that_the_project_supports_and_pip(name):
    dependencies = [d for d in content(name)["dependencies"] if isinstance(d, str)]
    (python,) = [d.partition("=")[2] for d in dependencies if d.startswith("python=")]
    assert PROJECT["requires-python"] == ">=3.11" and (ROOT / "constraints" / f"py{python}.txt").exists()
    assert any(re.fullmatch(r"pip(=.*)?", d) for d in dependencies)
