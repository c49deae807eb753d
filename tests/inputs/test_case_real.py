"""Reading real volumes: what nibabel reads, and what is refused or flagged."""

import nibabel as nib
import numpy as np
import pytest

from softlabels.errors import InputError
from softlabels.inputs.case import read_case, read_volume
from softlabels.inputs.sheet import Case


def _pairs(folder):
    """(case, channels, label values) of every real case."""
    d = {
        name: folder / name for name in ("glioma_du7294", "ct_organs_small", "spinal_cord", "spinal_cord_mt", "ms_p19")
    }
    glioma = tuple(str(d["glioma_du7294"] / f"{m}.nii.gz") for m in ("t1", "t1c", "t2", "fla"))
    yield Case("glioma", glioma, str(d["glioma_du7294"] / "label_hnfnetv1-20.nii.gz")), list("abcd"), (0, 1, 2, 4)
    ct = d["ct_organs_small"]
    yield Case("ct", (str(ct / "ct.nii.gz"),), str(ct / "label.nii.gz")), ["ct"], range(118)
    cord = d["spinal_cord"]
    for image, label, n in (
        ("t1w", "t1w_seg-manual", 2),
        ("t2", "t2_seg-manual", 2),
        ("t2s", "t2s_label_wm1_gm2", 3),
        ("t2s", "t2s_gmseg_manual", 2),
    ):
        yield Case(label, (str(cord / f"{image}.nii.gz"),), str(cord / f"{label}.nii.gz")), [image], range(n)
    mt = d["spinal_cord_mt"]
    yield (
        Case("mt", tuple(str(mt / f"{m}.nii.gz") for m in ("mt0", "mt1", "t1w")), str(mt / "PAM50_cord.nii.gz")),
        "abc",
        (0, 1),
    )
    ms = d["ms_p19"]
    channels = ("flair", "t1", "t1post", "t2")
    yield (
        Case("ms", tuple(str(ms / f"{m}.nii.gz") for m in channels), str(ms / "label_lesion.nii.gz")),
        channels,
        (0, 1),
    )
    for name in ("brain1_tumour", "breast1"):
        image = next(p for p in (folder / name / "t1_post.nii.gz", folder / name / "image.nii.gz") if p.exists())
        yield Case(name, (str(image),), str(folder / name / "label.nii.gz")), ["mr"], (0, 1)
    cells = folder / "cells_multi_annot" / "d1_B01"
    raters = tuple(map(str, sorted(cells.glob("annot_*.nii.gz"))))
    yield Case("cells", (str(cells / "image.nii.gz"),), str(cells / "label_person2.nii.gz"), raters), ["phase"], (0, 1)


def test_real_cases_are_read_as_nibabel_reads_them(shared_data):
    n_cases = 0
    for case, channels, label_values in _pairs(shared_data):
        volumes = read_case(case, channels, label_values)
        for channel, path in enumerate(case.images):
            image = nib.load(path)
            assert np.array_equal(volumes.image[channel], np.asanyarray(image.dataobj, np.float32).T)
            assert np.allclose(volumes.grid.to_nifti_affine(), image.affine, atol=1e-3)
        assert np.array_equal(volumes.labels, np.asanyarray(nib.load(case.label).dataobj).T)
        assert volumes.labels.dtype == np.uint8
        n_cases += 1
    assert n_cases == 11


def test_real_probability_map_is_refused_as_a_label(shared_data):
    with pytest.raises(InputError, match="are not integers"):
        read_volume(shared_data / "spinal_cord_mt" / "PAM50_gm.nii.gz", role="label")


def test_real_case_of_41_organs_flags_the_ids_that_do_not_occur(shared_data):
    folder = shared_data / "ct_organs_small"
    volumes = read_case(Case("ct", (str(folder / "ct.nii.gz"),), str(folder / "label.nii.gz")), ["ct"], range(118))
    assert len(volumes.flags) == 117 - 41 and volumes.labels.max() == 117
