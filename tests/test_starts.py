"""What a job of the workflow does not import, because every process pays for it."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT

from softlabels.cli import OF_RULES
from softlabels.methods import METHODS
from softlabels.seeds import STRATEGIES

RULES = "".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
CALLED = sorted(set(re.findall(r"python -P -m softlabels ([a-z-]+)", RULES)))


def printed(code, *arguments):
    """Return what code prints in a process of its own."""
    command = [sys.executable, "-c", f"import sys\n{code}", *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("command", CALLED)
def test_a_command_of_the_rules_is_made_without_the_others(command):
    code = """
import typer
from softlabels.cli import app_for
commands = typer.main.get_command(app_for(sys.argv[1:])).commands
print(sys.argv[1] in commands, len(commands) < 6, "softlabels.cli.commands" in sys.modules)
"""
    assert printed(code, command, "--job-config", "config.json") == "True True False"


def test_all_commands_that_the_rules_call_are_known_and_no_others():
    assert sorted(OF_RULES) == CALLED


def test_a_configuration_in_json_is_read_without_yaml():
    code = """
from softlabels.config import parse_config
parse_config({"channels": ["T1"], "labels": {"background": 0, "a": 1}, "targets": {"paper": {"method": "geols"}}})
print({"yaml", "scipy", "numba"} & set(sys.modules))
"""
    assert printed(code) == "set()"


def test_a_configuration_imports_the_methods_that_it_names():
    code = """
from softlabels.config import parse_config
parse_config({"channels": ["T1"], "labels": {"background": 0, "a": 1}, "targets": {"soft": {"method": "svls"}}})
from softlabels.methods import METHODS
places = {name: f"softlabels.methods.{name}" for name in METHODS}
print([name for name, place in places.items() if place in sys.modules], len(METHODS) > 10)
"""
    assert printed(code) == "['svls'] True"


def test_every_name_is_that_of_its_class():
    for registry in (METHODS, STRATEGIES):
        assert [component.name for component in registry.built_in.values()] == list(registry.built_in)


def test_skeleton_seeds_of_a_few_classes_are_found_without_scipys_filters():
    code = """
import numpy as np
from softlabels.classes import LabelClass
from softlabels.preprocess.masks import boxed_class_masks
from softlabels.seeds import STRATEGIES, make_boxed_seeds
labels = np.zeros((9, 11, 13), np.uint8)
labels[2:7, 2:9, 2:11] = 1
masks = boxed_class_masks(labels, [LabelClass("background", (0,)), LabelClass("a", (1,))])
names = ["background", "a"]
seeds, reports = make_boxed_seeds(masks, (1, 1, 1), STRATEGIES["skeleton"](), class_names=names, case_id="p1")
assert [report["used"] for report in reports] == ["skeleton", "skeleton"], reports
print({"scipy.ndimage", "skimage"} & set(sys.modules))
"""
    assert printed(code) == "set()"


def test_a_job_starts_no_threads_of_blas_whatever_snakemake_set(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    code = """
import os
from softlabels.cli import main
class AtNumpy:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(os.environ["OPENBLAS_NUM_THREADS"])
sys.meta_path.insert(0, AtNumpy())
files = ("--nodes", "--cases", "--receipt", "--store", "--results")
sys.argv[1:] = ["stage", *(word for name in files for word in (name, "missing"))]
try:
    main()
except SystemExit as ended:
    assert ended.code
"""
    assert printed(code).splitlines()[0] == "1"
