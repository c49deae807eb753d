"""The whole chain on real volumes: odd grids, many organs, tiny lesions, overlapping regions, 2D, several raters."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from softlabels.cohort.stored_map import StoredMap
from softlabels.config import parse_config
from softlabels.inputs.sheet import Case
from softlabels.pipeline.index import build_index
from softlabels.pipeline.job import run_job
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.stages import Job
from softlabels.store import Store

REGIONS = {"background": 0, "whole_tumour": [1, 2, 4], "tumour_core": [1, 4], "enhancing": 4}
GEOLS, SING = {"method": "geols"}, {"method": "sing"}


def run_case(folder: Path, case: Case, raw: dict):
    """Run every node of one case; return the configuration, the plan, the store, receipts and entries by stage."""
    config = parse_config({"store": str(folder / "store"), "results": str(folder / "results")} | raw)
    plan, store = make_plan(config), Store(config.store)
    receipts = {
        node_id: run_job(Job(case, node, store, Path(config.results), threads=2))
        for node_id, node in plan.nodes.items()
    }
    index = build_index(config, plan, [case], Path(config.results))
    entries = {name: store.find(receipts[node].key) for name, node in plan.targets.items() if node}
    return plan, receipts, entries, store.find(receipts[plan.prepare].key), index


def certificates(plan, receipts):
    return [m["certified"] for n, r in receipts.items() if plan.nodes[n].stage == "distance" for m in r.quality["maps"]]


def test_glioma_four_channels_and_overlapping_regions(shared_data, tmp_path):
    folder = shared_data / "glioma_du7294"
    images = tuple(str(folder / f"{m}.nii.gz") for m in ("fla", "t1", "t1c", "t2"))
    case = Case("du7294", images, str(folder / "label_sanet0-20.nii.gz"))
    raw = {
        "channels": ["FLAIR", "T1", "T1ce", "T2"],
        "labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 4},
        "prepare": {"domain": "nonzero", "crop": "labels", "crop_margin_mm": 10, "normalise": "zscore"},
        "targets": {
            "geols": GEOLS,
            "vector": {"method": "geols", "distance": {"modalities": "vector"}},
            "sing": SING | {"labels": REGIONS},
        },
    }
    plan, receipts, targets, prepared, index = run_case(tmp_path, case, raw)
    assert all(certificates(plan, receipts)) and len(certificates(plan, receipts)) == 4 * 4 + 4 + 4 * 3
    labels = prepared.read("labels")
    sing = targets["sing"].read("target")
    for region, values in enumerate(([1, 2, 4], [1, 4], [4])):
        mask = np.isin(labels, values)
        assert (sing[region][mask] >= 0).all() and (sing[region][~mask] <= 0).all()
    assert not np.array_equal(targets["geols"].read("target"), targets["vector"].read("target"))
    assert index.targets["sing"].is_overlapping and not index.targets["geols"].is_overlapping


def test_ct_with_41_organs_one_of_a_single_voxel(shared_data, tmp_path):
    folder = shared_data / "ct_organs_small"
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "label.nii.gz")))
    values = [int(v) for v in np.unique(image) if v]
    raw = {
        "channels": ["CT"],
        "labels": {"background": 0} | {f"organ_{v}": v for v in values},
        "prepare": {"clip_percentiles": [0.5, 99.5], "normalise": "minmax"},
        "targets": {"geols": GEOLS | {"storage": "dense"}, "few": GEOLS},
    }
    case = Case("ct", (str(folder / "ct.nii.gz"),), str(folder / "label.nii.gz"))
    plan, receipts, targets, prepared, _ = run_case(tmp_path, case, raw)
    seeds = next(r for n, r in receipts.items() if plan.nodes[n].stage == "seeds").quality["classes"]
    assert len(seeds) == 42 and max(values) == 117 and min(s["n_voxels"] for s in seeds) == 1
    assert all(s["n_seeds"] >= 1 and s["n_components_without_seed"] == 0 for s in seeds)
    assert all(certificates(plan, receipts))
    dense, few = targets["geols"].read("target"), StoredMap(targets["few"])
    np.testing.assert_allclose(dense.sum(0), 1, atol=42 * 0.5 / 255)
    assert few.is_sparse and few.n_kept <= 6 and len(few.class_names) == 42
    figures = targets["few"].quality["sparse"]
    assert figures["dropped_max"] <= 0.01 and figures["error_max"] <= figures["error_bound"] < 0.0141
    np.testing.assert_allclose(few.dense(), dense, rtol=0, atol=0.5 / 255 + figures["error_bound"])
    np.testing.assert_allclose(few.dense().sum(0), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "label", "ratio"),
    [("t2s", "t2s_label_wm1_gm2", 15), ("t2", "t2_seg-manual", 1)],
    ids=["15:1 anisotropy", "PSR axes"],
)
def test_spinal_cord_grids(shared_data, tmp_path, image, label, ratio):
    folder = shared_data / "spinal_cord"
    labels = {"background": 0, "white": 1} | ({"grey": 2} if image == "t2s" else {})
    case = Case("cord", (str(folder / f"{image}.nii.gz"),), str(folder / f"{label}.nii.gz"))
    raw = {"channels": [image], "labels": labels, "targets": {"geols": GEOLS, "sing": SING}}
    plan, receipts, targets, prepared, _ = run_case(tmp_path, case, raw)
    source = sitk.ReadImage(str(folder / f"{image}.nii.gz"))
    np.testing.assert_allclose(prepared.grid.spacing, source.GetSpacing()[::-1])
    assert max(prepared.grid.spacing) / min(prepared.grid.spacing) == pytest.approx(ratio)
    corner = np.array(source.TransformIndexToPhysicalPoint((0, 0, 0))) * [-1, -1, 1]
    np.testing.assert_allclose(prepared.grid.position((0, 0, 0)), corner, atol=1e-4)
    assert all(certificates(plan, receipts))


def test_tiny_ms_lesions_all_get_seeds_and_negative_intensities_pass(shared_data, tmp_path):
    folder = shared_data / "ms_p19"
    images = tuple(str(folder / f"{m}.nii.gz") for m in ("flair", "t1"))
    raw = {
        "channels": ["FLAIR", "T1"],
        "labels": {"background": 0, "lesion": 1},
        "prepare": {"crop": "labels", "normalise": "zscore"},
        "targets": {"sing": SING},
    }
    case = Case("p19", images, str(folder / "label_lesion.nii.gz"))
    plan, receipts, targets, prepared, _ = run_case(tmp_path, case, raw)
    (lesion,) = next(r for n, r in receipts.items() if plan.nodes[n].stage == "seeds").quality["classes"]
    assert lesion["n_components"] > 50 and lesion["n_components_without_seed"] == 0
    assert all(certificates(plan, receipts))


def test_cells_in_2d_with_several_raters(shared_data, tmp_path):
    folder = shared_data / "cells_multi_annot" / "d3_m01"
    raters = sorted(str(path) for path in folder.glob("annot_*.nii.gz"))
    raw = {
        "channels": ["phase"],
        "labels": {"background": 0, "cell": 1},
        "prepare": {"normalise": "zscore"},
        "targets": {"geols": GEOLS, "sing": SING, "mean": {"method": "multi_rater"}, "svls": {"method": "svls"}},
    }
    case = Case("cell", (str(folder / "image.nii.gz"),), raters[0], tuple(raters[1:]))
    plan, receipts, targets, prepared, _ = run_case(tmp_path, case, raw)
    assert 1 in prepared.grid.shape
    stack = np.stack([sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in raters])
    np.testing.assert_allclose(targets["mean"].read("target")[1], stack.mean(0), atol=0.5 / 255 + 1e-6)
    assert all(certificates(plan, receipts))


def test_spinal_cord_mt_probabilities_are_refused_as_labels(shared_data, tmp_path):
    folder = shared_data / "spinal_cord_mt"
    raw = {"channels": ["T1"], "labels": {"background": 0, "cord": 1}, "targets": {"geols": GEOLS}}
    good = Case("cord", (str(folder / "t1w.nii.gz"),), str(folder / "PAM50_cord.nii.gz"))
    plan, receipts, *_ = run_case(tmp_path, good, raw)
    assert all(certificates(plan, receipts))
    fractional = Case("gm", (str(folder / "t1w.nii.gz"),), str(folder / "PAM50_gm.nii.gz"))
    with pytest.raises(ValueError, match="gm.*integer"):
        run_case(tmp_path, fractional, raw)


def test_receipts_are_plain_json(shared_data, tmp_path):
    folder = shared_data / "breast1"
    case = Case("breast", (str(folder / "image.nii.gz"),), str(folder / "label.nii.gz"))
    raw = {"channels": ["MR"], "labels": {"background": 0, "mass": 1}, "targets": {"geols": GEOLS}}
    run_case(tmp_path, case, raw)
    for path in (tmp_path / "results").glob("breast/*.json"):
        assert json.loads(path.read_text())["case"] == "breast"
