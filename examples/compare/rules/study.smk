# The study and the functions that find what a rule reads; no rules here.
import os
import re
import sys
import tempfile
from functools import cache
from hashlib import sha256
from itertools import product
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


def digest_of(content):
    """Return what names a file by all that it is made of."""
    return sha256(canonical(content).encode()).hexdigest()[:12]


def paths_of_cases():
    """Return the paths of all files that targets are computed from."""
    return [path for one in STUDY_CASES.values() for _, path in one.case.files()]


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


@cache
def trained_files(with_references):
    """Return a digest of the states of every file that a row is trained on."""
    references = [path for one in STUDY_CASES.values() for path in one.case.reference]
    return digest_of(file_states_of(paths_of_cases() + references * with_references))


@cache
def judging_files():
    """Return a digest of the states of every file that only scores read."""
    cases = STUDY_CASES.values()
    return digest_of(file_states_of([path for one in cases for path in (*one.case.reference, one.fine_labels) if path]))


def recipe(row):
    """Return how a row's targets are made."""
    names = [name for name in targets_of(STUDY.rows[row]) if name in SOFTLABELS.targets]
    targets = {name: SOFTLABELS.targets[name].model_dump(mode="json") for name in names}
    return [targets, [PLAN_OF_TARGETS.targets[name] for name in names]]


def run_of(row, seed, fold, steps):
    """Return all that a training is given."""
    parts = FOLDS[fold]
    return {
        "index": INDEX,
        "targets": targets_of(STUDY.rows[row]),
        "loss": STUDY.rows[row].loss,
        "labels": STUDY.config.labels,
        "cases": parts.train,
        "validation": parts.validation,
        "sheet": STUDY.config.cases,
        "channels": STUDY.config.channels,
        "seed": seed,
        "steps": steps,
        "training": STUDY.training.model_dump(mode="json", exclude={"steps"}) | {"steps": [steps]},
        "nnunet": NNUNET and NNUNET.to_json(),
    }


@cache
def network_of(row, seed, fold, steps):
    """Return the name of a network."""
    run, files = run_of(row, seed, fold, steps), trained_files(REFERENCE in targets_of(STUDY.rows[row]))
    # What changes only how a network is trained, and not the network.
    run["training"] = {key: value for key, value in run["training"].items() if key not in ("workers", "save_every_s")}
    return f"{row}/seed{seed}_fold{fold}_steps{steps}.{digest_of([TRAINING_VERSION, run, recipe(row), files])}"


def networks_of(row, fold):
    """Return the names of the networks of a row and fold: of every seed and length."""
    return [network_of(row, seed, fold, steps) for seed, steps in product(STUDY.seeds, STUDY.training.steps)]


def rows_after(row):
    """Return the rows that change the probabilities of a row, as plain values."""
    return {name: one.model_dump(mode="json", exclude={"title"}) for name, one in STUDY.after(row).items()}


def score_of(row, fold):
    """Return the name of the scores of a row and fold."""
    made_of = [SCORES_VERSION, networks_of(row, fold), rows_after(row), FOLDS[fold].test, judging_files()]
    return f"{row}_fold{fold}.{digest_of(made_of)}"


# Networks and scores are named by all that they are made of. One that exists is therefore right, and no rule makes it: the
# index, which is written again for every new target, would make it again. (As an ancient input of the rule, it would keep
# Snakemake from training what is missing, too, whenever the index itself has to be written.)
FOLD_NUMBERS = range(len(FOLDS))
TRAININGS = {
    network_of(*training): training
    for training in product(STUDY.trained, STUDY.seeds, FOLD_NUMBERS, STUDY.training.steps)
}
SCORES = {score_of(*judged): judged for judged in product(STUDY.trained, FOLD_NUMBERS)}
NETWORK_FILE, SCORE_FILE = f"{STUDY.results}/networks/{{network}}.pt", f"{STUDY.results}/scores/{{score}}.tsv"


def missing(pattern, names):
    """Return a regular expression for the names of files that do not exist; one for no name at all if all exist."""
    lacking = [name for name in names if not Path(pattern.format(network=name, score=name)).exists()]
    return "|".join(map(re.escape, lacking)) or "(?!)"


wildcard_constraints:
    network=missing(NETWORK_FILE, TRAININGS),
    score=missing(SCORE_FILE, SCORES),


def networks(wildcards):
    """Return the networks of a row and fold."""
    return expand(NETWORK_FILE, network=networks_of(*SCORES[wildcards.score]))


def run_json(wildcards):
    """Return all that a training is given, as JSON."""
    return canonical(run_of(*TRAININGS[wildcards.network]))


def raw_files(wildcards):
    """Return the files of all cases, which nnU-Net preprocesses."""
    # Snakemake would take {name} in a path for a wildcard. Such files are watched by `raw_states` alone.
    return [path for path in paths_of_cases() if not set("{}") & set(path)]


def raw_states(wildcards):
    """Return size and time of last change of the files of all cases."""
    return file_states_of(paths_of_cases())


def arrays(wildcards):
    """Return nnU-Net's arrays of all cases."""
    return [path for case in read_sheet(SOFTLABELS.cases, SOFTLABELS.channels) for _, path in case.files()]


def nnunet_json(wildcards):
    """Return what nnU-Net preprocesses, and where."""
    return NNUNET.to_json()


def judged_row(wildcards):
    """Return the row of a file of scores."""
    return SCORES[wildcards.score][0]


def judged_fold(wildcards):
    """Return the fold of a file of scores."""
    return SCORES[wildcards.score][1]


def after_json(wildcards):
    """Return the rows that change the probabilities of a row, as JSON."""
    return canonical(rows_after(judged_row(wildcards)))


def test_cases(wildcards):
    """Return the cases that a fold's networks are scored on."""
    return list(FOLDS[judged_fold(wildcards)].test)


def study_json(wildcards):
    """Return the whole study."""
    return canonical(STUDY.model_dump(mode="json"))


def preprocessing_minutes(wildcards, attempt):
    """Return the time limit of nnU-Net's preprocessing: two minutes a case, in one process."""
    return attempt * (30 + 2 * len(STUDY_CASES))


def training_minutes(wildcards, attempt):
    """Return the time limit of a training: generous for a GPU at half a second a step; raise it in your profile."""
    _, _, _, steps = TRAININGS[wildcards.network]
    steps *= STUDY.training.nnunet.iterations if STUDY.training.nnunet else 1
    return attempt * (30 + steps // 120)


def scoring_minutes(wildcards, attempt):
    """Return the time limit of the scores of a row and fold."""
    return attempt * (30 + len(test_cases(wildcards)) * len(STUDY.seeds) * len(STUDY.training.steps))
