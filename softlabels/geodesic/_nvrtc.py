"""The kernels, compiled for a device by NVRTC, NVIDIA's compiler of CUDA C++ at run time.

Neither nvcc nor a host compiler is needed, nor a GPU. NVRTC 13 compiles for compute capability 7.5 and later, and its
code is for drivers that know CUDA 13 (580 and later); NVRTC 12 compiles for 5.0 and later, for drivers that know CUDA
12 (525 and later). Both wheels may be installed, and each device gets the newest one that serves it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from softlabels._shared.cache import PrivateCache
from softlabels.errors import DeviceError

_KERNELS = Path(__file__).with_name("kernels")

#: What makes the bits those of the CPU: no contraction, no flush to zero, IEEE division and root.
_FLAGS = ("-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")

#: By major version, the newest first: the folder of the wheel within the package `nvidia`, and what pip calls it.
_WHEELS = {
    13: ("cu13/lib", "nvidia-cuda-nvrtc>=13,<14"),
    12: ("cuda_nvrtc/lib", "nvidia-cuda-nvrtc-cu12>=12.9,<13"),
}
_OLDEST_DRIVER = 12000
_OLDEST_CAPABILITY_OF_13 = (7, 5)
_OLDEST_CAPABILITY_OF_12 = (5, 0)


@dataclass(frozen=True)
class Target:
    """What kernels are compiled for.

    Attributes
    ----------
    capability : (int, int)
        Compute capability of the device, such as (9, 0).
    driver : int
        The newest version of CUDA that the driver knows, such as 12040 for 12.4.

    Examples
    --------
    >>> Target((7, 0), 12040).architecture
    'sm_70'
    """

    capability: tuple[int, int]
    driver: int

    @property
    def architecture(self) -> str:
        """As NVRTC calls it."""
        return "sm_{}{}".format(*self.capability)

    def __str__(self) -> str:
        major, minor = self.capability
        return f"compute capability {major}.{minor} with a driver for CUDA {_version_of(self.driver)}"


def compiled_kernels(macros: dict[str, int], target: Target, kind: str = "cubin") -> bytes:
    """Return the kernels compiled with these macros for a target, as "cubin" or "ptx".

    The code is kept in the user's cache (`softlabels._shared.cache`), under a key of the sources, the flags and the
    version of NVRTC, and is used again by every process that sees the same home.

    Raises
    ------
    DeviceError
        If no installed NVRTC serves the target; the message names the one command that helps.
    """
    nvrtc = nvrtc_for(target)
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(_KERNELS.glob("*.cu*"))}
    flags = [*_FLAGS, f"-arch={target.architecture}", *(f"-D{name}={value}" for name, value in macros.items())]
    key = hashlib.sha256(repr((sources, flags, nvrtc.version, kind)).encode()).hexdigest()
    cache, name = PrivateCache("cubins"), f"{key}.{kind}"
    code = cache.load(name)
    if code is None:
        code = nvrtc.compile(sources, flags, kind)
        cache.save(name, code)
    return code


def nvrtc_for(target: Target) -> Nvrtc:
    """Return the newest installed NVRTC whose code runs on a target, or raise DeviceError."""
    if target.driver < _OLDEST_DRIVER:
        raise DeviceError(
            f"device 'cuda': got a driver for CUDA {_version_of(target.driver)}, expected one for CUDA 12.0 or later; "
            "update the driver to 525 or later, or use device 'cpu'"
        )
    if target.capability < _OLDEST_CAPABILITY_OF_12:
        raise DeviceError(f"device 'cuda': got {target}, expected compute capability 5.0 or later; use device 'cpu'")
    installed = [nvrtc for nvrtc in map(installed_nvrtc, _WHEELS) if nvrtc is not None]
    for nvrtc in installed:
        if nvrtc.version[0] <= target.driver // 1000 and target.architecture in nvrtc.architectures:
            return nvrtc
    is_old = target.driver < 13000 or target.capability < _OLDEST_CAPABILITY_OF_13
    major = 12 if is_old else 13
    found = " and ".join("{}.{}".format(*nvrtc.version) for nvrtc in installed) or "none"
    remedy = f"run pip install -U '{_WHEELS[major][1]}'"
    if target.driver < 13000 and any(nvrtc.version >= (12, 9) for nvrtc in installed if nvrtc.version[0] == 12):
        major, remedy = 13, "update the driver to 580 or later"  # 12.9 was the last of its kind
    raise DeviceError(f"device 'cuda': got NVRTC {found}, expected {major} for {target}; {remedy}, or use device 'cpu'")


@functools.cache
def installed_nvrtc(major: int) -> Nvrtc | None:
    """Return NVRTC of a major version: that of the wheel, or else the one that the dynamic loader finds."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else list(spec.submodule_search_locations or [])
    name = f"libnvrtc.so.{major}"
    for folder in (Path(root, _WHEELS[major][0]) for root in roots):
        if (folder / name).exists():
            # NVRTC 13 looks for its built-in functions by name alone, and so finds them if they are loaded.
            for builtins in folder.glob(f"libnvrtc-builtins.so.{major}.*"):
                ctypes.CDLL(str(builtins))
            return Nvrtc(ctypes.CDLL(str(folder / name)))
    try:
        return Nvrtc(ctypes.CDLL(name))
    except OSError:
        return None


class Nvrtc:
    """A loaded NVRTC.

    Attributes
    ----------
    version : (int, int)
    architectures : frozenset of str
        What it compiles for, such as "sm_90".
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        self.version = (major.value, minor.value)
        self.architectures = frozenset(f"sm_{number}" for number in numbers)

    def compile(self, sources: dict[str, str], flags: list[str], kind: str) -> bytes:
        """Return what it makes of geodesic.cu and the headers beside it, as "cubin" or "ptx"."""
        headers = {name: text.encode() for name, text in sources.items() if name != "geodesic.cu"}
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            sources["geodesic.cu"].encode(),
            b"geodesic.cu",
            len(headers),
            _strings(list(headers.values())),
            _strings([name.encode() for name in headers]),
        )
        try:
            status = self._library.nvrtcCompileProgram(program, len(flags), _strings([flag.encode() for flag in flags]))
            if status != 0:
                log = self._text("nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace").strip()
                first = (log.splitlines() or [self._name(status)])[0]
                raise DeviceError(
                    f"CUDA kernels: NVRTC {'{}.{}'.format(*self.version)} refused {' '.join(flags)} with {first!r}; "
                    "please report it, and use device 'cpu'"
                )
            return self._text({"cubin": "nvrtcGetCUBIN", "ptx": "nvrtcGetPTX"}[kind], program)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, name: str, program: ctypes.c_void_p) -> bytes:
        """Return what a function of that name gives, of the size that its companion gives."""
        size = ctypes.c_size_t()
        self._call(f"{name}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(name, program, text)
        return text.raw

    def _call(self, name: str, *arguments: object) -> None:
        """Call a function, or raise DeviceError if it fails."""
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise DeviceError(f"CUDA kernels: {name} gave {self._name(status)}, expected success; use device 'cpu'")

    def _name(self, status: int) -> str:
        """Return the name of a status."""
        return str(self._library.nvrtcGetErrorString(status).decode())


def _strings(values: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """Return an array of C strings."""
    return (ctypes.c_char_p * len(values))(*values)


def _version_of(number: int) -> str:
    """Return a version of CUDA as people write it: 12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"
