"""A CUDA device with the engine's kernels on it: upload, launch, download."""

from __future__ import annotations

import ctypes
import functools
import os
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import DeviceError
from softlabels.geodesic._cuda_driver import (
    CAPABILITY_MAJOR,
    CAPABILITY_MINOR,
    MULTIPROCESSOR_COUNT,
    OUT_OF_MEMORY,
    Driver,
    driver_of,
)
from softlabels.geodesic._nvrtc import Target, compiled_kernels

#: An address in a device's memory.
Pointer: TypeAlias = int
_Scalar = TypeVar("_Scalar", bound=np.generic)


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
        If the driver, the device or an NVRTC for it is missing, or the driver reports an error.
    DeviceFaultError
        If the device failed in the middle of its work.
    """

    def __init__(self, name: str, macros: dict[str, int]) -> None:
        self._name, self._macros = name, macros
        self._memory: list[Pointer] = []

    def __enter__(self) -> CudaDevice:
        process = os.getpid()
        self._driver = driver_of(process, self._name)
        index = self._driver.index_of(self._name)
        context, target, self.n_processors = _primary_context(process, index)
        self._driver.call("cuCtxPushCurrent_v2", context)
        try:
            self._module = _module(process, index, target, tuple(self._macros.items()))
        except BaseException:
            self._pop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # No errors from here: one that happened in the block is the one to report.
        try:
            while self._memory:
                self._driver.status("cuMemFree_v2", self._memory.pop())
        finally:
            self._pop()

    def _pop(self) -> None:
        """Make the context that was current before current again."""
        self._driver.status("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def empty(self, n_bytes: int) -> Pointer:
        """Return a pointer to device memory of any content."""
        pointer = ctypes.c_void_p()
        status = self._driver.status("cuMemAlloc_v2", ctypes.byref(pointer), n_bytes)
        if status == OUT_OF_MEMORY:
            raise DeviceError(
                f"device {self._name!r}: out of memory for {n_bytes / 2**20:.0f} MiB more; solve a crop at a "
                "time, or use device 'cpu'"
            )
        self._driver.check("cuMemAlloc", status)
        address = pointer.value or 0
        self._memory.append(address)
        return address

    def upload(self, array: NDArray[Any]) -> Pointer:
        """Return a pointer to a copy of the array, C-contiguous."""
        pointer = self.empty(array.nbytes)
        self.write(pointer, array)
        return pointer

    def write(self, pointer: Pointer, array: NDArray[Any]) -> None:
        """Copy the array, C-contiguous, to where a pointer leads, after all launches before it."""
        array = np.ascontiguousarray(array)
        self._driver.call("cuMemcpyHtoD_v2", pointer, array.ctypes.data, array.nbytes)

    def download(self, pointer: Pointer, shape: int | tuple[int, ...], dtype: type[_Scalar]) -> NDArray[_Scalar]:
        """Return a copy of what a pointer leads to, after all launches before it."""
        array = np.empty(shape, dtype)
        self._driver.call("cuMemcpyDtoH_v2", array.ctypes.data, pointer, array.nbytes)
        return array

    def free(self, *pointers: Pointer) -> None:
        """Give memory back before the end of the block: that of these pointers, or all."""
        for pointer in pointers or tuple(self._memory):
            self._memory.remove(pointer)
            self._driver.call("cuMemFree_v2", pointer)

    def free_bytes(self) -> int:
        """Return how much memory the device has left."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def launch(self, kernel: str, grid: tuple[int, int], block: int, *arguments: Pointer | np.generic | None) -> None:
        """Start a kernel on `grid` blocks of `block` threads.

        An argument is a pointer of this device, None for a null pointer, or a NumPy scalar of the parameter's type.
        """
        function = self._driver.pointer("cuModuleGetFunction", self._module, kernel.encode())
        values = [np.array(a if isinstance(a, np.generic) else np.uint64(0 if a is None else a)) for a in arguments]
        addresses = np.array([value.ctypes.data for value in values], np.uint64)
        self._driver.call("cuLaunchKernel", function, *grid, 1, block, 1, 1, 0, None, addresses.ctypes.data, None)


@functools.cache
def _primary_context(process: int, index: int) -> tuple[int, Target, int]:
    """Return the primary context of a device in this process, what kernels are compiled for, and its processors."""
    driver = driver_of(process, f"cuda:{index}")
    device = driver.integer("cuDeviceGet", index)
    major, minor, n_processors = (
        driver.integer("cuDeviceGetAttribute", attribute, device)
        for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSOR_COUNT)
    )
    target = Target((major, minor), driver.version())
    return driver.pointer("cuDevicePrimaryCtxRetain", device), target, n_processors


@functools.cache
def _module(process: int, index: int, target: Target, macros: tuple[tuple[str, int], ...]) -> int:
    """Return the kernels for these macros, loaded in the current context, which is that of device `index`."""
    return driver_of(process, f"cuda:{index}").pointer("cuModuleLoadData", compiled_kernels(dict(macros), target))


def device_name(name: str = "cuda") -> str:
    """Return what the card of a device is called, and for which CUDA its driver is."""
    driver: Driver = driver_of(os.getpid(), name)
    text = ctypes.create_string_buffer(128)
    driver.call("cuDeviceGetName", text, len(text), driver.integer("cuDeviceGet", driver.index_of(name)))
    return f"{text.value.decode()}, driver for CUDA {driver.version() // 1000}.{driver.version() % 1000 // 10}"
