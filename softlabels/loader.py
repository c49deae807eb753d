"""The PyTorch loader's public names; the code is in `softlabels.training`."""

from softlabels.cohort.restore import CaseSpace
from softlabels.training.augmentation import RandomFlip, SpatialAugmentation, check_transform
from softlabels.training.dataset import MODES, SoftLabelDataset
from softlabels.training.device_blend import DeviceBlend
from softlabels.training.folds import Fold, MissingCasesWarning, k_folds, nnunet_folds
from softlabels.training.patches import gaussian_weight
from softlabels.training.sampler import EpochSampler, RepeatedPatchWarning
from softlabels.training.stitching import stitch_cases

__all__ = [
    "MODES",
    "CaseSpace",
    "DeviceBlend",
    "EpochSampler",
    "Fold",
    "MissingCasesWarning",
    "RandomFlip",
    "RepeatedPatchWarning",
    "SoftLabelDataset",
    "SpatialAugmentation",
    "check_transform",
    "gaussian_weight",
    "k_folds",
    "nnunet_folds",
    "stitch_cases",
]
