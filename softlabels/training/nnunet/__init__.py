"""nnU-Net v2 on precomputed soft labels; docs/nnunet.md is the way from a raw data set to a trained model.

`trainer` and `transforms` need nnunetv2 (2.6 or newer); the other modules need what the loader needs.
"""
