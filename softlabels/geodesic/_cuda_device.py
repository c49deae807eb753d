"""A CUDA device with the engine's kernels on it: compile, upload, launch, download.

NVRTC compiles CUDA C++ when it is first needed; neither nvcc nor a host compiler is needed. Both NVRTC and the driver
are called through cuda-bindings, NVIDIA's wrapper of its stable C interface: cuda-core would add a younger layer that
needs it all the same, CuPy a second array library.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.cache import PrivateCache
from softlabels.errors import DeviceError

#: Of cuda-bindings, which has no types: memory of a device, and any other value that a call gives.
Pointer: TypeAlias = Any
_Value: TypeAlias = Any
_Scalar = TypeVar("_Scalar", bound=np.generic)

_KERNELS = Path(__file__).with_name("kernels")
_INSTALL = "pip install 'softlabels[cuda]', or use device 'cpu'"
_REMEDY = "run where an NVIDIA GPU with its driver is (on Slurm: ask for one), or use device 'cpu'"

#: What makes the bits those of the CPU: no contraction, no flush to zero, IEEE division and root.
_FLAGS = ("-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")


def compiled_kernels(macros: dict[str, int], architecture: str, kind: str = "cubin") -> bytes:
    """Return the kernels compiled with these macros for an architecture such as "sm_90", as "cubin" or "ptx".

    Needs NVRTC but no GPU. The code is kept in the user's cache (`softlabels._shared.cache`), under a key of the
    sources, the flags and the version of NVRTC, and is used again by every process that sees the same home.
    """
    nvrtc = _imported("nvrtc")
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(_KERNELS.glob("*.cu*"))}
    flags = [*_FLAGS, f"-arch={architecture}", *(f"-D{name}={value}" for name, value in macros.items())]
    try:
        version = _checked(nvrtc, nvrtc.nvrtcVersion())
    except RuntimeError as error:
        raise DeviceError(f"device 'cuda': no NVRTC answers ({error}); {_INSTALL}") from error
    key = hashlib.sha256(repr((sources, flags, version, kind)).encode()).hexdigest()
    cache, name = PrivateCache("cubins"), f"{key}.{kind}"
    code = cache.load(name)
    if code is None:
        code = _compile(nvrtc, sources, flags, kind)
        cache.save(name, code)
    return code


def _compile(nvrtc: ModuleType, sources: dict[str, str], flags: list[str], kind: str) -> bytes:
    """Return what NVRTC makes of geodesic.cu and the headers beside it."""
    headers = {name: text.encode() for name, text in sources.items() if name != "geodesic.cu"}
    program = _checked(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            sources["geodesic.cu"].encode(),
            b"geodesic.cu",
            len(headers),
            list(headers.values()),
            [name.encode() for name in headers],
        ),
    )
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), [flag.encode() for flag in flags])
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = b" " * _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
            _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
            first = log.rstrip(b"\0 ").decode().strip().splitlines() or [status.name]
            raise DeviceError(
                f"CUDA kernels: NVRTC refused {' '.join(flags)} with {first[0]!r}; install an NVRTC that knows this "
                "device (pip install -U nvidia-cuda-nvrtc), or use device 'cpu'"
            )
        size, get = {
            "cubin": (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN),
            "ptx": (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX),
        }[kind]
        code = b" " * _checked(nvrtc, size(program))
        _checked(nvrtc, get(program, code))
        return code
    finally:
        nvrtc.nvrtcDestroyProgram(program)


class CudaDevice:
    """One device for the time of a `with` block; all memory taken in it is given back at its end.

    It works in the device's primary context, which it shares with torch and CuPy, and leaves the thread's current
    context as it was. That context and the loaded kernels stay for the life of the process: to make them takes longer
    than to solve a volume. Launches and copies are in order.

    Parameters
    ----------
    name : str
        "cuda" or "cuda:<index>".
    macros : dict
        FORM, CHANNELS and TILE of the kernels.

    Raises
    ------
    DeviceError
        If cuda-bindings, NVRTC, the driver or the device is missing, or the driver reports an error.
    """

    def __init__(self, name: str, macros: dict[str, int]) -> None:
        self._driver = _imported("driver")
        self._name, self._macros = name, macros
        self._memory: list[Pointer] = []

    def __enter__(self) -> CudaDevice:
        driver, index = self._driver, _device_index(self._driver, self._name)
        context, architecture = _primary_context(index)
        _checked(driver, driver.cuCtxPushCurrent(context))
        try:
            self._module = _module(index, architecture, tuple(self._macros.items()))
        except DeviceError:
            driver.cuCtxPopCurrent()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # No errors from here: one that happened in the block is the one to report.
        for pointer in self._memory:
            self._driver.cuMemFree(pointer)
        self._driver.cuCtxPopCurrent()

    def empty(self, n_bytes: int) -> Pointer:
        """Return a pointer to device memory of any content."""
        error, pointer = self._driver.cuMemAlloc(n_bytes)
        if error == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise DeviceError(
                f"device {self._name!r}: out of memory for {n_bytes / 2**20:.0f} MiB more; solve a crop at a "
                "time, or use device 'cpu'"
            )
        _checked(self._driver, (error, pointer))
        self._memory.append(pointer)
        return pointer

    def upload(self, array: NDArray[Any]) -> Pointer:
        """Return a pointer to a copy of the array, C-contiguous."""
        pointer = self.empty(array.nbytes)
        self.write(pointer, array)
        return pointer

    def write(self, pointer: Pointer, array: NDArray[Any]) -> None:
        """Copy the array, C-contiguous, to where a pointer leads, after all launches before it."""
        array = np.ascontiguousarray(array)
        _checked(self._driver, self._driver.cuMemcpyHtoD(pointer, array.ctypes.data, array.nbytes))

    def download(self, pointer: Pointer, shape: int | tuple[int, ...], dtype: type[_Scalar]) -> NDArray[_Scalar]:
        """Return a copy of what a pointer leads to, after all launches before it."""
        array = np.empty(shape, dtype)
        _checked(self._driver, self._driver.cuMemcpyDtoH(array.ctypes.data, pointer, array.nbytes))
        return array

    def free(self, *pointers: Pointer) -> None:
        """Give memory back before the end of the block: that of these pointers, or all."""
        for pointer in pointers or tuple(self._memory):
            self._memory.remove(pointer)
            _checked(self._driver, self._driver.cuMemFree(pointer))

    def free_bytes(self) -> int:
        """Return how much memory the device has left."""
        return _checked(self._driver, self._driver.cuMemGetInfo())[0]

    def launch(self, kernel: str, grid: tuple[int, int], block: int, *arguments: Pointer | np.generic | None) -> None:
        """Start a kernel on `grid` blocks of `block` threads.

        An argument is a pointer of this device, None for a null pointer, or a NumPy scalar of the parameter's type.
        """
        driver = self._driver
        function = _checked(driver, driver.cuModuleGetFunction(self._module, kernel.encode()))
        values = [
            np.array(a if isinstance(a, np.generic) else np.uint64(0 if a is None else int(a))) for a in arguments
        ]
        addresses = np.array([value.ctypes.data for value in values], np.uint64)
        _checked(driver, driver.cuLaunchKernel(function, *grid, 1, block, 1, 1, 0, 0, addresses.ctypes.data, 0))


def _device_index(driver: ModuleType, name: str) -> int:
    """Return the index of the device of that name, or raise DeviceError if there is none."""
    try:
        _checked(driver, driver.cuInit(0))
        count = _checked(driver, driver.cuDeviceGetCount())
    except RuntimeError as error:
        raise DeviceError(f"device {name!r}: no CUDA driver answers ({error}); {_REMEDY}") from error
    index = name.removeprefix("cuda").removeprefix(":") or "0"
    if count == 0:
        raise DeviceError(f"device {name!r}: the CUDA driver shows no device; {_REMEDY}")
    if not index.isdecimal() or int(index) >= count:
        raise DeviceError(f"device {name!r}: got no such device, expected one of cuda:0 .. cuda:{count - 1}; {_REMEDY}")
    return int(index)


@functools.cache
def _primary_context(index: int) -> tuple[_Value, str]:
    """Return the primary context of a device and its architecture, such as "sm_90"."""
    driver = _imported("driver")
    device = _checked(driver, driver.cuDeviceGet(index))
    attribute = driver.CUdevice_attribute
    capability = (
        attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
        attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    )
    major, minor = (_checked(driver, driver.cuDeviceGetAttribute(a, device)) for a in capability)
    return _checked(driver, driver.cuDevicePrimaryCtxRetain(device)), f"sm_{major}{minor}"


@functools.cache
def _module(index: int, architecture: str, macros: tuple[tuple[str, int], ...]) -> _Value:
    """Return the kernels for these macros, loaded in the current context, which is that of device `index`."""
    driver = _imported("driver")
    return _checked(driver, driver.cuModuleLoadData(compiled_kernels(dict(macros), architecture)))


def _imported(name: str) -> ModuleType:
    """Return cuda.bindings.driver or cuda.bindings.nvrtc."""
    try:
        from cuda.bindings import driver, nvrtc
    except ImportError as error:
        raise DeviceError(f"device 'cuda': {error}; it needs cuda-bindings and NVRTC: {_INSTALL}") from error
    return {"driver": driver, "nvrtc": nvrtc}[name]


def _checked(library: ModuleType, answer: tuple[_Value, ...]) -> _Value:
    """Return what a call of the driver or NVRTC gave, or raise DeviceError if that is an error."""
    status, *values = answer
    if int(status) != 0:
        raise DeviceError(
            f"CUDA: got {status.name}, expected success; check the GPU and its driver, or use device 'cpu'"
        )
    return values[0] if len(values) == 1 else tuple(values)
