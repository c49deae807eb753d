"""Reading patches of a case through an index, without torch: numpy and the store's own reader."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from softlabels._shared.files import read_small_file
from softlabels._shared.plain_json import parsed_json, unsealed_json
from softlabels.errors import FormatError, StoreError
from softlabels.store.format import INDEX_BYTES
from softlabels.store.read import open_entry
from softlabels.training.patches import ForegroundTable

INDEX_FORMAT, INDEX_VERSION = "softlabels-index", 1


def read_index(path: Path) -> dict:
    """Return the content of index.json; FormatError with the remedy if it is missing, damaged or of another version."""
    try:
        raw = read_small_file(path, INDEX_BYTES)
        content = parsed_json(raw)
    except FileNotFoundError:
        raise FormatError(f"index {path}: no such file. Run snakemake, which writes it last") from None
    except OSError as error:
        raise FormatError(f"index {path}: cannot be read ({error.strerror}). Give the path of an index.json") from error
    except ValueError as error:
        raise FormatError(f"index {path}: not JSON ({error}). Delete it and run snakemake again") from None
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else None
    if found != (INDEX_FORMAT, INDEX_VERSION):
        raise FormatError(
            f"index {path}: got {found}, expected {(INDEX_FORMAT, INDEX_VERSION)}. "
            "Write it again with this version of softlabels"
        )
    try:
        return unsealed_json(raw)
    except ValueError:
        raise FormatError(
            f"index {path}: changed since it was written (its seal does not fit). Delete it and run snakemake again; "
            "what a run can vary, such as alpha or the store's place, is an argument of the data set"
        ) from None


class OpenCase:
    """The entries of one case, which its patches are read from. Holds no open file: it may be used after a fork.

    Parameters
    ----------
    case : dict
        The case's record in the index.
    target : str
        A target of the index.
    is_stored : bool
        Whether the target has an entry; False for one that is derived from the labels.
    store_path : Path

    Raises
    ------
    FormatError
        Here and in every method, with case and entry named, if an entry is missing, damaged, or not the index's.
    """

    def __init__(self, case: dict, target: str, is_stored: bool, store_path: Path):
        self.id = case["id"]
        self._prepare = self._entry(store_path, case["prepare"], "prepare")
        self._target_name, self._target = target, None
        if is_stored:
            if target not in case["targets"]:
                raise FormatError(f"case {self.id}: the index has no entry of target {target!r}. Run snakemake again")
            self._target = self._entry(store_path, case["targets"][target], f"target {target!r}")
        self.shape = tuple(self._prepare.grid.shape)

    def read(self, window):
        """Return image, labels and stored target (None if the target has none) in a window."""
        with _named(self.id, "prepare", self._prepare.key):
            image = np.asarray(self._prepare.read("image", window=window), np.float32)
            labels = self._labels(window)
        if self._target is None:
            return image, labels, None
        with _named(self.id, f"target {self._target_name!r}", self._target.key):
            return image, labels, np.asarray(self._target.read("target", window=window), np.float32)

    def foreground_table(self, class_values) -> ForegroundTable:
        """Return how many voxels of each class lie in each chunk of the labels."""
        with _named(self.id, "prepare", self._prepare.key):
            block = self._prepare.chunks("labels")
            return ForegroundTable.build(self.shape, class_values, self._labels, block)

    def foreground_voxel(self, table, rng):
        """Return a random voxel of the classes of a table, or None if there is none."""
        with _named(self.id, "prepare", self._prepare.key):
            return table.draw(rng, self._labels)

    def _labels(self, window) -> np.ndarray:
        return np.asarray(self._prepare.read("labels", window=window))

    def _entry(self, store_path: Path, address: dict, role: str):
        """Return the entry at an address of the index, which must hold what the index was written for."""
        key = address["key"]
        with _named(self.id, role, key):
            entry = open_entry(store_path, key, address["manifest"])
            if entry is None:
                raise FormatError(
                    f"it is not in store {store_path}. Run snakemake again, or say where the store is (store=...)"
                )
        return entry


@contextmanager
def _named(case_id: str, role: str, key: str):
    """Add case and entry to the message of what goes wrong with the store."""
    try:
        yield
    except StoreError as error:
        raise type(error)(f"case {case_id}, {role}, entry {key[:12]}: {error}") from error
