"""The comparison of soft labels with nnU-Net: from files to scores, rows in pairs, killed trainings resumed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.made_raw_nnunet import LABELS, SHAPES, SPACING, volumes
from helpers.made_study import best_temperature, jobs, planned, python, snakemake

from softlabels.grid import Grid
from softlabels.view.export import write_nifti

pytest.importorskip("nnunetv2", reason="make test-nnunet runs these tests")

#: The labels of the files are not consecutive, as nnU-Net wants them.
VALUES = np.uint8([0, 7, 9])
STUDY = {
    "name": "made",
    "results": "compare",
    "softlabels": {
        "channels": ["MR", "MR2"],
        "labels": {"background": 0, "edema": 7, "necrosis": 9},
        "pictures": False,
        "stages_per_job": "all",
        "cases_per_job": 4,
        "targets": {"onehot": {"method": "onehot"}, "geols": {"method": "geols"}},
    },
    "baseline": "hard",
    "rows": {
        "hard": {"target": "onehot"},
        "geols": {"target": "geols"},
        "later": {"after": "hard", "temperature": "fitted", "unmix": {"rho": 3.0}},
    },
    "seeds": [0],
    "training": {"steps": [2], "nnunet": {"spacing": list(SPACING), "iterations": 2, "validation_iterations": 1}},
}
#: Scores of a row, by their name without the digest.
SCORES = "compare/scores/{}_fold0.tsv"

#: Train with a change of the trainer: what a test must do before nnU-Net is imported is done by the command.
TRAIN = """
import json, sys
from pathlib import Path
from comparison.nnunet_data import NnunetData
from comparison.training import Run
run, output = Run(**json.loads(sys.argv[1])), Path(sys.argv[2])
NnunetData.from_json(run.nnunet).set_training(output.with_suffix(""), run.index, run.targets[0])
from comparison import nnunet_training
if sys.argv[3] == "killed":
    # The same class, whose name is that of nnU-Net's folder.
    trainer = nnunet_training.SeededTrainer
    prepared_for, on_epoch_end = trainer.prepared_for, trainer.on_epoch_end

    def saves_often(self, run):
        self.save_every = 1
        return prepared_for(self, run)

    def is_killed(self):
        on_epoch_end(self)
        sys.exit("killed")

    trainer.prepared_for, trainer.on_epoch_end = saves_often, is_killed
nnunet_training.train_nnunet(run, output)
"""

#: Write the probabilities and the truth of a network's validation cases.
PREDICT = """
import sys
from pathlib import Path
import numpy as np
from comparison.judging import prediction_of, truth_of
from comparison.training import Run, load
content = load(Path(sys.argv[1]))
run = Run(**content["run"])
truth = truth_of(run)
predict = prediction_of(run, content, truth)
np.savez(sys.argv[2], **{case: np.stack([predict(case), truth.reference(case)]) for case in run.validation})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Give a folder with the scores of one fold of two rows, trained for two short epochs."""
    folder = tmp_path_factory.mktemp("study")
    rows = ["case\timage:MR\timage:MR2\tlabel\treference"]
    for case in list(SHAPES)[:4]:
        image, seg = volumes(case, LABELS)
        grid, shares = Grid(seg.shape, SPACING), np.float32([seg == number for number in range(3)])
        named = {"0": image[0], "1": image[1], "label": VALUES[seg], "shares": 0.8 * shares + np.float32(0.2 / 3)}
        for name, values in named.items():
            write_nifti(values, grid, folder / f"{case}_{name}.nii.gz")
        rows.append("\t".join([case, *(f"{case}_{name}.nii.gz" for name in named)]))
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    snakemake(folder, "--cores", "1", "--until", "preprocess")
    plans = folder / "compare/nnunet/preprocessed/Dataset001_comparison/nnUNetPlans.json"
    content = json.loads(plans.read_text())
    arguments = content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [4 * 2**level for level in range(arguments["n_stages"])]
    arguments["n_conv_per_stage"] = [1] * arguments["n_stages"]
    plans.write_text(json.dumps(content))
    names = planned(snakemake(folder, "--dry-run"))
    snakemake(folder, "--cores", "1", *(names[SCORES.format(row)] for row in ("hard", "geols")))
    return folder


def network(project: Path, row: str) -> Path:
    """Return the network of a row."""
    (found,) = project.glob(f"compare/networks/{row}/seed0_fold0_steps2.*.pt")
    return found


def lines(project: Path) -> list[dict[str, str]]:
    """Return the lines of both score files."""
    files = list(project.glob("compare/scores/*.tsv"))
    assert len(files) == 2
    texts = [file.read_text().splitlines() for file in files]
    return [row for text in texts for row in csv.DictReader(text, delimiter="\t")]


def test_rows_of_a_seed_begin_alike_see_the_same_batches_and_learn_other_targets(project):
    assert {line["row"] for line in lines(project)} == {"hard", "geols", "later"}
    assert len({(line["init"], line["batches"]) for line in lines(project)}) == 1
    hard, geols = (torch.load(network(project, row)) for row in ("hard", "geols"))
    assert len(hard["losses"]) == 4 and np.isfinite(hard["losses"]).all() and hard["losses"] != geols["losses"]
    assert any(not torch.equal(values, geols["weights"][name]) for name, values in hard["weights"].items())


def test_predictions_are_scored_on_the_grid_of_the_files(project):
    cases = {line["case"] for line in lines(project)}
    assert len(cases) == 2
    for line in lines(project):
        found = {name: float(line[name]) for name in ("brier_truth", "ece_label", "dice", "volume_bias_truth")}
        assert 0 < found["brier_truth"] < 1 and np.isfinite(list(found.values())).all()


def test_the_temperature_is_the_best_one_on_the_validation_cases(project, tmp_path):
    predicted = tmp_path / "predicted.npz"
    python(project, "-c", PREDICT, str(network(project, "hard")), str(predicted))
    with np.load(predicted) as content:
        pairs = [tuple(content[case]) for case in content]
    assert len(pairs) == 1
    (found,) = {float(line["temperature"]) for line in lines(project) if line["row"] == "later"}
    assert found == pytest.approx(best_temperature(pairs), rel=0.01)


def test_nothing_is_trained_again_and_a_new_row_trains_only_itself(project):
    study = yaml.safe_load((project / "study.yaml").read_text())
    study["rows"]["new"] = {"target": "geols"}
    (project / "new.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    shown = snakemake(project, "--dry-run", study="new.yaml")
    made_before = {(row, 0) for row in ("hard", "geols")}
    left = {(row, fold) for row in ("hard", "geols", "new") for fold in (0, 1)} - made_before
    networks = {f"compare/networks/{row}/seed0_fold{fold}_steps2.pt" for row, fold in left}
    assert planned(shown).keys() == networks | {f"compare/scores/{row}_fold{fold}.tsv" for row, fold in left}
    assert not {"preprocess", "stages", "index"} & jobs(shown).keys()


def test_a_killed_training_resumes_to_the_same_bits_with_other_processes(project, tmp_path):
    whole = torch.load(network(project, "geols"))
    killed = {**whole["run"], "training": {**whole["run"]["training"], "workers": 1}}
    output = tmp_path / "again.pt"
    assert "killed" in python(project, "-c", TRAIN, json.dumps(killed), str(output), "killed", fails=True)
    assert not output.exists()
    printed = python(project, "-c", TRAIN, json.dumps(killed), str(output), "resumed")
    assert "Epoch 1" in printed and "Epoch 0" not in printed
    resumed = torch.load(output)
    assert resumed["losses"] == whole["losses"] and resumed["batches"] == whole["batches"]
    assert all(torch.equal(values, resumed["weights"][name]) for name, values in whole["weights"].items())
