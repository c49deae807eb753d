"""Images in two files: a header (`.hdr`, `.nhdr`, `.mhd`) that names or implies the file of its samples."""

from __future__ import annotations

import os
from pathlib import Path

from softlabels.errors import InputError
from softlabels.inputs import metaimage, nifti, nrrd
from softlabels.inputs.header import Header
from softlabels.inputs.stream import FileState, Stream

#: Ends of the names of headers whose samples are in another file. A sheet may name no other file of that kind.
ENDINGS = (".hdr", ".nhdr", ".mhd")


def file_state(path: str | os.PathLike[str]) -> FileState:
    """Return size and time of last change of an image file; of one in two files, the sums over both.

    A change of either file changes the sums. Cost: one `stat`, and for two files also reading the header.

    Raises
    ------
    OSError
        The file, or that of its samples, cannot be reached.
    """
    state = FileState.of(path)
    if not str(path).lower().endswith(ENDINGS):
        return state
    try:
        with Stream(path) as stream:
            header = detached_header(stream, stream.read(4))
    except InputError:
        # A header that cannot be read is no reason to doubt what was found of the file itself.
        return state
    return state if header is None or header.data is None else both(state, FileState.of(header.data.path))


def detached_header(stream: Stream, start: bytes) -> Header | None:
    """Return the header of a file in one of the formats that may have their samples elsewhere; None for all others."""
    if start == b"NRRD":
        return nrrd.read_header(stream)
    if start in metaimage.STARTS:
        return metaimage.read_header(stream, start)
    return nifti.read_header(stream, start) if nifti.is_nifti(start) else None


def checked_ending(path: Path, header: Header) -> Header:
    """Return `header`, or raise InputError if its samples are elsewhere and its name does not say so."""
    if header.data is not None and not path.name.lower().endswith(ENDINGS):
        raise InputError(
            f"{path}: its samples are in {header.data.path.name}; rename it to end in one of {', '.join(ENDINGS)}"
        )
    return header


def both(header: FileState, data: FileState) -> FileState:
    """Return the state of an image in two files."""
    return FileState(header.size + data.size, header.mtime_ns + data.mtime_ns)
