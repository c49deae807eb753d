# The study and the functions that find what a rule reads; no rules here.
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from comparison.nnunet_data import NnunetData
from comparison.study import (
    REFERENCE,
    SCORES_VERSION,
    TRAINING_VERSION,
    canonical,
    make_folds,
    parse_study,
    read_cases_of,
    targets_of,
)
from softlabels.config import parse_config, read_yaml
from softlabels.inputs.detached import file_state
from softlabels.inputs.sheet import read_sheet
from softlabels.monitor.deployment import workflow_folder
from softlabels.pipeline.plan import make_plan

# Jobs call `python`, the one that runs snakemake, and find the package beside this workflow.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    PYTHONPATH=os.pathsep.join(filter(None, [workflow.basedir, os.environ.get("PYTHONPATH")])),
)

for path in workflow.configfiles:
    read_yaml(path)  # refuses what Snakemake's reader would drop in silence
STUDY = parse_study(config, source=", ".join(map(str, workflow.configfiles)) or "study")
STUDY_CASES = {one.case.id: one for one in read_cases_of(STUDY.config.cases, STUDY.config.channels)}
# The soft labels of nnU-Net are those of its own arrays, which have a case sheet before they exist.
NNUNET = NnunetData.of(STUDY)
MODULE_CONFIG = STUDY.softlabels
if NNUNET is not None:
    # A dry run writes nothing into the study: its folder is deleted when Snakemake ends. (`workflow.dryrun` is False as long
    # as rules are read.)
    DRY_FOLDER = tempfile.TemporaryDirectory(prefix="softlabels-") if workflow.output_settings.dryrun else None
    ARRAY_SHEET = NNUNET.write_array_sheet(DRY_FOLDER and Path(DRY_FOLDER.name))
    MODULE_CONFIG = NNUNET.array_config(STUDY.softlabels, ARRAY_SHEET)
SOFTLABELS = parse_config(MODULE_CONFIG, "softlabels")
PLAN_OF_TARGETS = make_plan(SOFTLABELS)
FOLDS = make_folds({case: one.person for case, one in STUDY_CASES.items()}, STUDY.folds)
INDEX = f"{SOFTLABELS.results}/index.json"


wildcard_constraints:
    row="|".join(STUDY.rows),
    seed="[0-9]+",
    fold="[0-9]+",
    steps="[0-9]+",


def networks(wildcards):
    """Return the networks of a row and fold: of every seed and length."""
    pattern = f"{STUDY.results}/networks/{wildcards.row}/seed{{seed}}_fold{wildcards.fold}_steps{{steps}}.pt"
    return expand(pattern, seed=STUDY.seeds, steps=STUDY.training.steps)


def scores(wildcards):
    """Return the scores of every trained row and fold."""
    return expand(f"{STUDY.results}/scores/{{row}}_fold{{fold}}.tsv", row=STUDY.trained, fold=range(len(FOLDS)))


def run_json(wildcards):
    """Return all that a training depends on, but for the files of its cases."""
    row, parts = STUDY.rows[wildcards.row], FOLDS[int(wildcards.fold)]
    return canonical(
        {
            "index": INDEX,
            "targets": targets_of(row),
            "loss": row.loss,
            "labels": STUDY.config.labels,
            "cases": parts.train,
            "validation": parts.validation,
            "sheet": STUDY.config.cases,
            "channels": STUDY.config.channels,
            "seed": int(wildcards.seed),
            "steps": int(wildcards.steps),
            "training": STUDY.training.model_dump(mode="json", exclude={"steps"}) | {"steps": [int(wildcards.steps)]},
            "nnunet": NNUNET and NNUNET.to_json(),
        }
    )


def raw_files(wildcards):
    """Return the files of all cases, which nnU-Net preprocesses."""
    # Snakemake would take {name} in a path for a wildcard. Such files are watched by `raw_states` alone.
    return [path for path in paths_of_cases() if not set("{}") & set(path)]


def raw_states(wildcards):
    """Return size and time of last change of the files of all cases."""
    return file_states_of(paths_of_cases())


def paths_of_cases():
    """Return the paths of all files that targets are computed from."""
    return [path for one in STUDY_CASES.values() for _, path in one.case.files()]


def arrays(wildcards):
    """Return nnU-Net's arrays of all cases."""
    return [path for case in read_sheet(SOFTLABELS.cases, SOFTLABELS.channels) for _, path in case.files()]


def nnunet_json(wildcards):
    """Return what nnU-Net preprocesses, and where."""
    return NNUNET.to_json()


def recipe(wildcards):
    """Return how a row's targets are made: a change of it, and of nothing else in the index, trains again."""
    names = [name for name in targets_of(STUDY.rows[wildcards.row]) if name in SOFTLABELS.targets]
    targets = {name: SOFTLABELS.targets[name].model_dump(mode="json") for name in names}
    return canonical([TRAINING_VERSION, targets, [PLAN_OF_TARGETS.targets[name] for name in names]])


def trained_files(wildcards):
    """Return size and time of last change of every file that a row is trained on."""
    files = paths_of_cases()
    if REFERENCE in targets_of(STUDY.rows[wildcards.row]):
        files += [path for one in STUDY_CASES.values() for path in one.case.reference]
    return file_states_of(files)


def judging_files(wildcards):
    """Return size and time of last change of every file that only scores read."""
    cases = STUDY_CASES.values()
    return file_states_of([path for one in cases for path in (*one.case.reference, one.fine_labels) if path])


def file_states_of(files):
    """Return size and time of last change of files; None of one that is missing."""
    return [state_of(path) for path in files]


@cache
def state_of(path):
    """Return the state of a file, or None; all trainings read the same files, and a network has many."""
    try:
        return list(file_state(path))
    except OSError:
        return None


def rows_after(wildcards):
    """Return the rows that change the probabilities of a row, as JSON."""
    return canonical({name: row.model_dump(mode="json") for name, row in STUDY.after(wildcards.row).items()})


def test_cases(wildcards):
    """Return the cases that a fold's networks are scored on."""
    return list(FOLDS[int(wildcards.fold)].test)


def study_json(wildcards):
    """Return the whole study."""
    return canonical(STUDY.model_dump(mode="json"))


def preprocessing_minutes(wildcards, attempt):
    """Return the time limit of nnU-Net's preprocessing: two minutes a case, in one process."""
    return attempt * (30 + 2 * len(STUDY_CASES))


def training_minutes(wildcards, attempt):
    """Return the time limit of a training: generous for a GPU at half a second a step; raise it in your profile."""
    steps = int(wildcards.steps) * (STUDY.training.nnunet.iterations if STUDY.training.nnunet else 1)
    return attempt * (30 + steps // 120)


def scoring_minutes(wildcards, attempt):
    """Return the time limit of the scores of a row and fold."""
    return attempt * (30 + len(test_cases(wildcards)) * len(STUDY.seeds) * len(STUDY.training.steps))
