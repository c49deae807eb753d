"""The CUDA engine gives the CPU's bits. Tests marked gpu need a device; without one they run on an emulated driver.

`cuda_on_cpu/` holds a libcuda.so.1 without a device, which runs the kernels' own text as C++. The last tests of this
file start pytest once more with it, for the tests marked gpu. Races between the threads of a block are looked for by
ThreadSanitizer. What that leaves open is the machine code and its timing: on a machine with a GPU run
`pytest -m gpu tests/geodesic`, the same under `compute-sanitizer --tool memcheck` (then racecheck, synccheck,
initcheck), and `python benchmarks/geodesic_cuda.py`.
"""

import ctypes
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, emulated_cuda
from helpers.made_project import Project
from helpers.real_volumes import real_volumes

from softlabels.errors import CertificateError, DeviceError
from softlabels.geodesic import (
    _cuda,
    _cuda_device,
    _gap,
    _nvrtc,
    distances_for_distribution,
    geodesic_distance,
    geodesic_distance_within_gap,
)
from softlabels.geodesic._certify import certify_problem
from softlabels.geodesic._problem import checked_problem
from softlabels.geodesic._reference import solve_reference
from softlabels.geodesic.metric import METRICS

HELPERS = ROOT / "tests" / "helpers"
EMULATED = emulated_cuda.FOLDER


def problem_of(image, seeds, spacing=(1, 1, 1), *, metric="sum", lamb=0.5, gamma=1.0, domain=None, cap=None):
    return checked_problem(image, seeds, spacing, metric=metric, lamb=lamb, gamma=gamma, domain=domain, cap=cap)


only_emulated = pytest.mark.skipif(not EMULATED, reason="only the emulated driver can be watched so closely")
OTHER_FILE = Path(__file__).with_name("test_cuda_device.py")


# Without a device


def test_a_missing_device_is_an_error_and_no_cpu_run():
    try:
        if ctypes.CDLL("libcuda.so.1").cuInit(0) == 0:
            pytest.skip("this machine has a CUDA driver")
    except OSError:
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

        n_processors = 1

        def download(self, pointer, shape, dtype):
            return np.ones(shape, dtype)

        def __getattr__(self, name):
            return lambda *_: None

    with pytest.raises(CertificateError, match="still change after 16 rounds over 6 voxels"):
        _cuda.solve_from(problem_of(np.zeros((1, 2, 3)), np.ones((1, 2, 3), bool)), _cuda.Image(0, 0), 0, Restless())


def test_no_thread_reads_what_another_one_of_its_block_writes_between_two_barriers(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++ to build the kernels for ThreadSanitizer with")
    flags = ["-fsanitize=thread", "-g", "-O1", "-std=c++17", "-ffp-contract=off", f"-I{_nvrtc._KERNELS}"]
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
@pytest.mark.parametrize("whole", [0.0, _gap._WHOLE, 2.0], ids=["whole", "mixed", "boxes"])
def test_distances_for_a_distribution_are_those_of_the_cpu(cuda, monkeypatch, whole):
    monkeypatch.setattr(_gap, "_WHOLE", whole)
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
def test_only_boxes_that_hold_all_distances_are_certified(cuda, monkeypatch):
    for name, value in {"_WHOLE": 2.0, "_GROWTH_VOX": 1, "_GROWTH": 0.0}.items():
        monkeypatch.setattr(_gap, name, value)
    steps = []
    for name, step in (("solve_from", "solve "), ("_count_faults", "certify ")):
        call = getattr(_cuda, name)
        monkeypatch.setattr(_cuda, name, lambda *given, step=step, call=call: steps.append(step) or call(*given))
    rng = np.random.default_rng(8)
    seeds = np.zeros((3, 5, 12, 20), bool)
    seeds[0, 2, 5, 2] = seeds[1, 1, 9, 17] = True
    image = rng.normal(size=seeds.shape[1:]).astype(np.float32)
    found = {near.index: near for near in geodesic_distance_within_gap(image, seeds, (2, 1, 1), 6.0, device=cuda)}
    # First the least distance, then two classes whose boxes grow; the third has no seed.
    assert re.fullmatch("solve certify ((solve ){2,}certify ){2}", "".join(steps)), steps
    for near in geodesic_distance_within_gap(image, seeds, (2, 1, 1), 6.0):
        assert found[near.index].box == near.box and np.array_equal(found[near.index].values, near.values)
        assert found[near.index].certificate.is_exact


@pytest.mark.gpu
def test_targets_are_those_of_the_cpu_where_distances_stay_in_memory(cuda, tmp_path, monkeypatch):
    targets = {"near": {"method": "geols", "distance": {"gap": 12}}, "sing": {"method": "sing"}}
    made = {
        "cpu": Project(tmp_path / "cpu", monkeypatch, n_cases=1, targets=targets).run_together(),
        cuda: Project(
            tmp_path / "cuda", monkeypatch, n_cases=1, targets=targets, device="cuda", keep="targets"
        ).run_together(device=cuda),
    }
    assert {one.manifest for one in made[cuda].values() if one.stage == "distance"} == {None}
    assert {work: (one.key, one.quality) for work, one in made[cuda].items()} == {
        work: (one.key, one.quality) for work, one in made["cpu"].items()
    }
    digests = [{one.manifest for one in found.values() if one.stage == "target"} for found in made.values()]
    assert digests[0] == digests[1]


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
def test_how_many_blocks_share_the_tiles_changes_nothing(cuda, monkeypatch):
    monkeypatch.setattr(_cuda, "_TILE_SIDES", {1: 4})
    rng = np.random.default_rng(6)
    image = rng.normal(size=(13, 22, 30)).astype(np.float32)
    problem = problem_of(image, rng.random((3, *image.shape)) < 0.002, (3, 1, 0.5), lamb=0.8)
    expected = solve_reference(problem)
    for n_blocks in (1, 7, 10_000):
        monkeypatch.setattr(_cuda, "_BLOCKS_PER_PROCESSOR", n_blocks)
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
def test_maps_are_judged_where_they_were_made_as_if_they_had_come_back(cuda, monkeypatch):
    uploads = []
    upload = _cuda_device.CudaDevice.upload
    monkeypatch.setattr(
        _cuda_device.CudaDevice, "upload", lambda self, array: uploads.append(array) or upload(self, array)
    )
    for image, seeds, options in itertools.islice(cases(), 0, None, 4):
        problem = problem_of(image, seeds, **options)
        solution, certificates = _cuda.solve_and_certify_on_cuda(problem, cuda)
        assert sum(array.shape == problem.image.shape and array.dtype == np.float32 for array in uploads) == 1
        assert sum(array.shape == seeds.shape and array.dtype == bool for array in uploads) == 1
        assert np.array_equal(solution.maps, solve_reference(problem))
        assert certificates == certify_problem(problem, solution.maps, None, solution.n_rounds, solution.n_visits)
        assert all(certificate.is_exact for certificate in certificates)
        uploads.clear()


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
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", __file__, OTHER_FILE]
    done = subprocess.run(command, env=environment, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " skipped" not in done.stdout.splitlines()[-1] or real_volumes() is None
