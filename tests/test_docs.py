"""What the pages promise is there: links lead somewhere, commands exist, snippets are Python."""

import ast
import re
import tomllib

import numpy as np
import pytest
import typer
import yaml
from helpers import ROOT

from softlabels.cli.commands import app
from softlabels.methods import TargetInputs

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("softlabels/**/*.md")]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_snippets_parse(page):
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        ast.parse(snippet)


def test_readme_names_every_command_and_no_other():
    group = typer.main.get_command(app)
    visible = {name for name, command in group.commands.items() if not command.hidden}
    named = set(re.findall(r"`softlabels (\w[\w-]*)", (ROOT / "README.md").read_text()))
    assert named == visible


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)) <= targets


def test_make_targets_of_contributing_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`make ([a-z -]+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert {target for targets_of_one in named for target in targets_of_one.split()} <= targets


def test_files_and_folders_that_contributing_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:softlabels|tests|benchmarks|changes)/[\w/.]*)`", text)
    assert len(named) > 8 and [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_folders_of_the_checkout_that_a_page_names_exist(page):
    named = re.findall(r"`((?:softlabels|workflow|tests|benchmarks|examples|docs|envs)/[\w/.]*)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_method_of_contributing_is_a_whole_one():
    snippet = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
    names = {"__name__": "box"}
    exec(compile(snippet, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    masks = np.zeros((2, 1, 5, 5), bool)
    masks[1, 0, 2, 2] = True
    masks[0] = ~masks[1]
    found = names["Box"]().compute(TargetInputs(masks, (1.0, 1.0, 1.0), ("background", "dot"), background=0))
    np.testing.assert_allclose(found.values[1, 0, 1:4, 1:4], 1 / 9, rtol=1e-6)
    assert found.values[1].sum() == pytest.approx(1)


def test_design_names_every_wing():
    wings = {f"`softlabels/{path.parent.name}/`" for path in (ROOT / "softlabels").glob("*/__init__.py")}
    wings |= {f"`softlabels/{path.name}`" for path in (ROOT / "softlabels").glob("*.py") if path.name[0] != "_"}
    plan = (ROOT / "docs" / "design.md").read_text()
    assert [wing for wing in sorted(wings) if wing not in plan] == []


def test_changelog_fragments_have_a_type_that_the_changelog_knows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    types = {kind["directory"] for kind in project["tool"]["towncrier"]["type"]}
    fragments = {path.name for path in (ROOT / "changes").iterdir()} - {"README.md"}
    assert [name for name in fragments if name.split(".")[1:] not in [[kind, "md"] for kind in types]] == []


def test_continuous_integration_runs_targets_that_exist_on_every_supported_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = {target for step in steps for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert called <= targets and {"check", "docs", "test", "test-wheel"} <= called
    supported = {path.stem.removeprefix("py") for path in (ROOT / "constraints").glob("py*.txt")}
    assert set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) == supported
    assert all("uses" in step or "run" in step for step in steps)
    assert workflow[True].keys() == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true


def test_make_targets_are_described():
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    described = re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)
    assert sorted(phony.split()) == sorted(described)
