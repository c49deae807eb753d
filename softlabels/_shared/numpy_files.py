"""Reading an array that somebody else saved with NumPy."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError

#: The name of the array in nnU-Net's files, version 2 and 1.
_NAMES = ("probabilities", "softmax")
#: What NumPy, and zipfile beneath it, raise on a damaged file: also of places, passwords and codecs that it never had
#: (`NotImplementedError` is a `RuntimeError`).
_DAMAGE = (
    ValueError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


def read_array(path: Path) -> NDArray[Any]:
    """Return the array of an NPY; or of an NPZ the one that nnU-Net calls probabilities, or the only one.

    Raises
    ------
    InputError
        If the file is damaged, holds Python objects, or has several arrays and none of these names.
    """
    # NumPy leaves a file that it opened itself open if it is damaged.
    with path.open("rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            names = [name for name in _NAMES if name in found.files] or found.files
            if len(names) == 1:
                return np.asarray(found[names[0]])
        except _DAMAGE as error:
            raise InputError(
                f"{path}: cannot be read as an array ({error}). Write it with numpy.save or savez"
            ) from error
    listed = ", ".join(names) or "none"
    raise InputError(f"{path}: got the arrays {listed}, expected one, or one that is called probabilities")
