"""What surrounds the kernels: the driver's errors, forks, and the context, which is as it was whatever happens."""

import ctypes
import multiprocessing

import numpy as np
import pytest
from helpers import emulated_cuda

from softlabels.errors import DeviceError, DeviceFaultError
from softlabels.geodesic import _cuda_device, _cuda_driver, geodesic_distance
from softlabels.geodesic._cuda_device import CudaDevice, device_name
from softlabels.geodesic._nvrtc import Target

only_emulated = pytest.mark.skipif(
    not emulated_cuda.FOLDER, reason="only the emulated driver can be watched so closely and can be made to fail"
)
ARGUMENTS = np.zeros((2, 30, 30)), np.ones((2, 30, 30), bool), (1, 1, 1)
MACROS = {"FORM": 0, "CHANNELS": 1, "TILE": 16}


def held() -> int:
    """Return how much memory is taken and how many contexts are pushed."""
    return ctypes.CDLL("libcuda.so.1").cuda_on_cpu_held()


@pytest.fixture
def afresh():
    """Ask the driver anew what the device is, for this test and those after it."""
    kept = (_cuda_device._primary_context, _cuda_device._module, _cuda_driver.driver_of)
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()


@pytest.mark.gpu
def test_the_device_has_a_name(cuda):
    name, _, version = device_name(cuda).partition(", driver for CUDA ")
    assert name and 12 <= float(version) < 100


@pytest.mark.gpu
@only_emulated
@pytest.mark.parametrize(("capability", "driver"), [("70", "12040"), ("60", "13000"), ("120", "13010")])
def test_kernels_are_compiled_for_the_device_and_driver_found(cuda, afresh, monkeypatch, capability, driver):
    monkeypatch.setenv("CUDA_ON_CPU_CAPABILITY", capability)
    monkeypatch.setenv("CUDA_ON_CPU_DRIVER", driver)
    targets = []
    compiled = _cuda_device.compiled_kernels
    monkeypatch.setattr(_cuda_device, "compiled_kernels", lambda m, target: targets.append(target) or compiled(m))
    geodesic_distance(*ARGUMENTS, device=cuda)
    assert targets == [Target(divmod(int(capability), 10), int(driver))]


@pytest.mark.gpu
@only_emulated
def test_a_driver_that_is_too_old_is_an_error_and_leaves_no_context(cuda, afresh, monkeypatch):
    from softlabels.geodesic._nvrtc import compiled_kernels

    monkeypatch.setenv("CUDA_ON_CPU_DRIVER", "11040")
    monkeypatch.setattr(_cuda_device, "compiled_kernels", compiled_kernels)
    with pytest.raises(DeviceError, match=r"got a driver for CUDA 11\.4.*update the driver to 525"):
        geodesic_distance(*ARGUMENTS, device=cuda)
    assert held() == 0


@pytest.mark.gpu
@only_emulated
def test_everything_taken_is_given_back(cuda, monkeypatch):
    geodesic_distance(*ARGUMENTS, device=cuda, return_certificate=True)
    assert held() == 0
    monkeypatch.setenv("CUDA_ON_CPU_MEMORY", "4000")
    with pytest.raises(DeviceError, match="out of memory for 0 MiB more; solve a crop"):
        geodesic_distance(*ARGUMENTS, device=cuda)
    assert held() == 0


@pytest.mark.gpu
@only_emulated
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_the_context_is_popped_whatever_ends_the_loading_of_kernels(cuda, afresh, monkeypatch, error):
    def failing(*_):
        raise error

    monkeypatch.setattr(_cuda_device, "compiled_kernels", failing)
    with pytest.raises(error):
        geodesic_distance(*ARGUMENTS, device=cuda)
    assert held() == 0


@pytest.mark.gpu
@only_emulated
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_the_context_is_popped_and_memory_given_back_whatever_ends_the_block(cuda, monkeypatch, error):
    def failing(*_):
        raise error

    monkeypatch.setattr(CudaDevice, "download", failing)
    with pytest.raises(error):
        geodesic_distance(*ARGUMENTS, device=cuda, return_certificate=True)
    assert held() == 0


@pytest.fixture
def faulty(monkeypatch):
    """Return what makes the device fail when it starts a kernel; it works again after the test."""
    yield lambda kernel: monkeypatch.setenv("CUDA_ON_CPU_FAULT", kernel)
    ctypes.CDLL("libcuda.so.1").cuda_on_cpu_heal()
    _cuda_driver._faults.clear()


@pytest.mark.gpu
@only_emulated
@pytest.mark.parametrize("kernel", ["scale_image", "relax", "finish", "judge", "flood"])
def test_a_fault_of_the_device_ends_cuda_in_this_process_and_says_so(cuda, faulty, monkeypatch, kernel):
    faulty(kernel)
    with pytest.raises(DeviceFaultError, match="stopped by CUDA_ERROR_ILLEGAL_ADDRESS, .* again in a new process"):
        geodesic_distance(*ARGUMENTS, device=cuda, return_certificate=True)
    assert held() == 0
    monkeypatch.delenv("CUDA_ON_CPU_FAULT")
    with pytest.raises(
        DeviceError, match="does not work in this process any more, since an earlier .*ILLEGAL"
    ) as later:
        geodesic_distance(*ARGUMENTS, device=cuda)
    assert not isinstance(later.value, DeviceFaultError)
    assert held() == 0


@pytest.mark.gpu
@only_emulated
@pytest.mark.parametrize("is_known", [True, False], ids=["used-here", "used-by-another-library"])
def test_a_forked_process_is_told_that_it_was_forked(cuda, monkeypatch, is_known):
    geodesic_distance(*ARGUMENTS, device=cuda)
    if not is_known:
        monkeypatch.setattr(_cuda_driver, "_processes", set())

    def child(queue):
        try:
            geodesic_distance(*ARGUMENTS, device=cuda)
        except DeviceError as error:
            queue.put(str(error))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and not queue.empty()
    message = queue.get()
    assert "'cuda': this process was forked from one that had used CUDA" in message
    assert "multiprocessing.get_context('spawn')" in message
    assert geodesic_distance(*ARGUMENTS, device=cuda).sum() == 0


@pytest.mark.gpu
def test_the_flood_counts_beyond_32_bits(cuda):
    line = np.zeros((1, 1, 3), np.float32)
    with CudaDevice(cuda, MACROS) as gpu:
        scaled, lengths, known = gpu.upload(line), gpu.upload(np.zeros(8, np.float32)), gpu.upload(np.uint8([1, 0, 0]))
        count = gpu.upload(np.uint64([2**32 - 1]))
        weights, sizes = (np.float32(0), np.float32(1)), (np.int32(1), np.int32(1), np.int32(3))
        for _ in range(2):
            gpu.launch("flood", (1, 1), 32, scaled, scaled, lengths, *weights, *sizes, known, count)
        assert gpu.download(count, 1, np.uint64)[0] == 2**32 + 1
        assert gpu.download(known, 3, np.uint8).tolist() == [1, 1, 1]
