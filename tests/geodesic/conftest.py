"""A CUDA device for the tests marked gpu: a real one, or the emulated driver's."""

import pytest
from helpers import emulated_cuda

from softlabels.errors import DeviceError
from softlabels.geodesic import _cuda_device


@pytest.fixture
def cuda(monkeypatch):
    """Return the name of a CUDA device, or skip."""
    if emulated_cuda.FOLDER:
        monkeypatch.setattr(_cuda_device, "compiled_kernels", emulated_cuda.compile_for_cpu)
    try:
        with _cuda_device.CudaDevice("cuda", {"FORM": 0, "CHANNELS": 1, "TILE": 16}):
            return "cuda"
    except DeviceError as error:
        pytest.skip(f"no CUDA device ({str(error).split(':')[1].split('(')[0].strip()})")
