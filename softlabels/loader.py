"""The PyTorch loader's public names; the code is in `softlabels.training`."""

from softlabels.training.dataset import MODES, RandomFlip, SoftLabelDataset, stitch_cases
from softlabels.training.sampler import EpochSampler, RepeatedPatchWarning

__all__ = ["MODES", "EpochSampler", "RandomFlip", "RepeatedPatchWarning", "SoftLabelDataset", "stitch_cases"]
