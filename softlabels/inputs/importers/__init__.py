"""Known layouts of data sets, read into the case sheet: nnU-Net, Decathlon, MONAI datalists, BraTS, BIDS, or patterns.

Each importer looks at names and small text files only, and returns a `Dataset`. `softlabels check` then reads the
files.
"""

from softlabels.inputs.importers.base import Dataset
from softlabels.inputs.importers.bids import import_bids
from softlabels.inputs.importers.brats import BRATS_LABELS, import_brats
from softlabels.inputs.importers.datalist import import_datalist, import_msd
from softlabels.inputs.importers.found import found_labels, given_labels, segment_colours
from softlabels.inputs.importers.nnunet import import_nnunet
from softlabels.inputs.importers.nnunet_preprocessed import import_nnunet_preprocessed
from softlabels.inputs.importers.pairs import import_pairs

__all__ = [
    "BRATS_LABELS", "Dataset", "found_labels", "given_labels", "import_bids", "import_brats", "import_datalist",
    "import_msd", "import_nnunet", "import_nnunet_preprocessed", "import_pairs", "segment_colours",
]  # fmt: skip
