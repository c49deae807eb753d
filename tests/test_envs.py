"""Every way to install softlabels installs the same versions."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name.lower()): version for name, version in found}


def conda_pins(name: str) -> dict[str, str]:
    dependencies = yaml.safe_load((ROOT / "envs" / name).read_text())["dependencies"]
    (pip,) = [d["pip"] for d in dependencies if isinstance(d, dict)]
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


@pytest.mark.parametrize("minor", ["3.11", "3.12", "3.13"])
def test_constraints_pin_what_the_project_asks_for(minor):
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9_.-]+", d)[0].lower()) for d in asked}
    assert names <= set(pins(ROOT / "constraints" / f"py{minor}.txt"))
