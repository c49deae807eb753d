"""The PyTorch loader's public names; the code is in `softlabels.training`."""

from softlabels.training.dataset import MODES, RandomFlip, SoftLabelDataset, stitch_cases

__all__ = ["MODES", "RandomFlip", "SoftLabelDataset", "stitch_cases"]
