"""The command line as people meet it: version, help, completion, progress in files, names, findings that many share."""

import itertools
import json
import os
import re
import shlex
from pathlib import Path

import nibabel
import pytest
import typer
from helpers.made_project import Project
from typer.testing import CliRunner

from softlabels import __version__
from softlabels.cli import completion
from softlabels.cli.app import progress
from softlabels.cli.commands import app
from softlabels.cli.project import _grouped
from softlabels.inputs.case import Finding
from softlabels.pipeline.names import link_names


def test_version_and_the_short_form_of_help():
    assert CliRunner().invoke(app, ["--version"]).output == f"softlabels {__version__}\n"
    for arguments in (["-h"], ["show", "-h"]):
        found = CliRunner().invoke(app, arguments)
        assert found.exit_code == 0 and "Usage:" in found.output


def test_help_fills_the_lines_of_a_narrow_terminal_and_indents_the_examples(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        if command.hidden:
            continue
        text = CliRunner().invoke(app, [name, "--help"]).output.partition("╭")[0]
        description, _, examples = text.partition("\n Examples:")
        assert f"\n     softlabels {name}" in examples, name
        lines = [line.strip() for line in description.splitlines()]
        for line, after in itertools.pairwise(lines):  # a line ends where the next word would not fit
            assert not line or not after or len(line) + 1 + len(after.split()[0]) > 78, (name, line)


def test_every_command_has_an_example_that_can_be_parsed():
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        if command.hidden:
            continue
        examples = re.findall(rf"^ +softlabels ({name} ?.*)$", command.help, re.MULTILINE)
        assert examples, name
        for example in examples:
            words = shlex.split(example)[1:]
            if name != "run":
                command.make_context(name, words, resilient_parsing=False)


def test_no_progress_bar_goes_into_a_file(capsys):
    assert list(progress(range(3), "Reading", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_finding_that_many_cases_share_is_one_line_but_every_error_has_its_own():
    findings = [Finding(f"c{i}", "label", "absent_label:2", severity="warning") for i in range(7)]
    findings += [Finding("c0", "label", "empty_label", severity="warning")]
    findings += [Finding(f"c{i}", "image:0", "truncated") for i in range(5)]
    lines = list(_grouped(findings))
    assert ("warning", "7 cases, label: absent_label:2 (c0, c1, c2, c3, c4 and 2 more)") in lines
    assert ("warning", "case c0, label: empty_label") in lines
    assert [line for severity, line in lines if severity == "error"] == [
        f"case c{i}, image:0: truncated" for i in range(5)
    ]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A finished project of one case."""
    targets = {"geols": {"method": "geols"}, "soft": {"method": "svls"}}
    project = Project(tmp_path, monkeypatch, n_cases=1, targets=targets, pictures=False)
    project.run_all()
    link_names(project.plan, project.results, ["case0"])
    return project


class Context:
    """What completion is given of the command line so far."""

    params = {"config": "config.yaml"}


def test_the_shell_completes_what_people_name(made):
    assert completion.cases(Context, "") == ["case0"] and completion.cases(Context, "x") == []
    assert completion.targets(Context, "g") == ["geols"]
    assert completion.nodes(Context, "geols/") == ["geols/prepare", "geols/seeds", "geols/distance", "geols/target"]
    assert "background" in completion.classes(Context, "") and completion.channels(Context, "") == made.config.channels


def test_completion_without_a_project_offers_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for offer in (completion.cases, completion.targets, completion.classes, completion.nodes, completion.channels):
        assert offer(Context, "") == []


def test_results_have_links_by_the_names_of_the_targets(made):
    folder = made.results / "case0"
    names = {path.name.removesuffix(".zarr") for path in folder.glob("*.zarr") if "/" not in os.readlink(path)}
    assert names == {"prepare", "geols", "geols-seeds", "geols-distance", "soft"}
    for name in names:
        link, node = folder / f"{name}.zarr", made.plan.find_node(name.replace("-", "/"))
        assert link.is_symlink() and os.readlink(link) == f"{node}.zarr" and (link / "zarr.json").exists()
    (folder / "mine.zarr").mkdir()
    (folder / "gone.zarr").symlink_to("target-00000000.zarr")
    (folder / "foreign.zarr").symlink_to("/somewhere/else.zarr")
    (folder / "soft.zarr").unlink()
    link_names(made.plan, made.results, ["case0", "case9"])
    left = {path.name for path in folder.iterdir()}
    assert {"mine.zarr", "foreign.zarr", "soft.zarr"} <= left and "gone.zarr" not in left


def test_layers_of_two_targets_are_told_apart_by_viewers(made):
    labels = {}
    for name in ("geols", "soft", "geols-seeds"):
        attributes = json.loads((made.results / "case0" / f"{name}.zarr" / "zarr.json").read_text())["attributes"]
        labels[name] = attributes["ome"]["omero"]["channels"][0]["label"]
    assert labels == {
        "geols": "geols paper: background", "soft": "svls paper: background", "geols-seeds": "skeleton: background"
    }  # fmt: skip


def test_export_writes_one_class_and_what_nifti_cannot_say(made):
    arguments = ["export", "case0", "--target", "geols", "--class-name", "background", "--intermediate"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    names = {path.name for path in Path("export").iterdir()}
    assert {
        "case0_image.nii.gz", "case0_image.json", "case0_labels.nii.gz", "case0_labels.label.txt", "case0_labels.ctbl",
        "case0_geols_background.nii.gz", "case0_geols_background.json", "case0_geols_distance.json",
    } <= names and not any("soft" in name for name in names)  # fmt: skip
    assert nibabel.load("export/case0_geols_background.nii.gz").ndim == 3
    assert json.loads(Path("export/case0_geols_background.json").read_text())["channels"] == ["background"]
    distance = json.loads(Path("export/case0_geols_distance.json").read_text())
    assert len(distance["channels"]) == nibabel.load("export/case0_geols_distance.nii.gz").shape[3]
    assert CliRunner().invoke(app, ["export", "case0", "--target", "golse"]).exit_code != 0
