"""The CUDA engine gives the CPU's bits. Tests marked gpu need a device; without one they run on an emulated driver.

`cuda_on_cpu/` holds a libcuda.so.1 without a device, which runs the kernels' own text as C++. The last tests of this
file start pytest once more with it, for the tests marked gpu. Races between the threads of a block are looked for by
ThreadSanitizer. What that leaves open is the machine code and its timing: on a machine with a GPU run
`pytest -m gpu tests/geodesic/test_cuda.py`, the same under `compute-sanitizer --tool memcheck` (then racecheck,
synccheck, initcheck), and `python benchmarks/geodesic_cuda.py`.
"""

import itertools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, emulated_cuda
from helpers.real_volumes import real_volumes

from softlabels.errors import CertificateError, DeviceError
from softlabels.geodesic import _cuda, _cuda_device, distances_for_distribution, geodesic_distance
from softlabels.geodesic._certify import certify_problem
from softlabels.geodesic._problem import checked_problem
from softlabels.geodesic._reference import solve_reference
from softlabels.geodesic.metric import METRICS

HELPERS = ROOT / "tests" / "helpers"
EMULATED = emulated_cuda.FOLDER
VARIANTS = [
    {"FORM": form, "CHANNELS": channels, "TILE": side}
    for form in (0, 1, 2)
    for channels, side in ((1, 16), (11, 8), (55, 4))
]


def problem_of(image, seeds, spacing=(1, 1, 1), *, metric="sum", lamb=0.5, gamma=1.0, domain=None, cap=None):
    return checked_problem(image, seeds, spacing, metric=metric, lamb=lamb, gamma=gamma, domain=domain, cap=cap)


only_emulated = pytest.mark.skipif(not EMULATED, reason="only the emulated driver can be watched so closely")


@pytest.fixture
def cuda(monkeypatch):
    """Return the name of a CUDA device, or skip."""
    if EMULATED:
        monkeypatch.setattr(_cuda_device, "compiled_kernels", emulated_cuda.compile_for_cpu)
    try:
        with _cuda_device.CudaDevice("cuda", {"FORM": 0, "CHANNELS": 1, "TILE": 16}):
            return "cuda"
    except DeviceError as error:
        pytest.skip(f"no CUDA device ({str(error).split(':')[1].split('(')[0].strip()})")


@pytest.fixture(scope="module")
def needs_nvrtc():
    """Skip where NVRTC is not installed."""
    try:
        _cuda_device.compiled_kernels({"FORM": 0, "CHANNELS": 1, "TILE": 4}, "sm_90", "ptx")
    except DeviceError as error:
        if "no NVRTC" not in str(error) and "cuda-bindings" not in str(error):
            raise
        pytest.skip(f"NVRTC is not installed: {error}")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the folder of an empty cache of cubins."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "softlabels" / "cubins"


# Without a device


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("macros", VARIANTS, ids=lambda m: "-".join(map(str, m.values())))
def test_every_kernel_compiles_without_a_gpu(needs_nvrtc, macros, architecture):
    assert _cuda_device.compiled_kernels(macros, architecture)[:4] == b"\x7fELF"


@pytest.mark.parametrize("form", [0, 1, 2])
def test_no_operation_is_fused_approximated_or_flushed(needs_nvrtc, form):
    ptx = _cuda_device.compiled_kernels({"FORM": form, "CHANNELS": 2, "TILE": 8}, "sm_90", "ptx").decode()
    assert "relax(" in ptx and "add.rn.f32" in ptx
    assert not any(word in ptx for word in ("fma.rn", "mad.f32", "mad.rn.f32", ".ftz", ".approx"))
    assert ("sqrt.rn.f32" in ptx) == (form != 0)
    assert ("div.rn.f32" in ptx) == (form == 2)


def test_a_cubin_is_compiled_once(needs_nvrtc, cache, monkeypatch):
    first = _cuda_device.compiled_kernels(VARIANTS[0], "sm_90")
    assert [path.suffix for path in cache.iterdir()] == [".cubin"]
    monkeypatch.setattr(_cuda_device, "_compile", None)
    assert _cuda_device.compiled_kernels(VARIANTS[0], "sm_90") == first


def test_a_damaged_cubin_is_compiled_again(needs_nvrtc, cache):
    first = _cuda_device.compiled_kernels(VARIANTS[0], "sm_90")
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], b"no newline", whole[:100] + b"?" + whole[101:]):
        path.write_bytes(damaged)
        assert _cuda_device.compiled_kernels(VARIANTS[0], "sm_90") == first
        assert path.read_bytes() == whole


def test_other_sources_or_flags_are_another_cubin(needs_nvrtc, cache, tmp_path, monkeypatch):
    _cuda_device.compiled_kernels(VARIANTS[0], "sm_90")
    _cuda_device.compiled_kernels(VARIANTS[0], "sm_80")
    _cuda_device.compiled_kernels(VARIANTS[3], "sm_90")
    kernels = shutil.copytree(_cuda_device._KERNELS, tmp_path / "kernels")
    (kernels / "block.cuh").write_text((kernels / "block.cuh").read_text() + "\n// new\n")
    monkeypatch.setattr(_cuda_device, "_KERNELS", kernels)
    _cuda_device.compiled_kernels(VARIANTS[0], "sm_90")
    assert len(list(cache.iterdir())) == 4


def test_a_cache_that_cannot_be_written_is_done_without(needs_nvrtc, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="compiled anew in each process"):
        assert _cuda_device.compiled_kernels(VARIANTS[0], "sm_90")[:4] == b"\x7fELF"


def test_an_unknown_architecture_is_a_device_error(needs_nvrtc):
    with pytest.raises(DeviceError, match="NVRTC refused .*-arch=sm_1 .*install an NVRTC"):
        _cuda_device.compiled_kernels(VARIANTS[0], "sm_1")


def test_missing_bindings_are_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(DeviceError, match=r"cuda.bindings.*pip install 'softlabels\[cuda\]'"):
        geodesic_distance(np.zeros((1, 1, 2)), np.ones((1, 1, 2), bool), (1, 1, 1), device="cuda")


def test_a_missing_device_is_an_error_and_no_cpu_run():
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    from cuda.bindings import driver

    try:
        if driver.cuInit(0)[0] == 0:
            pytest.skip("this machine has a CUDA driver")
    except RuntimeError:
        pass
    with pytest.raises(DeviceError, match="no CUDA driver answers.*or use device 'cpu'"):
        geodesic_distance(np.zeros((1, 1, 2)), np.ones((1, 1, 2), bool), (1, 1, 1), device="cuda")


def test_too_many_channels_are_refused_with_the_limit():
    problem = problem_of(np.zeros((56, 1, 1, 2), np.float32), np.ones((1, 1, 2), bool))
    with pytest.raises(DeviceError, match="got 56 channels, expected at most 55"):
        _cuda.solve_on_cuda(problem)


def test_rounds_that_do_not_end_are_an_error():
    class Restless:
        """A device on which every round finds a tile awake."""

        def download(self, pointer, shape, dtype):
            return np.ones(shape, dtype)

        def __getattr__(self, name):
            return lambda *_: None

    with pytest.raises(CertificateError, match="still change after 16 rounds over 6 voxels"):
        _cuda._solve(problem_of(np.zeros((1, 2, 3)), np.ones((1, 2, 3), bool)), Restless())


def test_no_thread_reads_what_another_one_of_its_block_writes_between_two_barriers(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++ to build the kernels for ThreadSanitizer with")
    flags = ["-fsanitize=thread", "-g", "-O1", "-std=c++17", "-ffp-contract=off", f"-I{_cuda_device._KERNELS}"]
    source, program = HELPERS / "cuda_on_cpu" / "races.cpp", tmp_path / "races"
    command = ["g++", *flags, "-DFORM=2", "-DCHANNELS=2", "-DTILE=4", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "tsan" in built.stderr:
        pytest.skip(f"g++ has no ThreadSanitizer: {built.stderr.splitlines()[0]}")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not run on this kernel")
    assert done.returncode == 0, done.stdout + done.stderr[:3000]
    assert "0 faults" in done.stdout


# On a device


def cases():
    """Yield image, seeds and the options of `checked_problem`, over all that an engine has to get right."""
    rng = np.random.default_rng(11)
    shapes = [(1, 1, 1), (1, 1, 40), (1, 37, 1), (33, 1, 1), (1, 19, 35), (17, 1, 18), (5, 7, 9), (16, 16, 16),
              (17, 33, 20), (35, 18, 19)]  # fmt: skip
    for index, shape in enumerate(shapes):
        for metric in METRICS:
            for lamb in (0.0, 0.5, 1.0) if metric != "pythagorean" else (0.5,):
                n_channels = 1 + index % 2
                image = rng.integers(0, 4, (n_channels, *shape)) if index % 3 else rng.normal(size=(n_channels, *shape))
                seeds = rng.random((1 + index % 3, *shape)) < rng.choice([0.003, 0.05])
                seeds.reshape(len(seeds), -1)[0, rng.integers(seeds[0].size)] = True
                options = {"metric": metric, "lamb": lamb, "gamma": 1.7, "spacing": (5.0, 0.7, 1.0 + 0.3 * index)}
                if index % 2:
                    options["domain"] = rng.random(shape) < 0.8
                if index % 4 == 3:
                    options["cap"] = 4.5
                yield image, seeds, options


@pytest.mark.gpu
def test_cuda_is_dijkstra_bit_for_bit(cuda):
    for image, seeds, options in cases():
        problem = problem_of(image, seeds, **options)
        distance, _, _ = _cuda.solve_on_cuda(problem, cuda)
        assert np.array_equal(distance, solve_reference(problem)), (image.shape, options)


@pytest.mark.gpu
def test_distances_for_a_distribution_are_those_of_the_cpu(cuda):
    rng = np.random.default_rng(3)
    image = rng.normal(size=(2, 9, 14, 17)).astype(np.float32)
    seeds = rng.random((4, *image.shape[1:])) < 0.004
    seeds[:, 4, 7, 8], seeds[2] = [True, False, False, True], False
    for options in ({}, {"domain": rng.random(image.shape[1:]) < 0.8}):
        near, expected = (
            distances_for_distribution(image, seeds, (2, 1, 1), 4.0, metric="pythagorean", **options, device=device)
            for device in (cuda, "cpu")
        )
        assert np.array_equal(near.maps.dense(), expected.maps.dense())
        assert [box for box, _ in near.maps] == [box for box, _ in expected.maps]
        for name in ("farthest", "is_exact", "apart", "gap"):
            assert np.array_equal(getattr(near, name), getattr(expected, name)), name


@pytest.mark.gpu
def test_the_side_of_a_tile_changes_nothing(cuda, monkeypatch):
    rng = np.random.default_rng(5)
    image = rng.normal(size=(13, 22, 30)).astype(np.float32)
    problem = problem_of(image, rng.random((2, *image.shape)) < 0.002, (3, 1, 0.5), metric="harmonic", lamb=0.9)
    expected = solve_reference(problem)
    for side in (4, 8, 16):
        monkeypatch.setattr(_cuda, "_TILE_SIDES", {1: side})
        assert np.array_equal(_cuda.solve_on_cuda(problem, cuda)[0], expected)


@pytest.mark.gpu
def test_a_path_through_a_maze_of_many_tiles_is_found(cuda, monkeypatch):
    monkeypatch.setattr(_cuda, "_TILE_SIDES", {1: 4})
    domain = np.ones((1, 41, 40), bool)
    domain[0, 1::4, :-1] = domain[0, 3::4, 1:] = False
    seeds = np.zeros(domain.shape, bool)
    seeds[0, 0, 0] = True
    problem = problem_of(np.zeros(domain.shape, np.float32), seeds, metric="harmonic", domain=domain)
    distance, n_rounds, n_visits = _cuda.solve_on_cuda(problem, cuda)
    assert np.array_equal(distance, solve_reference(problem))
    assert np.isfinite(distance[0, 0, 40]).all() and n_visits >= n_rounds > 8


@pytest.mark.gpu
def test_twelve_channels_of_a_vector_image_work(cuda):
    rng = np.random.default_rng(2)
    problem = problem_of(rng.normal(size=(12, 6, 9, 10)), rng.random((6, 9, 10)) < 0.02)
    assert np.array_equal(_cuda.solve_on_cuda(problem, cuda)[0], solve_reference(problem))


@pytest.mark.gpu
def test_no_seed_gives_inf_and_all_seeds_give_zero(cuda):
    seeds = np.stack([np.zeros((3, 18, 5), bool), np.ones((3, 18, 5), bool)])
    none, everywhere = geodesic_distance(np.arange(270.0).reshape(3, 18, 5), seeds, (1, 2, 3), device=cuda)
    assert np.isinf(none).all() and (everywhere == 0).all()


@pytest.mark.gpu
def test_walls_may_hold_any_intensity(cuda):
    image = np.zeros((1, 3, 20), np.float32)
    domain = np.ones(image.shape, bool)
    domain[0, :, 10], image[0, :, 10] = False, [np.nan, np.inf, -7]
    seeds = np.zeros(image.shape, bool)
    seeds[0, 1, 0] = seeds[0, 1, 10] = True
    distance = geodesic_distance(image, seeds, (1, 1, 1), domain=domain, device=cuda)
    assert np.isfinite(distance[..., :10]).all() and np.isinf(distance[..., 10:]).all()


@pytest.mark.gpu
def test_inputs_of_any_layout_are_read_and_left_alone(cuda):
    rng = np.random.default_rng(9)
    image = rng.integers(-300, 900, (20, 9, 7)).astype(">i2").T[:, ::-1]
    seeds = (rng.random((20, 9, 7)) < 0.02).T
    before = image.copy(), seeds.copy()
    image.flags.writeable = seeds.flags.writeable = False
    distance, certificate = geodesic_distance(image, seeds, (1, 1, 1), device=cuda, return_certificate=True)
    assert np.array_equal(distance, geodesic_distance(image, seeds, (1, 1, 1)))
    assert certificate.is_exact and certificate.tile_visits >= certificate.iterations >= 1
    assert np.array_equal(image, before[0]) and np.array_equal(seeds, before[1])


@pytest.mark.gpu
def test_the_certificate_on_cuda_finds_what_the_cpu_finds(cuda):
    found = 0
    for image, seeds, options in itertools.islice(cases(), 0, None, 3):
        problem = problem_of(image, seeds, **options)
        exact = solve_reference(problem)
        wrong = exact.copy()
        at = tuple(n // 2 for n in exact.shape)
        wrong[at] = wrong[at] * np.float32(0.9) + np.float32(0.1)
        for distance in (exact, wrong, exact + 1, np.full_like(exact, np.inf), -exact, np.full_like(exact, np.nan)):
            expected = certify_problem(problem, distance)
            assert _cuda.certify_on_cuda(problem, distance, cuda) == expected, (image.shape, options)
            found += not expected[0].is_exact
    assert found > 50


@pytest.mark.gpu
def test_the_certificate_on_cuda_rejects_a_plateau_that_holds_itself_up(cuda):
    image = np.array([[[0, 5, 5, 5, 5]]], np.float32)
    seeds = np.array([[[True, False, False, False, False]]])
    problem = problem_of(image, seeds, lamb=1.0)
    (right,), (wrong,) = (
        _cuda.certify_on_cuda(problem, np.float32([[[[0, level, level, level, level]]]]), cuda) for level in (5, 4)
    )
    assert right.is_exact
    assert wrong.n_unattained == 4


@pytest.mark.gpu
def test_a_long_plateau_is_flooded_to_its_end(cuda):
    image = np.zeros((1, 2, 900), np.float32)
    seeds = np.zeros(image.shape, bool)
    seeds[0, 0, 0] = True
    (certificate,) = _cuda.certify_on_cuda(problem_of(image, seeds, lamb=1.0), image[None], cuda)
    assert certificate.is_exact


@pytest.mark.gpu
def test_a_device_that_is_not_there_is_an_error(cuda):
    arguments = np.zeros((1, 1, 2)), np.ones((1, 1, 2), bool), (1, 1, 1)
    for name in ("cuda:99", "cuda:-1", "cuda:x"):
        with pytest.raises(DeviceError, match=f"{name}'.* no such device, expected one of cuda:0"):
            geodesic_distance(*arguments, device=name)
    assert geodesic_distance(*arguments, device="cuda:0").sum() == 0


@pytest.mark.gpu
def test_real_volumes_have_the_same_bits_on_both_devices(cuda, shared_data):
    import SimpleITK as sitk

    path = shared_data / "brain1_tumour"
    image = sitk.ReadImage(str(next(p for p in sorted(path.rglob("*.nii.gz")) if "label" not in p.name.lower())))
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    values = values[:40, :40, :40] if EMULATED else values
    seeds = np.random.default_rng(0).random((3, *values.shape)) < 1e-3
    for metric in METRICS:
        ours = geodesic_distance(values, seeds, image.GetSpacing()[::-1], metric=metric, lamb=0.9, device=cuda)
        assert np.array_equal(ours, geodesic_distance(values, seeds, image.GetSpacing()[::-1], metric=metric, lamb=0.9))


@pytest.mark.gpu
@only_emulated
def test_classes_that_do_not_fit_together_are_solved_in_batches(cuda, monkeypatch):
    rng = np.random.default_rng(4)
    problem = problem_of(rng.normal(size=(9, 20, 21)), rng.random((5, 9, 20, 21)) < 0.01)
    together, n_rounds, _ = _cuda.solve_on_cuda(problem, cuda)
    proofs = _cuda.certify_on_cuda(problem, together, cuda)
    room_for_two = together[0].size * (5 + 2.5 * 6) / 0.9
    monkeypatch.setenv("CUDA_ON_CPU_MEMORY", str(int(room_for_two)))
    apart, n_rounds_apart, _ = _cuda.solve_on_cuda(problem, cuda)
    assert np.array_equal(apart, together) and n_rounds_apart > n_rounds
    assert _cuda.certify_on_cuda(problem, together, cuda) == proofs


@pytest.mark.gpu
@only_emulated
def test_everything_taken_is_given_back(cuda, monkeypatch):
    import ctypes

    held = ctypes.CDLL("libcuda.so.1").cuda_on_cpu_held
    arguments = np.zeros((2, 30, 30)), np.ones((2, 30, 30), bool), (1, 1, 1)
    geodesic_distance(*arguments, device=cuda, return_certificate=True)
    assert held() == 0
    monkeypatch.setenv("CUDA_ON_CPU_MEMORY", "4000")
    with pytest.raises(DeviceError, match="out of memory for 0 MiB more; solve a crop"):
        geodesic_distance(*arguments, device=cuda)
    assert held() == 0


# The tests above, on the emulated driver


@pytest.fixture(scope="module")
def emulated_driver(tmp_path_factory):
    """Return the folder of a libcuda.so.1 that needs no device, or skip."""
    return emulated_cuda.build_driver(tmp_path_factory.mktemp("cuda_on_cpu"))


@pytest.mark.skipif(EMULATED is not None, reason="this is the emulated run")
@pytest.mark.parametrize(
    "schedule",
    [{}, {"CUDA_ON_CPU_REVERSE": "threads blocks", "CUDA_ON_CPU_THREADS": "3"}],
    ids=["in-order", "reversed-and-concurrent"],
)
def test_the_gpu_tests_pass_on_the_emulated_driver(emulated_driver, schedule):
    environment = os.environ | schedule | {"SOFTLABELS_CUDA_ON_CPU": str(emulated_driver)}
    environment["LD_LIBRARY_PATH"] = f"{emulated_driver}:{environment.get('LD_LIBRARY_PATH', '')}"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " skipped" not in done.stdout.splitlines()[-1] or real_volumes() is None
