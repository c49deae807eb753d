"""Laws of the loader: a patch is the slice, whoever reads it and in whatever order."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.made_cohort import IGNORE, SHAPES, TARGETS, make_cohort, volumes
from helpers.samples import VOLUMES, same
from torch.utils.data import DataLoader

from softlabels.blend import blend
from softlabels.errors import InputError
from softlabels.training.augmentation import RandomFlip
from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.stitching import stitch_cases

#: Samples are asked for again on purpose, to compare them.
pytestmark = pytest.mark.filterwarnings("ignore::softlabels.training.sampler.RepeatedPatchWarning")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"))


def expected_soft_label(case_id, target):
    """Return the soft label of a whole case, from what was stored as uint8."""
    _, labels, probabilities, signed = volumes(case_id, SHAPES[case_id])
    described = TARGETS[target]
    stored = {"geols": probabilities, "svls": probabilities, "sing": signed}.get(target)
    masks = np.stack([np.isin(labels, c.values) for c in described.classes])
    return blend(masks, stored, is_overlapping=described.is_overlapping, **described.blend.to_json())


def around(volume, fill, margin=30):
    """Return the volume within `margin` voxels of what lies outside it."""
    width = [(0, 0)] * (volume.ndim - 3) + [(margin, margin)] * 3
    if np.ndim(fill) == 0:
        return np.pad(volume, width, constant_values=fill)
    return np.stack([np.pad(channel, width[1:], constant_values=v) for channel, v in zip(volume, fill, strict=True)])


def cut(padded, origin, size, margin=30):
    region = tuple(slice(int(o) + margin, int(o) + margin + n) for o, n in zip(origin, size, strict=True))
    return padded[(..., *region)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", ["random", "grid"])
def test_a_patch_is_the_slice_of_the_padded_volume(index, target, mode):
    size = (6, 16, 16)
    dataset = SoftLabelDataset(index, target=target, mode=mode, patch_size=size, patches_per_case=3, image_pad=-5.0)
    expected = {}
    for case_id, shape in SHAPES.items():
        image, labels, *_ = volumes(case_id, shape)
        expected[case_id] = {
            "image": around(image, -5.0),
            "labels": around(labels, 0),
            "valid": around(labels != IGNORE, False),
            "soft_label": around(expected_soft_label(case_id, target), TARGETS[target].pad_value),
        }
    for sample in dataset:
        for name, volume in expected[sample["case_id"]].items():
            # half a step of uint8 over [-1, 1], the widest range in use
            atol = 0.5 * 2 / 255 + 1e-6 if name == "soft_label" else 0
            part = cut(volume, sample["origin"].tolist(), size)
            np.testing.assert_allclose(sample[name], part, rtol=0, atol=atol)


def test_the_types_are_those_that_training_wants(index):
    sample = SoftLabelDataset(index, target="geols", patch_size=(4, 8, 8), dtype=torch.float16)[0]
    assert [sample[name].dtype for name in VOLUMES] == [torch.float16, torch.int64, torch.float16, torch.bool]
    assert [tuple(sample[name].shape) for name in VOLUMES] == [(2, 4, 8, 8), (4, 8, 8), (3, 4, 8, 8), (4, 8, 8)]
    assert (sample["spacing"].dtype, sample["affine"].dtype) == (torch.float64, torch.float64)


def test_whole_mode_gives_each_case_once_at_its_own_size(index):
    dataset = SoftLabelDataset(index, target="svls", mode="whole")
    assert [sample["case_id"] for sample in dataset] == list(SHAPES)
    assert [tuple(sample["labels"].shape) for sample in dataset] == list(SHAPES.values())


def test_two_sizes_give_2d_samples(index):
    dataset = SoftLabelDataset(index, target="geols", mode="grid", patch_size=(16, 16))
    sample = dataset[0]
    assert [tuple(sample[name].shape) for name in VOLUMES] == [(2, 16, 16), (16, 16), (3, 16, 16), (16, 16)]
    image, _, _, _ = volumes("thin", SHAPES["thin"])
    np.testing.assert_array_equal(sample["image"], image[:, 0, :16, :16])
    per_case = [-(-h // 16) * -(-w // 16) * d for d, h, w in SHAPES.values()]
    assert len(dataset) == sum(per_case)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_fork_gives_the_same_samples_for_any_number_of_workers(index, workers):
    dataset = SoftLabelDataset(
        index, target="sing", patch_size=(5, 12, 12), patches_per_case=3, seed=7, transform=RandomFlip()
    )
    alone = [dataset[i] for i in range(len(dataset))]
    context = "fork" if workers else None
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context)
    assert all(same(a, b) for a, b in zip(alone, loader, strict=True))


@pytest.mark.parametrize("workers", [2])
def test_spawn_gives_the_same_samples_and_follows_the_epoch(index, workers):
    def fresh():
        return SoftLabelDataset(
            index, target="geols", patch_size=(5, 12, 12), patches_per_case=2, transform=RandomFlip()
        )

    dataset, alone = fresh(), fresh()
    loader = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context="spawn", persistent_workers=True
    )
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        alone.set_epoch(epoch)
        assert all(same(a, b) for a, b in zip(alone, loader, strict=True))


def test_batches_collate(index):
    dataset = SoftLabelDataset(index, target="geols", patch_size=(4, 8, 8))
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["soft_label"].shape == (4, 3, 4, 8, 8)
    assert batch["case_id"] == list(SHAPES)
    assert batch["origin"].shape == (4, 3)


def test_a_sample_depends_on_seed_and_epoch_and_not_on_what_was_read_before(index):
    def origins(seed, epoch, order):
        dataset = SoftLabelDataset(index, target="onehot", patch_size=(3, 4, 4), patches_per_case=8, seed=seed)
        dataset.set_epoch(epoch)
        return {i: tuple(dataset[i]["origin"].tolist()) for i in order(range(len(dataset)))}

    assert origins(0, 0, list) == origins(0, 0, reversed)
    assert origins(0, 0, list) != origins(1, 0, list)
    assert origins(0, 0, list) != origins(0, 1, list)


def test_a_forced_foreground_patch_is_centred_on_foreground(index):
    options = {"patch_size": (1, 1, 1), "patches_per_case": 20, "foreground_fraction": 1.0}
    dataset = SoftLabelDataset(index, target="geols", **options)
    found = {case_id: [] for case_id in SHAPES}
    for sample in dataset:
        found[sample["case_id"]].append(int(sample["labels"]))
    assert set(found.pop("empty")) == {0}
    assert all(set(values) == {1, 2} or set(values) == {1, 2, 4} for values in found.values())
    only = SoftLabelDataset(index, target="geols", foreground_classes=["organ"], **options)
    assert {int(s["labels"]) for s in only if s["case_id"] != "empty"} == {1}


def test_stitching_the_grid_gives_each_case_back(index):
    dataset = SoftLabelDataset(index, target="geols", mode="grid", patch_size=(5, 16, 16), overlap=2)
    loader = DataLoader(dataset, batch_size=3)
    patches = (
        (c, o, p) for batch in loader for c, o, p in zip(batch["case_id"], batch["origin"], batch["image"], strict=True)
    )
    stitched = dict(stitch_cases(dataset, patches))
    for case_id, shape in SHAPES.items():
        np.testing.assert_allclose(stitched[case_id], volumes(case_id, shape)[0], atol=1e-6)


def test_load_time_parameters_override_those_of_the_index(index):
    case = SoftLabelDataset(index, target="geols", mode="whole", alpha=0.0)[0]
    onehot = SoftLabelDataset(index, target="onehot", mode="whole")[0]
    assert torch.equal(case["soft_label"], onehot["soft_label"])
    with pytest.raises(InputError, match="got delta, expected only alpha"):
        SoftLabelDataset(index, target="geols", mode="whole", delta=0.5)


def test_split_chooses_cases(index):
    assert SoftLabelDataset(index, target="geols", mode="whole", split="val").case_ids == ["small", "empty"]
    with pytest.raises(InputError, match="'test', expected one of train, val"):
        SoftLabelDataset(index, target="geols", mode="whole", split="test")


def test_ids_choose_cases_in_the_order_of_the_index(index):
    dataset = SoftLabelDataset(index, target="geols", mode="whole", cases=["empty", "thin"])
    assert dataset.case_ids == [case for case in SHAPES if case in ("empty", "thin")]
    with pytest.raises(InputError, match="cases: got 2 ids that it lacks: nope, other; expected ids of the 4 cases"):
        SoftLabelDataset(index, target="geols", mode="whole", cases=["other", "thin", "nope"])
    with pytest.raises(InputError, match="cases: got no id"):
        SoftLabelDataset(index, target="geols", mode="whole", cases=[])
    with pytest.raises(InputError, match="cases, split: got both"):
        SoftLabelDataset(index, target="geols", mode="whole", cases=["thin"], split="val")


@pytest.mark.parametrize("patch_size", [(5, 16, 16), (16, 16)])
def test_further_targets_are_those_of_data_sets_of_their_own(index, patch_size):
    options = {"patch_size": patch_size, "patches_per_case": 3, "seed": 5}
    others = ["sing", "onehot", "svls"]
    together = SoftLabelDataset(index, target="geols", further_targets=others, **options)
    alone = {name: SoftLabelDataset(index, target=name, **options) for name in ["geols", *others]}
    for i in range(len(together)):
        sample, expected = together[i], alone["geols"][i]
        for name in others:
            # The foreground of a patch is that of the main target: compare where the draws agree.
            other = alone[name][i]
            if torch.equal(other["origin"], sample["origin"]):
                assert torch.equal(sample[f"soft_label_{name}"], other["soft_label"])
        assert same({k: v for k, v in sample.items() if not k.startswith("soft_label_")}, expected)
    assert sum(torch.equal(alone["onehot"][i]["origin"], together[i]["origin"]) for i in range(len(together))) > 6


def test_image_and_labels_are_read_once_for_all_targets(index, monkeypatch):
    from softlabels.store.read import Entry

    read = []
    original = Entry.read
    monkeypatch.setattr(Entry, "read", lambda self, name, *a, **kw: read.append(name) or original(self, name, *a, **kw))
    options = {"patch_size": (3, 6, 6), "foreground_fraction": 0.0}
    SoftLabelDataset(index, target="geols", further_targets=["sing", "onehot", "svls"], **options)[2]
    assert sorted(read) == ["image", "labels", "target", "target", "target"]


def test_further_targets_must_be_others(index):
    for wrong in (["geols"], ["sing", "sing"]):
        with pytest.raises(InputError, match="further_targets: got .* expected others than 'geols', once"):
            SoftLabelDataset(index, target="geols", mode="whole", further_targets=wrong)
    with pytest.raises(InputError, match="expected one of 'geols'"):
        SoftLabelDataset(index, target="geols", mode="whole", further_targets=["nope"])


def test_every_target_has_a_say_in_the_transform(index):
    options = {"mode": "whole", "transform": RandomFlip()}
    SoftLabelDataset(index, target="geols", further_targets=["sing"], **options)
    with pytest.raises(InputError, match="flip, which would make target 'svls' wrong"):
        SoftLabelDataset(index, target="geols", further_targets=["svls"], **options)


@pytest.mark.parametrize("patch_size", [(9, 16, 12), (16, 12)])
@pytest.mark.parametrize("transform", [None, RandomFlip()])
def test_the_affine_says_where_each_voxel_of_the_patch_is(tmp_path, patch_size, transform):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    spacing = (3.0, 1.0, 0.5)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * spacing, (5.0, -7.0, 11.0)
    shapes = {"large": SHAPES["large"], "small": SHAPES["small"]}
    index = make_cohort(tmp_path, shapes, spacing, affine)
    dataset = SoftLabelDataset(
        index, target="geols", patch_size=patch_size, patches_per_case=4, image_pad=np.nan, transform=transform
    )
    n_found = 0
    for sample in dataset:
        assert sample["spacing"].tolist() == list(spacing)
        image = sample["image"][0].numpy()
        image = image[None] if image.ndim == 2 else image
        for patch_voxel in np.argwhere(np.isfinite(image))[:: max(image.size // 7, 1)]:
            whole = volumes(sample["case_id"], shapes[sample["case_id"]])[0][0]
            (voxel,) = np.argwhere(whole == image[tuple(patch_voxel)])
            found = sample["affine"].numpy() @ [*patch_voxel, 1.0]
            np.testing.assert_allclose(found, affine @ [*voxel, 1.0], atol=1e-9)
            n_found += 1
    assert n_found > 20


def test_flipping_mirrors_all_volumes_alike_and_leaves_its_input_alone(index):
    plain = SoftLabelDataset(index, target="sing", mode="whole")
    flipped = SoftLabelDataset(index, target="sing", mode="whole", transform=RandomFlip(axes=(0, 2)), seed=3)
    seen = set()
    for epoch in range(8):
        flipped.set_epoch(epoch)
        before, after = plain[2], flipped[2]
        dims = next(
            d for d in ([], [-3], [-1], [-3, -1]) if torch.equal(torch.flip(before["image"], d), after["image"])
        )
        assert all(torch.equal(torch.flip(before[name], dims), after[name]) for name in VOLUMES)
        seen.add(tuple(dims))
    assert len(seen) > 2


def test_a_transform_that_the_target_forbids_is_refused(index):
    with pytest.raises(InputError, match="flip, which would make target 'svls' wrong"):
        SoftLabelDataset(index, target="svls", mode="whole", transform=RandomFlip())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "nope"}, "'nope', expected one of 'geols', 'onehot'"),
        ({"mode": "rand"}, "mode: got 'rand'"),
        ({"patch_size": None}, "patch_size: got None"),
        ({"patch_size": (4, 0, 4)}, "patch_size"),
        ({"mode": "whole"}, "patch_size: got .* mode 'whole'"),
        ({"foreground_fraction": 1.5}, "foreground_fraction: got 1.5"),
        ({"foreground_classes": ["liver"]}, "'liver', expected one of 'background', 'organ'"),
        ({"patches_per_case": 0}, "patches_per_case: got 0"),
        ({"mode": "grid", "overlap": 4}, "overlap"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_wrong_arguments_are_refused_at_once(index, options, message):
    with pytest.raises(InputError, match=message):
        SoftLabelDataset(index, **{"target": "geols", "patch_size": (4, 4, 4)} | options)


def test_an_index_out_of_range_is_an_index_error(index):
    dataset = SoftLabelDataset(index, target="geols", mode="whole")
    assert dataset[np.int64(-1)]["case_id"] == "empty"
    with pytest.raises(IndexError):
        dataset[4]


def test_a_pickled_dataset_gives_the_same_samples(index):
    dataset = SoftLabelDataset(index, target="geols", patch_size=(4, 8, 8))
    first = dataset[0]
    assert same(pickle.loads(pickle.dumps(dataset))[0], first)


def test_the_loader_imports_numpy_zarr_and_torch_only():
    script = (
        "import sys, softlabels.training.dataset; "
        "print([m for m in ('scipy', 'skimage', 'SimpleITK', 'numba', 'snakemake', 'pydantic', 'typer', 'dask', "
        "'matplotlib', 'nibabel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_code_of_the_loader_page_runs(index, monkeypatch):
    page = (ROOT / "docs" / "loader.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(index.parents[1])
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 4
    assert names["soft_label"].shape[1:] == (3, 16, 32, 32)


def test_weights_of_classes_choose_what_patches_are_centred_on(index):
    options = {"target": "geols", "cases": ["large"], "patch_size": (1, 1, 1), "foreground_fraction": 1.0}
    only = SoftLabelDataset(index, patches_per_case=40, foreground_classes={"organ": 0, "tumour": 2.5}, **options)
    assert {int(sample["labels"].item()) for sample in only} <= {2, 4}
    both = SoftLabelDataset(index, patches_per_case=200, foreground_classes={"organ": 3, "tumour": 1}, **options)
    assert 0.6 < sum(int(sample["labels"].item()) == 1 for sample in both) / 200 < 0.9
    for wrong in ({"organ": -1.0}, {"organ": 0.0}, {"organ": float("nan")}, {}):
        with pytest.raises(InputError, match="foreground_classes: got .*, expected finite weights >= 0"):
            SoftLabelDataset(index, foreground_classes=wrong, **options)
