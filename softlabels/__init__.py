"""softlabels: exact soft labels for segmentation networks, computed once, offline, and streamed into training."""

__version__ = "0.1.0"
