"""Soft labels in MONAI: a reader for LoadImaged, a data list for bundles, and MONAI's augmentation of samples.

For training on random patches, `softlabels.loader.SoftLabelDataset` reads only the chunks of a patch. It works in
MONAI's engines and bundles as it is (`keys={"labels": "label"}`), and `MonaiAugmentation` runs MONAI's dictionary
transforms on its samples. For chains of transforms on whole volumes (CacheDataset, Spacingd, SaveImaged), `data_list`
gives what LoadImaged loads, once this module is imported.
"""

try:
    import monai  # noqa: F401
except ImportError as error:
    raise ImportError("softlabels.training.monai needs MONAI: pip install 'softlabels[monai]'") from error

from softlabels.training.monai.augmentation import KEYS, MODES, MonaiAugmentation
from softlabels.training.monai.batch import prepare_batch
from softlabels.training.monai.reader import SoftLabelReader, data_list

__all__ = ["KEYS", "MODES", "MonaiAugmentation", "SoftLabelReader", "data_list", "prepare_batch"]
