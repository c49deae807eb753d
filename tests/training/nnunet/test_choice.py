"""Which soft labels a training takes, and the file that makes the trainer known to nnU-Net."""

import ast
import json
import subprocess
import sys

import pytest
from helpers.made_cohort import SHAPES, make_cohort

from softlabels.errors import InputError
from softlabels.training.nnunet.choice import RECORD, Choice, chosen
from softlabels.training.nnunet.trainers_file import FILE_NAME, Length, added_to, trainers_source


@pytest.fixture
def folders(tmp_path):
    """Return nnU-Net's data folder, the folder of a fold, and the index in its usual place."""
    project = tmp_path / "Plans_2d_softlabels"
    project.mkdir()
    index = make_cohort(project, {"small": SHAPES["small"]})
    output = tmp_path / "fold_0"
    output.mkdir()
    return tmp_path / "Plans_2d", output, index


def choose(folders, environment=None, *, target=None, is_continued=False):
    data, output, _ = folders
    return chosen(environment or {}, data, output, target=target, is_continued=is_continued)


def test_variables_come_first_then_the_usual_place(folders, tmp_path):
    _, _, usual = folders
    assert choose(folders, {"SOFTLABELS_TARGET": "geols"}) == Choice(str(usual), "geols", {})
    other = make_cohort(tmp_path, {"small": SHAPES["small"]})
    environment = {"SOFTLABELS_TARGET": "geols", "SOFTLABELS_INDEX": str(other), "SOFTLABELS_ALPHA": "0.2"}
    assert choose(folders, environment) == Choice(str(other), "geols", {"alpha": 0.2})


def test_a_class_that_stands_for_a_target_needs_no_variable(folders):
    assert choose(folders, {"SOFTLABELS_TARGET": "geols"}, target="sing").target == "sing"


def test_a_target_left_open_is_asked_for(folders):
    with pytest.raises(
        InputError, match="SOFTLABELS_TARGET: not set, expected one of geols, onehot, sing, smooth, svls"
    ):
        choose(folders)


def test_no_index_tells_how_to_make_one(folders, tmp_path):
    with pytest.raises(InputError, match=r"softlabels init .*Other_softlabels --nnunet-preprocessed .*Other,"):
        chosen({}, tmp_path / "Other", tmp_path, target="geols", is_continued=False)


def test_a_continued_training_goes_on_without_variables(folders):
    begun = choose(folders, {"SOFTLABELS_TARGET": "geols", "SOFTLABELS_ALPHA": "0.3"})
    begun.write(folders[1])
    assert choose(folders, is_continued=True) == begun
    moved = choose(folders, {"SOFTLABELS_INDEX": "elsewhere/index.json"}, is_continued=True)
    assert (moved.index, moved.target, moved.overrides) == ("elsewhere/index.json", "geols", {"alpha": 0.3})


@pytest.mark.parametrize("is_continued", [True, False])
@pytest.mark.parametrize(
    "environment", [{"SOFTLABELS_TARGET": "svls"}, {"SOFTLABELS_TARGET": "geols", "SOFTLABELS_ALPHA": "0.5"}]
)
def test_a_folder_belongs_to_one_soft_label(folders, environment, is_continued):
    choose(folders, {"SOFTLABELS_TARGET": "geols"}).write(folders[1])
    with pytest.raises(InputError, match="its training is on target 'geols', got target '.*move the folder away"):
        choose(folders, environment, is_continued=is_continued)


def test_the_same_training_may_begin_anew(folders):
    begun = choose(folders, {"SOFTLABELS_TARGET": "geols"})
    begun.write(folders[1])
    assert choose(folders, {"SOFTLABELS_TARGET": "geols"}) == begun


@pytest.mark.parametrize("content", ["{", "{}", '{"index": "a", "target": "b", "overrides": 1}'])
def test_a_damaged_record_is_named(folders, content):
    (folders[1] / RECORD).write_text(content)
    with pytest.raises(InputError, match=r"softlabels\.json: damaged"):
        choose(folders, {"SOFTLABELS_TARGET": "geols"}, is_continued=True)


def test_a_parameter_that_is_no_number_is_refused(folders):
    with pytest.raises(InputError, match="SOFTLABELS_ALPHA: got 'much', expected a number"):
        choose(folders, {"SOFTLABELS_TARGET": "geols", "SOFTLABELS_ALPHA": "much"})


def test_the_record_is_plain_json(folders):
    choose(folders, {"SOFTLABELS_TARGET": "geols", "SOFTLABELS_ALPHA": "0.3"}).write(folders[1])
    content = json.loads((folders[1] / RECORD).read_text())
    assert content == {"index": str(folders[2]), "target": "geols", "overrides": {"alpha": 0.3}}


def run(*arguments):
    command = [sys.executable, "-m", "softlabels.training.nnunet", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def classes(path):
    """Return base and attributes of each class in a file."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            attributes = {one.targets[0].id: ast.literal_eval(one.value) for one in node.body}
            found[node.name.removeprefix("nnUNetTrainerSoftLabels")] = (
                node.bases[0].id.removeprefix("nnUNetTrainerSoftLabels"),
                attributes,
            )
    return found


def test_trainers_are_written_for_nnunet_to_find_and_stay_when_others_are_added(tmp_path):
    folder = tmp_path / "trainers"
    done = run("install", "--folder", str(folder), "--target", "geols", "--target", "sing")
    assert done.returncode == 0, done.stderr
    assert f"export nnUNet_extTrainer={folder}" in done.stdout
    printed = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert printed == [f"nnUNetTrainerSoftLabels{suffix}" for suffix in ("", "_geols", "_sing")]
    both = {"_geols": ("", {"soft_target": "geols"}), "_sing": ("", {"soft_target": "sing"})}
    assert classes(folder / FILE_NAME) == both
    done = run("install", "--folder", str(folder), "--target", "phi", "--epochs", "3", "--iterations", "5")
    assert "nnUNetTrainerSoftLabels_phi_3epochs_5iterations" in done.stdout
    short = {"epochs": 3, "iterations": 5}
    more = {
        "_phi": ("", {"soft_target": "phi"}),
        "_3epochs_5iterations": ("", short),
        "_phi_3epochs_5iterations": ("_phi", short),
    }
    assert classes(folder / FILE_NAME) == both | more
    run("install", "--folder", str(folder), "--target", "sing")
    assert classes(folder / FILE_NAME) == both | more


def test_a_file_of_another_version_is_replaced():
    assert added_to("class nnUNetTrainerSoftLabels_old:\n    pass\n", trainers_source([])) == trainers_source([])


def test_lengths_below_one_and_iterations_without_epochs_are_refused(tmp_path):
    for length, wrong in ((Length(0), "epochs: got 0"), (Length(2, -1), "iterations: got -1")):
        with pytest.raises(InputError, match=wrong):
            trainers_source([], length)
    done = run("install", "--folder", str(tmp_path), "--iterations", "5")
    assert done.returncode == 2
    assert "--iterations needs --epochs" in done.stderr


def test_what_is_no_name_of_a_target_is_refused():
    with pytest.raises(InputError, match="target: got 'a-b'"):
        trainers_source(["a-b"])
    done = run("install", "--target", 'x"\nimport os')
    assert done.returncode == 1
    assert "expected a target's name" in done.stderr
