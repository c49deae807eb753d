"""The kernels compile without a GPU, for every device and driver that NVRTC serves; an error names what to install."""

import itertools
import shutil

import pytest

from softlabels.errors import DeviceError
from softlabels.geodesic import _nvrtc
from softlabels.geodesic._nvrtc import Target, compiled_kernels, installed_nvrtc, nvrtc_for

H100, A100, V100, P100 = (9, 0), (8, 0), (7, 0), (6, 0)
HERE = Target(H100, 13000)
VARIANTS = [
    {"FORM": form, "CHANNELS": channels, "TILE": side}
    for form in (0, 1, 2)
    for channels, side in ((1, 16), (11, 8), (55, 4))
]


@pytest.fixture(scope="module")
def needs_nvrtc():
    """Skip where no NVRTC is installed."""
    if installed_nvrtc(13) is None:
        pytest.skip("NVRTC 13 is not installed")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the folder of an empty cache of cubins."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "softlabels" / "cubins"


COMPILED = [
    *itertools.product([Target(P100, 12000), HERE], VARIANTS),
    # Each form and each size of a tile once.
    *itertools.product([Target(V100, 13000), Target(A100, 13000)], VARIANTS[::4]),
]


@pytest.mark.parametrize(
    ("target", "macros"),
    COMPILED,
    ids=lambda one: str(one) if isinstance(one, Target) else "-".join(map(str, one.values())),
)
def test_every_kernel_compiles_without_a_gpu(target, macros):
    if installed_nvrtc(12 if target.capability < (7, 5) else 13) is None:
        pytest.skip("this NVRTC is not installed")
    assert compiled_kernels(macros, target)[:4] == b"\x7fELF"


@pytest.mark.parametrize("target", [Target(V100, 13000), HERE], ids=str)
@pytest.mark.parametrize("form", [0, 1, 2])
def test_no_operation_is_fused_approximated_or_flushed(needs_nvrtc, form, target):
    if installed_nvrtc(12) is None:
        pytest.skip("NVRTC 12 is not installed")
    ptx = compiled_kernels({"FORM": form, "CHANNELS": 2, "TILE": 8}, target, "ptx").decode()
    assert "relax(" in ptx and "add.rn.f32" in ptx
    assert not any(word in ptx for word in ("fma.rn", "mad.f32", "mad.rn.f32", ".ftz", ".approx"))
    assert ("sqrt.rn.f32" in ptx) == (form != 0)
    assert ("div.rn.f32" in ptx) == (form == 2)


def test_a_cubin_is_compiled_once(needs_nvrtc, cache, monkeypatch):
    first = compiled_kernels(VARIANTS[0], HERE)
    assert [path.suffix for path in cache.iterdir()] == [".cubin"]
    monkeypatch.setattr(_nvrtc.Nvrtc, "compile", None)
    assert compiled_kernels(VARIANTS[0], HERE) == first


def test_a_damaged_cubin_is_compiled_again(needs_nvrtc, cache):
    first = compiled_kernels(VARIANTS[0], HERE)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], b"no newline", whole[:100] + b"?" + whole[101:]):
        path.write_bytes(damaged)
        assert compiled_kernels(VARIANTS[0], HERE) == first
        assert path.read_bytes() == whole


def test_other_sources_or_flags_are_another_cubin(needs_nvrtc, cache, tmp_path, monkeypatch):
    compiled_kernels(VARIANTS[0], HERE)
    compiled_kernels(VARIANTS[0], Target(A100, 13000))
    compiled_kernels(VARIANTS[3], HERE)
    kernels = shutil.copytree(_nvrtc._KERNELS, tmp_path / "kernels")
    (kernels / "block.cuh").write_text((kernels / "block.cuh").read_text() + "\n// new\n")
    monkeypatch.setattr(_nvrtc, "_KERNELS", kernels)
    compiled_kernels(VARIANTS[0], HERE)
    assert len(list(cache.iterdir())) == 4


def test_a_cache_that_cannot_be_written_is_done_without(needs_nvrtc, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="compiled anew in each process"):
        assert compiled_kernels(VARIANTS[0], HERE)[:4] == b"\x7fELF"


def test_what_nvrtc_refuses_is_an_error_with_its_words(needs_nvrtc, cache):
    with pytest.raises(DeviceError, match=r"NVRTC 13\.\d refused .*-DTILE=none .*please report it"):
        compiled_kernels(VARIANTS[0] | {"TILE": "none"}, HERE)


class Faked:
    """An NVRTC that compiles for what the real one of that version does."""

    def __init__(self, major):
        self.version = {12: (12, 9), 13: (13, 0)}[major]
        numbers = {12: (50, 60, 70, 75, 80, 86, 89, 90, 100, 120), 13: (75, 80, 86, 88, 89, 90, 100, 110, 120)}[major]
        self.architectures = {f"sm_{number}" for number in numbers}


@pytest.fixture
def installed(monkeypatch):
    """Return what makes NVRTC of some major versions, and no other, appear installed."""

    def install(*majors):
        monkeypatch.setattr(_nvrtc, "installed_nvrtc", lambda major: Faked(major) if major in majors else None)

    return install


@pytest.mark.parametrize(
    ("capability", "driver", "expected"),
    [(P100, 13000, 12), (V100, 12020, 12), (V100, 13000, 12), (H100, 12040, 12), (H100, 13000, 13), (H100, 13050, 13),
     ((7, 5), 13000, 13), ((7, 5), 12080, 12), ((11, 0), 13000, 13), (H100, 14000, 13)],
)  # fmt: skip
def test_of_both_wheels_the_newest_that_serves_device_and_driver_is_taken(installed, capability, driver, expected):
    installed(12, 13)
    assert nvrtc_for(Target(capability, driver)).version[0] == expected


def test_cuda_12_alone_serves_newer_drivers_too(installed):
    installed(12)
    assert nvrtc_for(HERE).version == (12, 9)


@pytest.mark.parametrize(
    ("majors", "capability", "driver", "message"),
    [
        ((13,), V100, 13000, r"got NVRTC 13\.0, expected 12 for compute capability 7\.0 with a driver for CUDA 13\.0; "
         r"run pip install -U 'nvidia-cuda-nvrtc-cu12>=12\.9,<13', or use device 'cpu'"),
        ((13,), P100, 12020, r"expected 12 for .* 6\.0 .* CUDA 12\.2; run pip install -U 'nvidia-cuda-nvrtc-cu12>="),
        ((13,), H100, 12080, r"expected 12 for .* 9\.0 .* CUDA 12\.8; run pip install -U 'nvidia-cuda-nvrtc-cu12>="),
        ((), H100, 13000, r"got NVRTC none, expected 13 .* run pip install -U 'nvidia-cuda-nvrtc>=13,<14'"),
        ((12,), (11, 0), 13000, r"got NVRTC 12\.9, expected 13 .* run pip install -U 'nvidia-cuda-nvrtc>=13,<14'"),
        ((12, 13), (13, 0), 13000, r"got NVRTC 13\.0 and 12\.9, expected 13 .* pip install -U 'nvidia-cuda-nvrtc>=13"),
        ((12, 13), (11, 0), 12090, r"expected 13 for .* CUDA 12\.9; update the driver to 580 or later"),
        ((12, 13), H100, 11080, r"got a driver for CUDA 11\.8, expected .* 12\.0 .*update the driver to 525 or later"),
        ((12, 13), (3, 7), 12000, r"got compute capability 3\.7 .*, expected compute capability 5\.0 or later"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_the_one_command_that_helps(installed, majors, capability, driver, message):
    installed(*majors)
    with pytest.raises(DeviceError, match=message):
        nvrtc_for(Target(capability, driver))
