"""The CUDA engine without a GPU: `cuda_on_cpu/` is a libcuda.so.1 that runs the kernels' own text as C++.

`build_driver` makes it in a folder, and SOFTLABELS_CUDA_ON_CPU names that folder to the processes that use it. They
either find the library by LD_LIBRARY_PATH, or load it by `install`.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from softlabels.geodesic import _cuda_device, _nvrtc

SOURCES = Path(__file__).resolve().parent / "cuda_on_cpu"
FOLDER = os.environ.get("SOFTLABELS_CUDA_ON_CPU")
_FLAGS = ["-shared", "-fPIC", "-O1", "-std=c++17"]


def build_driver(folder: Path) -> Path:
    """Build libcuda.so.1 in a folder and return the folder, or skip."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to build the emulated driver with")
    more = ["-Wl,-soname,libcuda.so.1", "-pthread"]
    command = ["g++", *_FLAGS, *more, str(SOURCES / "libcuda.cpp"), "-o", str(folder / "libcuda.so.1"), "-ldl"]
    subprocess.run(command, check=True)
    return folder


def compile_for_cpu(macros: dict, *_) -> bytes:
    """Return what the emulated driver takes for a cubin: the path of the kernels as a library, built if need be."""
    names = sorted(macros.items())
    library = Path(FOLDER, "kernels-" + "-".join(str(value) for _, value in names) + ".so")
    if not library.exists():
        kernels = _nvrtc._KERNELS
        flags = [*_FLAGS, "-ffp-contract=off", f"-I{kernels}", *(f"-D{n}={v}" for n, v in names)]
        # Several jobs may build it at once.
        part = f"{library}.{os.getpid()}"
        subprocess.run(["g++", *flags, str(SOURCES / "kernels.cpp"), "-o", part], check=True)
        os.replace(part, library)
    return str(library).encode() + b"\0"


def install() -> None:
    """Make this process one that has the emulated driver: a library of that name is not loaded twice."""
    ctypes.CDLL(str(Path(FOLDER, "libcuda.so.1")))
    _cuda_device.compiled_kernels = compile_for_cpu
