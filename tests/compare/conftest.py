"""A small computed cohort as the data of a study, with references and a sheet."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from comparison.training import Run
from helpers.made_cohort import CLASSES, TARGETS, make_cohort

from softlabels.cohort.case import IndexedCohort
from softlabels.cohort.case_table import CaseTable
from softlabels.cohort.index import Index
from softlabels.view.export import write_nifti

LABELS = {"background": 0, "organ": 1, "tumour": [2, 4], "ignore": 9}
SHAPES = {"a": (12, 14, 13), "b": (9, 16, 18), "c": (10, 15, 16), "d": (8, 17, 12)}
TRAINING = {
    "steps": [4],
    "patch_size": [4, 8, 8],
    "batch_size": 2,
    "flip_axes": [2],
    "network": {"width": 2, "levels": 3},
    "overlap": [0, 0, 0],
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield torch.set_num_threads(1)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Give index and sheet of a cohort with a signed map of each class, and classes in another order.

    All cases have a reference; two are of one person.
    """
    folder = tmp_path_factory.mktemp("study")
    index = make_cohort(folder, SHAPES)
    made = Index.read(index)
    signed = replace(TARGETS["sing"], classes=CLASSES[1:], is_overlapping=False)
    turned = replace(TARGETS["svls"], classes=(CLASSES[2], CLASSES[0], CLASSES[1]))
    cases = CaseTable.of(
        replace(case, targets={**case.targets, "signed": case.targets["sing"], "turned": case.targets["svls"]})
        for case in made.cases
    )
    index.unlink()
    replace(made, targets={**made.targets, "signed": signed, "turned": turned}, cases=cases).write(index)
    opened = IndexedCohort.open(index)
    rows = ["case\timage:T1\timage:T2\tlabel\treference\tmeta:person"]
    for number, case in enumerate(opened.index.cases):
        prepared = opened.case(case)
        shares = np.random.default_rng(number).dirichlet([1, 1, 1], prepared.shape).transpose(3, 0, 1, 2)
        write_nifti(shares.astype(np.float32), prepared.grid, folder / f"{case.id}_shares.nii.gz")
        person = "ab" if case.id in "ab" else case.id
        rows.append(f"{case.id}\tt1.nii\tt2.nii\tlabel.nii\t{case.id}_shares.nii.gz\t{person}")
    sheet = folder / "cases.tsv"
    sheet.write_text("\n".join(rows) + "\n")
    return index, sheet


@pytest.fixture
def run(cohort):
    """Give a function that makes a run of a target."""
    index, sheet = cohort

    def made(target="onehot", seed=0, loss=None, steps=4, **training):
        return Run(
            index=str(index),
            targets=[target],
            loss=loss,
            labels=LABELS,
            cases=["a", "c"],
            validation=["b"],
            sheet=str(sheet),
            channels=["T1", "T2"],
            seed=seed,
            steps=steps,
            training=TRAINING | training,
        )

    return made
