"""Laws of blending on the device: the bits of the loader's own blend, for every target, patch and kind of map."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.made_cohort import SPARSE, TARGETS, make_cohort, write_index
from torch.utils.data import DataLoader

from softlabels.blend import Blend
from softlabels.calibration import Calibration
from softlabels.cohort.index import Index
from softlabels.errors import FormatError, InputError
from softlabels.store.encoding import BitRound, ScaleOffset
from softlabels.training.augmentation import RandomFlip
from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.device_blend import DeviceBlend

pytestmark = pytest.mark.filterwarnings("ignore::softlabels.training.sampler.RepeatedPatchWarning")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"))


def pair(index, target, **options):
    return [SoftLabelDataset(index, target=target, blend_on_device=on, **options) for on in (False, True)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("options", [{"patch_size": (12, 24, 24), "patches_per_case": 3}, {"patch_size": (24, 16)}])
def test_a_batch_blended_on_the_device_has_the_loaders_bits(index, target, options):
    at_once, encoded = pair(index, target, transform=RandomFlip() if target != "svls" else None, **options)
    blend = encoded.device_blend()
    for before, after in zip(DataLoader(at_once, batch_size=4), DataLoader(encoded, batch_size=4), strict=True):
        assert torch.equal(blend(after), before["soft_label"])
        assert torch.equal(after["labels"].long(), before["labels"])
        for name in ("image", "valid", "origin", "affine"):
            assert torch.equal(after[name], before[name])
    assert not after["inside"].all() and "soft_label" not in after


def test_one_sample_is_blended_as_a_batch_is(index):
    at_once, encoded = pair(index, "geols", mode="whole", alpha=0.37)
    for n in range(len(encoded)):
        assert torch.equal(encoded.device_blend()(encoded[n]), at_once[n]["soft_label"])


def test_each_further_target_has_a_blend_of_its_own(index):
    options = {"further_targets": ["sing", "onehot", "svls"], "patch_size": (6, 20, 20), "seed": 3}
    at_once, encoded = pair(index, "geols", **options)
    before, after = at_once[2], encoded[2]
    for name in options["further_targets"]:
        assert torch.equal(encoded.device_blend(name)(after), before[f"soft_label_{name}"])
    assert torch.equal(encoded.device_blend()(after), before["soft_label"])
    with pytest.raises(InputError, match="got 'other', expected one of 'geols', 'sing', 'onehot', 'svls'"):
        encoded.device_blend("other")


def test_other_names_of_parts_are_known_to_the_blend(index):
    keys = {"labels": "label", "stored_map": "map", "inside": "in"}
    at_once, encoded = pair(index, "geols", patch_size=(6, 20, 20), keys={"labels": "label"})
    renamed = SoftLabelDataset(index, target="geols", patch_size=(6, 20, 20), keys=keys, blend_on_device=True)
    assert {"label", "map", "in"} <= renamed[1].keys()
    for dataset in (encoded, renamed):
        assert torch.equal(dataset.device_blend()(dataset[1]), at_once[1]["soft_label"])
    with pytest.raises(InputError, match="keys: got 'soft_label', expected some of .* inside, stored_map"):
        SoftLabelDataset(index, target="geols", mode="whole", keys={"soft_label": "soft"}, blend_on_device=True)


def test_a_target_stored_by_its_largest_classes_is_refused(tmp_path):
    index = make_cohort(tmp_path, targets=TARGETS | SPARSE)
    for target in SPARSE:
        with pytest.raises(InputError, match=f"target '{target}' is stored by the largest classes.*Leave blend_on"):
            SoftLabelDataset(index, target=target, mode="whole", blend_on_device=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    "blend", [Blend("mix_onehot", 0.1), Blend("signed_margin", 0.3), Blend("none"), Blend("mix_onehot", 1.0)]
)
def test_every_stored_integer_is_blended_as_the_loader_blends_it(dtype, blend):
    encoding = ScaleOffset.signed(dtype) if blend.rule == "signed_margin" else ScaleOffset(dtype, 0.0, 1.0)
    described = replace(TARGETS["geols"], blend=blend)
    every = np.arange(len(encoding.levels), dtype=dtype)
    levels = np.stack([every, every[::-1], np.roll(every, 5)]).reshape(3, 1, -1, 16)
    labels = np.resize(np.array([0, 1, 2, 4, 9], np.uint8), levels.shape[1:])
    expected = described.soft_label(labels, encoding.decode(levels))
    batch = {"labels": labels, "inside": np.ones(labels.shape, bool), "stored_map": levels}
    module = pickle.loads(pickle.dumps(DeviceBlend(described, encoding)))
    found = module({name: torch.from_numpy(volume)[None] for name, volume in batch.items()})[0]
    assert np.array_equal(found.numpy().view(np.uint32), expected.view(np.uint32))


def test_a_map_of_floats_passes_unchanged_and_is_not_blended():
    described = replace(TARGETS["svls"], pad_value=(9.0, 9.0, 9.0))
    stored = torch.randn(3, 1, 1, 4)
    batch = {"labels": torch.zeros(1, 1, 4, dtype=torch.uint8), "inside": torch.tensor([[[True, True, True, False]]])}
    found = DeviceBlend(described, BitRound(15))({**batch, "stored_map": stored})
    assert torch.equal(found[..., :3], stored[..., :3]) and (found[..., 3] == 9).all()
    with pytest.raises(
        InputError, match="got a map stored as BitRound.* expected a map of integers or the rule 'none'"
    ):
        DeviceBlend(replace(described, blend=Blend("mix_onehot", 0.5)), BitRound(15))


def test_what_cannot_be_blended_on_the_device_is_refused_at_once(index):
    calibrated = replace(TARGETS["geols"], blend=Blend("mix_onehot", 0.5, Calibration(2.0, (0.0,) * 3, "rater 2")))
    path = write_index(index.parent.parent / "calibrated", Index.read(index).cases, {"geols": calibrated})
    with pytest.raises(InputError, match="blend_on_device: got a calibrated target.* Leave blend_on_device out"):
        SoftLabelDataset(path, target="geols", store=index.parent.parent / "store", mode="whole", blend_on_device=True)

    def elastic(sample, rng):
        return sample

    elastic.augmentations = ("flip", "rescale")
    with pytest.raises(InputError, match="does rescale, but with blend_on_device"):
        SoftLabelDataset(index, target="geols", patch_size=(4, 4, 4), transform=elastic, blend_on_device=True)
    with pytest.raises(InputError, match="blended already. Make the data set with blend_on_device=True"):
        SoftLabelDataset(index, target="geols", patch_size=(4, 4, 4)).device_blend()


def test_a_case_that_is_stored_otherwise_than_the_first_is_refused(index):
    cases = list(Index.read(index).cases)
    cases[1] = replace(cases[1], targets={"geols": cases[1].targets["sing"]})
    path = write_index(index.parent.parent / "mixed", cases)
    store = index.parent.parent / "store"
    dataset = SoftLabelDataset(path, target="geols", store=store, patch_size=(4, 4, 4), blend_on_device=True)
    dataset[0]
    with pytest.raises(FormatError, match="case small, target 'geols': got a map stored as ScaleOffset.* expected"):
        dataset[1]


def test_the_module_has_nothing_to_train_or_to_save():
    module = DeviceBlend(TARGETS["geols"], ScaleOffset("uint8", 0.0, 1.0))
    assert not list(module.parameters()) and not module.state_dict()
