"""Damaged, hostile and contradictory image files: each is refused with our error class, none is half-believed."""

import gzip
import os
import struct
import subprocess
import sys
import textwrap
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers import ROOT

from softlabels.errors import InputError
from softlabels.inputs.case import read_volume

SHAPE_XYZ = (20, 18, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A volume in all formats: a.nii a.nii.gz a.nrrd az.nrrd a.mha az.mha."""
    folder = tmp_path_factory.mktemp("intake")
    values = np.random.default_rng(1).integers(-50, 2000, SHAPE_XYZ).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([0.7, 0.7, 3.0, 1.0]))
    for name in ("a.nii", "a.nii.gz"):
        nib.save(image, folder / name)
    nib.save(nib.Nifti2Image(values, np.diag([0.7, 0.7, 3.0, 1.0])), folder / "two.nii")
    itk = sitk.ReadImage(str(folder / "a.nii"))
    for name, is_compressed in (("a.nrrd", False), ("az.nrrd", True), ("a.mha", False), ("az.mha", True)):
        sitk.WriteImage(itk, str(folder / name), is_compressed)
    return folder


def _written(folder, content: bytes, name="bad.nii.gz"):
    path = folder / name
    path.write_bytes(content)
    return path


def _edited(folder, offset: int, form: str, *values) -> "os.PathLike":
    """The plain NIfTI-1 file with one field of its header replaced."""
    content = bytearray((folder / "a.nii").read_bytes())
    struct.pack_into("<" + form, content, offset, *values)
    return _written(folder, bytes(content), "edited.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "az.nrrd", "a.mha", "az.mha"])
def test_every_format_gives_the_same_volume(folder, name):
    reference, volume = read_volume(folder / "a.nii"), read_volume(folder / name)
    assert np.array_equal(reference.values, volume.values) and volume.values.dtype == np.int16
    assert reference.grid.differences(volume.grid, 1e-5) == []


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "az.nrrd", "a.mha", "az.mha"])
def test_200_of_200_truncated_files_are_refused(folder, name):
    content = (folder / name).read_bytes()
    refused = 0
    for length in np.linspace(0, len(content) - 1, 200).astype(int):
        with pytest.raises(InputError, match="bad"):
            read_volume(_written(folder, content[:length], "bad" + name))
        refused += 1
    assert refused == 200


@pytest.mark.parametrize("name", ["a.nii.gz", "az.mha", "az.nrrd"])
def test_200_of_200_bit_flips_in_compressed_data_are_refused(folder, name):
    content = (folder / name).read_bytes()
    start = 10 if name.endswith("gz") else len(content) - 2000
    rng = np.random.default_rng(7)
    for bit in rng.choice(np.arange(8 * start, 8 * len(content)), 200, replace=False):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(InputError):
            read_volume(_written(folder, bytes(flipped), "flip" + name))


def test_real_label_cut_or_flipped_200_times_is_refused_or_bitwise_the_same(shared_data, tmp_path):
    # In periodic data a flip may turn one repetition into an equal one: the packed bytes differ, what they unpack to
    # does not, and no checksum of the content can or need tell. Every cut file is refused.
    original = shared_data / "ct_organs_small" / "label.nii.gz"
    content, reference = original.read_bytes(), read_volume(original, role="label")
    rng, path = np.random.default_rng(11), tmp_path / "label.nii.gz"
    refused = 0
    for length, bit in zip(rng.integers(0, len(content), 200), rng.integers(80, 8 * len(content), 200), strict=True):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="label.nii.gz"):
            read_volume(path, role="label")
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            volume = read_volume(path, role="label")
        except InputError:
            refused += 1
        else:
            assert volume.digest == reference.digest and np.array_equal(volume.values, reference.values)
    assert refused >= 180


def test_failing_file_system_is_our_error(folder, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("softlabels.inputs.stream.Stream.read_into", fail)
    with pytest.raises(InputError, match=r"a\.nii: Input/output error"):
        read_volume(folder / "a.nii")


def test_a_flip_that_is_not_refused_changes_neither_values_nor_digest(folder):
    # Ten bytes of a gzip file (time, operating system, ...) are under no checksum, and mean nothing for the image.
    content = (folder / "a.nii.gz").read_bytes()
    reference = read_volume(folder / "a.nii.gz")
    outcomes = {"refused": 0, "same": 0}
    for bit in range(80):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        try:
            volume = read_volume(_written(folder, bytes(flipped)))
        except InputError:
            outcomes["refused"] += 1
        else:
            assert np.array_equal(volume.values, reference.values) and volume.digest == reference.digest
            outcomes["same"] += 1
    assert sum(outcomes.values()) == 80 and outcomes["refused"] >= 24


def test_one_byte_more_than_the_header_says_is_refused(folder):
    plain = (folder / "a.nii").read_bytes()
    for content in (
        plain + b"\0",
        gzip.compress(plain + b"\0"),
        gzip.compress(plain) + b"\1",
        gzip.compress(plain) + bytes(1 << 15) + b"\1",
        gzip.compress(plain) * 2,
    ):
        with pytest.raises(InputError):
            read_volume(_written(folder, content))


def test_zeros_that_fill_the_last_block_of_a_tape_are_passed_over(folder):
    plain = (folder / "a.nii").read_bytes()
    for n_zeros in (1, 511, 100_000):
        path = _written(folder, gzip.compress(plain) + bytes(n_zeros))
        assert read_volume(path).digest == read_volume(folder / "a.nii").digest


def test_gzip_of_several_members_is_read(folder):
    plain = (folder / "a.nii").read_bytes()
    path = _written(folder, gzip.compress(plain[:100]) + gzip.compress(plain[100:5000]) + gzip.compress(plain[5000:]))
    assert read_volume(path).digest == read_volume(folder / "a.nii").digest == read_volume(folder / "a.nii.gz").digest


def test_doubly_compressed_file_is_refused(folder):
    with pytest.raises(InputError):
        read_volume(_written(folder, gzip.compress((folder / "a.nii.gz").read_bytes())))


@pytest.mark.parametrize(
    ("offset", "form", "values", "said"),
    [
        (40, "h", (0,), "dimensions"),
        (40, "h", (9,), "dimensions"),
        (42, "h", (-20,), "sizes"),
        (42, "h", (0,), "sizes"),
        (42, "h", (19,), "longer than its header"),
        (42, "3h", (32767, 32767, 32767), "voxels"),
        (42, "h", (200,), "truncated"),
        (40, "6h", (5, 20, 18, 2, 2, 3), "at most one of channels"),
        (70, "h", (128,), "datatype"),
        (70, "h", (1792,), "datatype"),
        (72, "h", (8,), "bits"),
        (80, "f", (float("nan"),), "voxel size"),
        (80, "f", (0.0,), "voxel size"),
        (80, "f", (-1.0,), "voxel size"),
        (80, "f", (0.9,), "long, but the spacing"),
        (108, "f", (float("nan"),), "offset"),
        (108, "f", (1e9,), "offset"),
        (108, "f", (100.0,), "offset"),
        (112, "2f", (float("inf"), 0.0), "scaling"),
        (112, "2f", (1e38, 3e38), "infinite"),
        (123, "B", (5,), "unit"),
        (280, "f", (float("nan"),), "sform"),
        (284, "f", (0.5,), "mm long"),
        (280, "12f", (0.7, 0, 0, 0, 0, 0.7, 2.0, 0, 0, 0, 2.236068, 0), "sheared"),
        (280, "12f", (0.0,) * 12, "mm long"),
        (344, "4s", (b"ni1\0",), "magic"),
        (0, "i", (349,), "format"),
    ],
)
def test_contradictory_header_is_refused_and_says_why(folder, offset, form, values, said):
    with pytest.raises(InputError, match=said) as caught:
        read_volume(_edited(folder, offset, form, *values))
    assert "edited.nii" in str(caught.value) and "\n" not in str(caught.value)


def test_sform_and_qform_of_one_code_must_agree(folder):
    image = nib.load(folder / "a.nii")
    image.set_sform(np.diag([0.7, 0.7, 3.0, 1.0]), 1)
    image.set_qform(np.diag([0.7, -0.7, 3.0, 1.0]), 1)
    nib.save(image, folder / "disagree.nii.gz")
    with pytest.raises(InputError, match="sform and qform both have code 1"):
        read_volume(folder / "disagree.nii.gz")


def test_sform_of_another_space_is_taken_with_a_note(folder):
    image = nib.load(folder / "a.nii")
    image.set_sform(np.diag([0.7, -0.7, 3.0, 1.0]), 4)
    image.set_qform(np.diag([0.7, 0.7, 3.0, 1.0]), 1)
    nib.save(image, folder / "spaces.nii.gz")
    volume = read_volume(folder / "spaces.nii.gz")
    assert "different spaces" in volume.notes[0]
    assert volume.grid.position((0, 1, 0)) == pytest.approx((0, -0.7, 0))


def test_what_is_not_an_image_file_is_refused(folder, tmp_path):
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "pointer.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "page.nii.gz").write_text("<!DOCTYPE html><html>404</html>" * 20)
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for name in ("empty.nii.gz", "pointer.nii.gz", "page.nii.gz", "link.nii.gz", "pipe.nii.gz", "", "none.nii.gz"):
        with pytest.raises(InputError, match=str(tmp_path)):
            read_volume(tmp_path / name)


def test_other_files_data_and_encodings_are_refused(folder):
    nrrd, mha = (folder / "a.nrrd").read_bytes(), (folder / "a.mha").read_bytes()
    for content in (
        nrrd.replace(b"encoding: raw", b"encoding: hex"),
        nrrd.replace(b"encoding: raw", b"encoding: raw\ndata file: ../other.raw"),
        nrrd.replace(b"endian: little", b"endian: middle"),
        nrrd.replace(b"type: short", b"type: block"),
        nrrd.replace(b"sizes: 20 18 12", b"sizes: 20 18 99999999999999999999"),
        nrrd.replace(b"sizes: 20 18 12", b"sizes: 20 18"),
        nrrd.replace(b"space directions: (", b"space directions: (nan"),
        mha.replace(b"LOCAL", b"/etc/passwd"),
        mha.replace(b"DimSize = 20 18 12", b"DimSize = 20 18 13"),
        mha.replace(b"NDims = 3", b"NDims = 7"),
        mha.replace(b"MET_SHORT", b"MET_STRING"),
        mha.replace(b"ElementDataFile", b"ElementDate"),
    ):
        assert content not in (nrrd, mha)
        with pytest.raises(InputError):
            read_volume(_written(folder, content, "other.img"))


LIMITED = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
import numpy as np
import zlib
from softlabels.errors import InputError
from softlabels.inputs.case import read_volume
"""


def _run_limited(code: str, *arguments) -> str:
    """Run code in a process that may use 2 GB of memory; return what it printed."""
    script = LIMITED + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_fuzzed_headers_end_in_our_error_within_2_gb(folder):
    # Random bytes over random parts of each format's header: our error, or a volume of the size its header states.
    printed = _run_limited(
        """
        folder, refused, read, slowest = sys.argv[1], 0, 0, 0.0
        rng = np.random.default_rng(3)
        for name, size in (("a.nii", 352), ("two.nii", 544), ("a.nrrd", 400), ("a.mha", 350), ("a.nii.gz", 40)):
            content = open(f"{folder}/{name}", "rb").read()
            for _ in range(200):
                fuzzed = bytearray(content)
                n = int(rng.integers(1, 9))
                at = int(rng.integers(0, size - n))
                fuzzed[at:at + n] = rng.integers(0, 256, n).astype(np.uint8).tobytes()
                path = f"{folder}/fuzzed"
                open(path, "wb").write(fuzzed)
                begin = time.perf_counter()
                try:
                    volume = read_volume(path)
                    assert volume.values.size == 20 * 18 * 12, volume.values.shape
                    read += 1
                except InputError as error:
                    assert "fuzzed" in str(error), error
                    refused += 1
                slowest = max(slowest, time.perf_counter() - begin)
        print(refused, read, slowest)
        """,
        folder,
    )
    refused, read, slowest = printed.split()
    assert int(refused) + int(read) == 1000 and int(refused) > 300 and float(slowest) < 5


def test_gzip_bombs_are_refused_before_64_mb_are_inflated(tmp_path):
    # 4 MB that inflate to 4 GB. The header is small (data longer than it says) or says all of it (too many voxels).
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 22)) + packer.flush(zlib.Z_FULL_FLUSH)
    assert len(zlib.decompressobj(-15).decompress(block)) == 1 << 22
    header = bytearray(nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header.binaryblock + b"\0" * 4)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    for name, sizes in (("small", (100, 100, 100)), ("honest", (2048, 2048, 1024))):
        struct.pack_into("<3h", header, 42, *sizes)
        bomb = gzip.compress(bytes(header)) + gzip.compress(b"")[:10] + 1024 * block + b"\x03\0" + bytes(8)
        assert 4.0e6 < len(bomb) < 4.4e6
        (tmp_path / f"{name}.nii.gz").write_bytes(bomb)
    printed = _run_limited(
        """
        inflated = 0
        real = zlib.decompressobj
        class Counting:
            def __init__(self, wbits): self._real = real(wbits)
            def __getattr__(self, name): return getattr(self._real, name)
            def decompress(self, data, limit):
                global inflated
                assert limit > 0
                out = self._real.decompress(data, limit)
                inflated += len(out)
                return out
        zlib.decompressobj = Counting
        for name in ("small", "honest"):
            inflated = 0
            try:
                read_volume(f"{sys.argv[1]}/{name}.nii.gz")
                print("read")
            except InputError as error:
                print(name, inflated < 64 << 20)
        """,
        tmp_path,
    )
    assert printed.split() == ["small", "True", "honest", "True"]


def test_a_file_that_cannot_hold_what_its_header_says_takes_no_memory(tmp_path, folder):
    # 700 x 700 x 700 int16 = 686 MB claimed by a file of a few kB.
    content = bytearray((folder / "a.nii").read_bytes())
    struct.pack_into("<3h", content, 42, 700, 700, 700)
    for name, data in (("plain.nii", bytes(content)), ("packed.nii.gz", gzip.compress(bytes(content)))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="can hold at most"):
            read_volume(tmp_path / name)


def test_files_made_to_waste_time_are_refused(folder):
    # 200,000 empty gzip members, and a text header of 30 MB: hours, if every part were copied for each that follows.
    _written(folder, 200_000 * gzip.compress(b""), "members")
    _written(folder, b"NRRD0004\n" + 6_000_000 * b"a: b\n", "header")
    printed = _run_limited(
        """
        for name in ("members", "header"):
            try:
                read_volume(f"{sys.argv[1]}/{name}")
            except InputError as error:
                print("refused")
        """,
        folder,
    )
    assert printed.split() == ["refused", "refused"]


def test_more_than_the_memory_of_the_job_is_our_error(tmp_path, folder):
    # A sparse file that really is as large as its header says: 4 GB where the process may use 2 GB.
    content = bytearray((folder / "a.nii").read_bytes()[:352])
    struct.pack_into("<3h", content, 42, 1024, 1024, 512)
    struct.pack_into("<2h", content, 70, 64, 64)
    (tmp_path / "large.nii").write_bytes(bytes(content))
    os.truncate(tmp_path / "large.nii", 352 + 2**32)
    printed = _run_limited(
        """
        try:
            read_volume(f"{sys.argv[1]}/large.nii")
        except InputError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "not enough memory" in printed
