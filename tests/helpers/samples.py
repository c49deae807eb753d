"""Samples of the loader: their volumes, and whether two are the same."""

import torch

VOLUMES = ("image", "labels", "soft_label", "valid")


def same(first, second) -> bool:
    """Return whether two samples are the same to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]
        for name, value in first.items()
    )
