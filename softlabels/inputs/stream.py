"""The bytes of a file: inflated where compressed, hashed on the way, never past a stated length.

Common readers accept damaged files: one never reaches the checksum at the end of a gzip stream, another fills what a
truncated file lacks with zeros. Here a read gives exactly the requested bytes or raises, and `finish`
accepts only a stream that ends where its header says, with its checksum verified by zlib.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zlib
from pathlib import Path
from typing import Literal, NamedTuple, Self

from softlabels.errors import InputError

GZIP = 31
ZLIB = 15
#: Deflate cannot pack more than this many bytes into one.
MAX_RATIO = 1032
#: Small, because what follows the end of one gzip member is copied for the next.
_STEP_IN = 1 << 14
_STEP_OUT = 1 << 22
_MAX_TEXT_HEADER = 1 << 20
#: Files that name another file instead of being it, by how they begin, with the command that fetches it.
_POINTERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the image; run `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer, not the image; run `git annex get`",
}
#: Enough of a file to recognise any format: most by the first bytes, DICOM by those at 128, GIPL by those at 252.
_START = 1024


class FileState(NamedTuple):
    """Size in bytes and time of last change of a file, which show without reading it that it was replaced."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: str | os.PathLike[str] | int) -> FileState:
        """Return the state of a path or an open file descriptor, or raise OSError."""
        found = os.stat(file)
        return cls(found.st_size, found.st_mtime_ns)


class Stream:
    """A file read once from its beginning to its end.

    Parameters
    ----------
    path : path-like
        A regular file.
    packing : {"detect", None, GZIP, ZLIB}
        How its bytes are compressed. By default, a file that begins as gzip does is inflated.

    Raises
    ------
    InputError
        The file is missing, empty, not a regular file, or a pointer to another file (Git LFS, git-annex).
    """

    def __init__(self, path: str | os.PathLike[str], packing: int | Literal["detect"] | None = "detect") -> None:
        self.path = Path(path)
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISDIR(mode):
                raise InputError(
                    f"{path}: got a folder, expected an image file; convert a DICOM series with `dcm2niix -z y FOLDER`"
                )
            if not stat.S_ISREG(mode):
                raise InputError(f"{path}: not a regular file; give the path of an image file")
            self._file = open(path, "rb")  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; check the path in the sheet") from error
        #: As the file was before its first byte was read.
        self.state = FileState.of(self._file.fileno())
        self.n_read = 0
        self._digest = hashlib.sha256()
        self._inflater: zlib._Decompress | None = None
        self._wbits = 0
        #: The first bytes of the file, or of what it unpacks to, to recognise a format.
        self.start = bytes(self._file.peek(_START)[:_START])
        pointer = next((said for begin, said in _POINTERS.items() if self.start.startswith(begin)), None)
        if pointer or not self.start:
            self._file.close()
            raise InputError(f"{path}: {pointer or 'empty file; copy it again'}")
        if packing == "detect":
            packing = GZIP if self.start.startswith(b"\x1f\x8b") else None
        if packing is not None:
            self.inflate(packing)
            with contextlib.suppress(zlib.error):
                self.start = zlib.decompressobj(packing).decompress(self.start, _START)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def inflate(self, wbits: int) -> None:
        """Take everything from here on as compressed: `GZIP` (one or more members) or `ZLIB`."""
        if self._inflater is not None:
            raise InputError(f"{self.path}: compressed twice; unpack it once with gunzip")
        self._wbits = wbits
        self._inflater = zlib.decompressobj(wbits)

    @property
    def n_available(self) -> int:
        """The most bytes that can still come: the rest of the file, times the best ratio of deflate if compressed."""
        rest = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if self._inflater is None:
            return rest
        held = len(self._inflater.unconsumed_tail) + len(self._inflater.unused_data)
        return (rest + held + 1) * MAX_RATIO

    def read(self, n_bytes: int) -> bytes:
        """Return exactly `n_bytes`, or raise InputError."""
        buffer = bytearray(n_bytes)
        self.read_into(memoryview(buffer))
        return bytes(buffer)

    def read_rest(self, most: int) -> bytes:
        """Return everything up to the end of the stream, or raise InputError if that is more than `most` bytes."""
        rest = bytearray()
        while got := self._some(step := memoryview(bytearray(1 << 16))):
            rest += step[:got]
            if len(rest) > most:
                raise InputError(f"{self.path}: more than {most} bytes after its data; write the file again")
        self._digest.update(rest)
        self.n_read += len(rest)
        return bytes(rest)

    @property
    def is_at_end(self) -> bool:
        """Whether no byte is left in a file that is not compressed."""
        return self._inflater is None and not self._file.peek(1)

    def read_line(self) -> bytes:
        """Return the bytes of a text header up to the next newline, without it, or up to the end of the file."""
        line = bytearray()
        while not (line and self.is_at_end) and (byte := self.read(1)) != b"\n":
            line += byte
            if self.n_read > _MAX_TEXT_HEADER:
                raise InputError(f"{self.path}: text header without end; its header is damaged")
        return bytes(line).rstrip(b"\r")

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer`, or raise InputError if the stream ends before or is damaged."""
        done = 0
        while done < len(buffer):
            got = self._some(buffer[done:])
            if not got:
                raise InputError(
                    f"{self.path}: truncated: got {self.n_read + done} bytes, "
                    f"expected at least {self.n_read + len(buffer)}; copy the file again from its source"
                )
            done += got
        self._digest.update(buffer)
        self.n_read += done

    def finish(self) -> str:
        """Return the sha256 (hex) of all bytes read, after making sure that the stream ends here, undamaged.

        Raises
        ------
        InputError
            If there are more bytes, or the file changed since it was opened.
        """
        if self._some(memoryview(bytearray(1))):
            raise InputError(
                f"{self.path}: longer than its header says: expected {self.n_read} bytes, got more; "
                "its header or its data is not its own"
            )
        if FileState.of(self._file.fileno()) != self.state:
            raise InputError(f"{self.path}: changed while it was read; wait until nothing writes to it, then run again")
        return self._digest.hexdigest()

    def _some(self, buffer: memoryview) -> int:
        """Copy between 1 and len(buffer) bytes into `buffer` and return their number; 0 at the end of the stream."""
        if self._inflater is None:
            return self._file.readinto(buffer)
        while True:
            packed = self._inflater.unconsumed_tail or self._inflater.unused_data or self._file.read(_STEP_IN)
            if self._inflater.eof:
                if self._wbits == GZIP:
                    packed = self._past_zeros(packed)
                if not packed:
                    return 0
                if self._wbits != GZIP:
                    raise InputError(f"{self.path}: bytes after the end of its compressed data; write the file again")
                self._inflater = zlib.decompressobj(GZIP)
            elif not packed:
                raise InputError(
                    f"{self.path}: truncated: its compressed data ends after {self.n_read} bytes were unpacked; "
                    "copy the file again from its source"
                )
            try:
                plain = self._inflater.decompress(packed, min(len(buffer), _STEP_OUT))
            except zlib.error as error:
                raise InputError(f"{self.path}: damaged ({error}); copy the file again from its source") from error
            if plain:
                buffer[: len(plain)] = plain
                return len(plain)

    def _past_zeros(self, packed: bytes) -> bytes:
        """Return what follows zeros after a gzip member, by which some programs fill the last block of a file."""
        while packed and not (packed := packed.lstrip(b"\0")):
            packed = self._file.read(_STEP_IN)
        return packed
