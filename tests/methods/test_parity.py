"""What the authors run, on their own engines and a real glioma: our official forms give the same maps.

Each expectation restates the published steps with the engine called directly; nothing of it is shared with our code.
"""

import importlib.util
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import ROOT
from skimage.feature import canny
from skimage.morphology import skeletonize

from softlabels.blend import blend
from softlabels.geodesic.engines import solve_with_engine
from softlabels.methods import METHODS, TargetInputs
from softlabels.seeds import make_seeds

GEODISTK = Path(os.environ.get("SOFTLABELS_GEODISTK_PYTHON") or ROOT / ".venv-geodistk" / "bin" / "python")
needs_geodistk = pytest.mark.skipif(not GEODISTK.is_file(), reason=f"no interpreter with GeodisTK at {GEODISTK}")
needs_fastgeodis = pytest.mark.skipif(importlib.util.find_spec("FastGeodis") is None, reason="no FastGeodis")

GEOLS_SCRIPT = """
import numpy as np, GeodisTK
images, seeds = np.load("images.npy"), np.load("seeds.npy")
found = []
for image in images:
    maps = np.zeros(seeds.shape, np.float32)
    for c in range(1, len(seeds)):
        if seeds[c].sum() == 0:
            continue
        d = GeodisTK.geodesic3d_raster_scan(image, seeds[c], [1.0, 1.0, 1.0], 1.0, 4)
        g = np.exp(-1 / d.mean() * d)
        g -= g.min()
        g /= g.max()
        maps[c] = g
    kept = [m for m in maps[1:] if m.sum() != 0]
    maps[0] = 1 - sum(kept) / len(kept)
    found.append(maps)
np.save("found.npy", np.stack(found))
"""


@pytest.fixture(scope="module")
def glioma(shared_data):
    """Return 16 slices of a real tumour: 4 raw channels and the labels 0, 1, 2, 3 (BraTS' 4 made 3)."""
    folder = shared_data / "glioma_du7294"

    def read(name):
        """Return one file's voxels."""
        return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz")))

    labels = read("label_hnfnetv1-20")
    labels = np.where(labels == 4, 3, labels)
    inside = np.argwhere(labels > 0)
    box = tuple(slice(low - 3, high + 4) for low, high in zip(inside.min(0), inside.max(0), strict=True))
    middle = (box[0].start + box[0].stop) // 2
    box = (slice(middle - 8, middle + 8), *box[1:])
    images = np.stack([read(name)[box].astype(np.float32) for name in ("fla", "t1c", "t1", "t2")])
    return images, labels[box]


@needs_geodistk
def test_geols_official_is_the_authors_script_on_geodistk_per_channel_and_averaged(glioma, tmp_path):
    images, labels = glioma
    masks = np.stack([labels == c for c in range(4)])
    skeletons = np.stack([np.zeros_like(masks[0]), *(skeletonize(mask) for mask in masks[1:])])
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "seeds.npy", (skeletons > 0).astype(np.uint8))
    subprocess.run([GEODISTK, "-c", GEOLS_SCRIPT], cwd=tmp_path, check=True)
    theirs = np.load(tmp_path / "found.npy")

    names = ("bg", "core", "oedema", "enhancing")
    seeds, _ = make_seeds(
        masks,
        (1, 1, 1),
        METHODS["geols"](variant="official").seed_strategy,
        class_names=names,
        case_id="du7294",
        background=0,
    )
    np.testing.assert_array_equal(seeds, skeletons > 0)
    options = {"engine": "geodistk", "metric": "harmonic", "lamb": 1.0, "iterations": 4}
    distance = np.stack([solve_with_engine(image, seeds, (1, 1, 1), **options)[0] for image in images])

    def official(part):
        """Return our map of some channels."""
        return (
            METHODS["geols"](variant="official").compute(TargetInputs(masks, (1, 1, 1), names, 0, distance=part)).values
        )

    for index in range(4):
        np.testing.assert_allclose(official(distance[index : index + 1]), theirs[index], atol=1e-6)
    np.testing.assert_allclose(official(distance), theirs.sum(axis=0) / 4, atol=1e-6)


@pytest.fixture
def one_torch_thread():
    """Keep FastGeodis on one thread: on cores that others use, too, two spin and are slower."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def on_fastgeodis(image, seeds, lamb):
    """Return FastGeodis' map of one channel at 4 iterations."""
    import torch
    from FastGeodis import generalised_geodesic3d

    hard = torch.from_numpy(1 - seeds.astype(np.float32))[None, None]
    return generalised_geodesic3d(torch.from_numpy(image)[None, None], hard, [1.0] * 3, 1e10, lamb, 4).numpy()[0, 0]


def on_geodistk(image, seeds, lamb):
    """Return GeodisTK's map of one channel at 4 iterations, far from exact at lamb 0, too."""
    return solve_with_engine(image, seeds, (1, 1, 1), engine="geodistk", metric="harmonic", lamb=lamb, iterations=4)[0]


def authors_sing(image, masks, distance, lamb=0.5):
    """Return the two published scripts for one channel: maps, then clamp, division and margin, in their dtypes."""
    import torch

    found = np.zeros(masks.shape, np.float64)
    for mask, out in zip(masks, found, strict=True):
        seeds = np.stack([canny(~section) for section in mask])
        signed, spatial = distance(image, seeds, lamb).copy(), distance(image, seeds, 0.0)
        near = spatial <= spatial[mask].max()
        farthest = signed[near & ~mask].max()
        signed[~near] = farthest
        signed[~mask] = -signed[~mask]
        signed[image == 0] = -farthest
        layer = torch.from_numpy(signed.astype(np.float64))
        inside = torch.from_numpy(mask)
        layer[inside] = torch.clamp_min(layer[inside], 0.0)
        layer[~inside] = torch.clamp_max(layer[~inside], 0.0)
        largest = layer[inside].max()
        layer[~inside] = torch.clamp_min(layer[~inside], -largest)
        layer /= largest + 1e-8
        layer[inside] = layer[inside] * 0.5 + 0.5
        layer[~inside] = layer[~inside] * 0.5 - 0.5
        out[...] = torch.clamp(layer, -1.0, 1.0).numpy()
    return found


@needs_fastgeodis
def test_sing_official_is_the_authors_code_on_fastgeodis_per_channel_and_averaged(glioma, one_torch_thread):
    images, labels = glioma
    # Their order of regions: tumour core, whole tumour, enhancing tumour.
    masks = np.stack([np.isin(labels, values) for values in ([1, 3], [1, 2, 3], [3])])
    names, strategy = ("TC", "WT", "ET"), METHODS["sing"](variant="official").seed_strategy
    seeds, _ = make_seeds(masks, (1, 1, 1), strategy, class_names=names, case_id="du7294")
    distance = np.stack(
        [
            solve_with_engine(
                image, seeds, (1, 1, 1), engine="fastgeodis", metric="sum", lamb=0.5, iterations=4, n_threads=1
            )[0]
            for image in images
        ]
    )
    theirs = np.stack([authors_sing(image, masks, on_fastgeodis) for image in images])

    def official(part):
        """Return our map of some channels after the margin that the loader adds."""
        inputs = TargetInputs(masks, (1, 1, 1), names, None, images[part], None, seeds, distance[part])
        stored = METHODS["sing"](variant="official").compute(inputs).values
        return blend(masks, stored, rule="signed_margin", delta=0.5, is_overlapping=True)

    for index in range(4):
        np.testing.assert_allclose(official(slice(index, index + 1)), theirs[index], atol=2e-6)
    np.testing.assert_allclose(official(slice(None)), theirs.mean(axis=0), atol=2e-6)


@needs_geodistk
def test_sing_official_is_the_authors_code_on_geodistk_whose_band_has_not_converged(glioma):
    pytest.importorskip("torch")
    images, labels = glioma
    image, masks = images[0], np.stack([np.isin(labels, values) for values in ([1, 3], [1, 2, 3])])
    method = METHODS["sing"](variant="official", distance={"metric": "harmonic"}).with_engine("geodistk")
    seeds, _ = make_seeds(masks, (1, 1, 1), method.seed_strategy, class_names=("TC", "WT"), case_id="du7294")
    distance = on_geodistk(image, seeds, 0.5)
    inputs = TargetInputs(masks, (1, 1, 1), ("TC", "WT"), image=image[None], seeds=seeds, distance=distance[None])
    theirs = authors_sing(image, masks, on_geodistk)
    found = METHODS["sing"].from_node_parameters(method.node_parameters()).compute(inputs).values
    target = blend(masks, found, rule="signed_margin", delta=0.5, is_overlapping=True)
    np.testing.assert_allclose(target, theirs, atol=2e-6)
