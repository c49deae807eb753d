"""NVIDIA's driver, libcuda, as far as the engine calls it.

Its C interface is stable, and twenty functions are called directly. cuda-bindings wraps all of them, but a release of
it serves one major version of the driver, and an environment on a shared disk has to serve nodes with different ones.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import NoReturn

from softlabels.errors import DeviceError, DeviceFaultError

_REMEDY = "run where an NVIDIA GPU with its driver is (on Slurm: ask for one), or use device 'cpu'"

_POINTER, _ADDRESS, _INT, _UINT, _SIZE = (
    ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_uint, ctypes.c_size_t
)  # fmt: skip
_FUNCTIONS = {
    "cuInit": (_UINT,),
    "cuDriverGetVersion": (_POINTER,),
    "cuGetErrorName": (_INT, _POINTER),
    "cuDeviceGetCount": (_POINTER,),
    "cuDeviceGet": (_POINTER, _INT),
    "cuDeviceGetName": (_POINTER, _INT, _INT),
    "cuDeviceGetAttribute": (_POINTER, _INT, _INT),
    "cuDevicePrimaryCtxRetain": (_POINTER, _INT),
    "cuCtxPushCurrent_v2": (_POINTER,),
    "cuCtxPopCurrent_v2": (_POINTER,),
    "cuMemAlloc_v2": (_POINTER, _SIZE),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemGetInfo_v2": (_POINTER, _POINTER),
    "cuMemcpyHtoD_v2": (_ADDRESS, _POINTER, _SIZE),
    "cuMemcpyDtoH_v2": (_POINTER, _ADDRESS, _SIZE),
    "cuModuleLoadData": (_POINTER, _POINTER),
    "cuModuleGetFunction": (_POINTER, _POINTER, ctypes.c_char_p),
    "cuLaunchKernel": (_POINTER, *[_UINT] * 7, _POINTER, _POINTER, _POINTER),
}

OUT_OF_MEMORY = 2
_NOT_INITIALIZED = 3
#: Of CUdevice_attribute.
MULTIPROCESSOR_COUNT, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76

#: After these, says cuda.h, every further call of the process fails in the same way, until the process has ended:
#: errors of memory that cannot be corrected, and kernels that were stopped in the middle.
_FAULTS = {214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719}


class Driver:
    """The driver of this machine, started.

    Parameters
    ----------
    device : str
        What the user calls the device, for messages.

    Raises
    ------
    DeviceError
        If there is no driver, or it does not start; in a process that was forked from one that has used CUDA, too.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        library = _library(device)
        self._functions = {name: getattr(library, name) for name in _FUNCTIONS}
        for name, types in _FUNCTIONS.items():
            self._functions[name].argtypes = types
        status = _NOT_INITIALIZED if _is_forked() else self.status("cuInit", 0)
        if status == _NOT_INITIALIZED:
            raise DeviceError(
                f"device {device!r}: this process was forked from one that had used CUDA, and CUDA works only in the "
                "parent; start it with multiprocessing.get_context('spawn') (torch's DataLoader: "
                "multiprocessing_context='spawn'), or use device 'cpu'"
            )
        if status:
            raise DeviceError(f"device {device!r}: no CUDA driver answers ({self._name(status)}); {_REMEDY}")
        _processes.add(os.getpid())

    def status(self, name: str, *arguments: object) -> int:
        """Call a function and return its status, 0 for success."""
        return int(self._functions[name](*arguments))

    def call(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises
        ------
        DeviceFaultError
            If the device failed in the middle of its work; this process cannot use it again.
        DeviceError
            At any other error.
        """
        self.check(name.removesuffix("_v2"), self.status(name, *arguments))

    def check(self, name: str, status: int) -> None:
        """Raise the error of `call` that a status of a function is."""
        if status in _FAULTS:
            self._raise_fault(self._name(status))
        if status:
            raise DeviceError(
                f"device {self._device!r}: {name} gave {self._name(status)}, expected success; "
                "check the GPU and its driver (nvidia-smi), or use device 'cpu'"
            )

    def _raise_fault(self, name: str) -> NoReturn:
        """Raise DeviceFaultError for the computation that failed, and DeviceError for whatever comes after it."""
        process = os.getpid()
        if process in _faults:
            raise DeviceError(
                f"device {self._device!r}: CUDA does not work in this process any more, since an earlier computation "
                f"was stopped by {_faults[process]}; run this in a new process, or use device 'cpu'"
            )
        _faults[process] = name
        raise DeviceFaultError(
            f"device {self._device!r}: a computation was stopped by {name}, after which CUDA does not work in this "
            "process any more; run it again in a new process, as a retry of the workflow does. If the same input fails "
            "again, use device 'cpu' for it, and please report it"
        )

    def index_of(self, name: str) -> int:
        """Return the index of the device of a name, "cuda" or "cuda:<index>", or raise DeviceError."""
        count = self.integer("cuDeviceGetCount")
        index = name.removeprefix("cuda").removeprefix(":") or "0"
        if count == 0:
            raise DeviceError(f"device {name!r}: the CUDA driver shows no device; {_REMEDY}")
        if not index.isdecimal() or int(index) >= count:
            raise DeviceError(
                f"device {name!r}: got no such device, expected one of cuda:0 .. cuda:{count - 1}; {_REMEDY}"
            )
        return int(index)

    def integer(self, name: str, *arguments: object) -> int:
        """Return the integer that a function gives by its first parameter."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def pointer(self, name: str, *arguments: object) -> int:
        """Return the pointer that a function gives by its first parameter."""
        value = ctypes.c_void_p()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value or 0

    def version(self) -> int:
        """Return the newest version of CUDA that the driver knows, such as 12040 for 12.4."""
        return self.integer("cuDriverGetVersion")

    def _name(self, status: int) -> str:
        """Return the name of a status, such as "CUDA_ERROR_NO_DEVICE"."""
        name = ctypes.c_char_p()
        self.status("cuGetErrorName", status, ctypes.byref(name))
        return name.value.decode() if name.value else f"error {status}"


def _library(device: str) -> ctypes.CDLL:
    """Return libcuda, which comes with the driver."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceError(f"device {device!r}: no CUDA driver answers ({error}); {_REMEDY}") from error


#: The processes, this one or those that it was forked from, in which the engine has started the driver.
_processes: set[int] = set()
#: By process: the fault that has ended CUDA in it.
_faults: dict[int, str] = {}


def _is_forked() -> bool:
    """Return whether the engine used CUDA in a process that this one was forked from, and not in this one."""
    return bool(_processes) and os.getpid() not in _processes


@functools.cache
def driver_of(process: int, device: str) -> Driver:
    """Return the driver for a process, which is this one."""
    return Driver(device)
