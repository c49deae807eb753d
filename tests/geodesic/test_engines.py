"""Third-party engines behind the door give what they give by themselves, and the report on them is true."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from softlabels.errors import DeviceError, InputError
from softlabels.geodesic import geodesic_distance
from softlabels.geodesic.engines import solve_with_engine

SPACING = (3.0, 1.0, 0.7)
GEODISTK = Path(os.environ.get("SOFTLABELS_GEODISTK_PYTHON") or ROOT / ".venv-geodistk" / "bin" / "python")

needs_fastgeodis = pytest.mark.skipif(
    importlib.util.find_spec("FastGeodis") is None, reason="FastGeodis is not installed: `make .venv/.baselines`"
)
needs_geodistk = pytest.mark.skipif(
    not GEODISTK.is_file(), reason=f"no interpreter with GeodisTK at {GEODISTK}: `make .venv-geodistk/.ready`"
)


@pytest.fixture(scope="module")
def case():
    """Return a noisy image of raw intensities and the seeds of two classes."""
    rng = np.random.default_rng(7)
    image = rng.integers(0, 255, (9, 14, 17)).astype(np.float32)
    seeds = np.zeros((2, *image.shape), bool)
    seeds[0, 0, 0, 0] = seeds[1, 4, 7, 8] = seeds[1, 8, 13, 0] = True
    return image, seeds


def fastgeodis(image, seeds, spacing, lamb, iterations):
    """Return FastGeodis' own answer for one class; image (M, D, H, W)."""
    import torch
    from FastGeodis import generalised_geodesic3d

    mask = torch.from_numpy(1 - seeds.astype(np.float32))[None, None]
    return generalised_geodesic3d(torch.from_numpy(image)[None], mask, list(spacing), 1e10, lamb, iterations).numpy()[
        0, 0
    ]


def geodistk(tmp_path, image, seeds, spacing, lamb, iterations):
    """Return GeodisTK's own answer for one class, by a script that shares no code with the worker."""
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "seeds.npy", seeds.astype(np.uint8))
    script = (
        "import numpy, GeodisTK\n"
        f"found = GeodisTK.geodesic3d_raster_scan(numpy.load('image.npy'), numpy.load('seeds.npy'), {list(spacing)}, "
        f"{lamb}, {iterations})\n"
        "numpy.save('found.npy', found)\n"
    )
    subprocess.run([GEODISTK, "-c", script], cwd=tmp_path, check=True)
    return np.load(tmp_path / "found.npy")


def test_our_engine_behind_the_door_is_geodesic_distance(case):
    image, seeds = case
    distance, report = solve_with_engine(image, seeds, SPACING, metric="pythagorean", gamma=0.1)
    assert np.array_equal(distance, geodesic_distance(image, seeds, SPACING, metric="pythagorean", gamma=0.1))
    assert [r["engine"] for r in report] == ["softlabels"] * 2
    assert all(r["certified"] and r["n_violated"] == r["n_unattained"] == 0 for r in report)


@needs_fastgeodis
@pytest.mark.parametrize("lamb", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("iterations", [1, 4])
def test_fastgeodis_behind_the_door_is_fastgeodis(case, lamb, iterations):
    image, seeds = case
    distance, report = solve_with_engine(image, seeds, SPACING, engine="fastgeodis", lamb=lamb, iterations=iterations)
    for one, own in zip(distance, seeds, strict=True):
        assert np.array_equal(one, fastgeodis(image[None], own, SPACING, lamb, iterations))
    assert [(r["engine"], r["iterations"], r["version"]) for r in report] == [("fastgeodis", iterations, "1.0.5")] * 2


@needs_fastgeodis
def test_fastgeodis_sees_every_channel(case):
    image, seeds = case
    image = np.stack([image, image[::-1]])
    distance, _ = solve_with_engine(image, seeds[0], SPACING, engine="fastgeodis")
    assert distance.shape == seeds[0].shape
    assert np.array_equal(distance, fastgeodis(image, seeds[0], SPACING, 0.5, 4))


@needs_fastgeodis
def test_converged_fastgeodis_is_the_exact_map_up_to_rounding(case):
    image, seeds = case
    distance, report = solve_with_engine(image, seeds, SPACING, engine="fastgeodis", lamb=0.5, iterations=30)
    np.testing.assert_allclose(distance, geodesic_distance(image, seeds, SPACING, lamb=0.5), rtol=1e-5)
    assert all(r["max_relative_error"] < 1e-5 and r["fraction_over_1_percent"] == 0 for r in report)


@needs_fastgeodis
@pytest.mark.parametrize("lamb", [0.5, 1.0])
def test_the_exact_map_is_nowhere_longer_than_four_iterations_of_fastgeodis(case, lamb):
    image, seeds = case
    theirs, _ = solve_with_engine(image, seeds, SPACING, engine="fastgeodis", lamb=lamb)
    ours = geodesic_distance(image, seeds, SPACING, lamb=lamb)
    assert (ours <= theirs * np.float32(1 + 1e-6)).all()


@needs_fastgeodis
def test_the_report_tells_how_far_an_unconverged_engine_is_off(case):
    image, seeds = case
    theirs, report = solve_with_engine(image, seeds, SPACING, engine="fastgeodis", lamb=1.0, iterations=1)
    ours = geodesic_distance(image, seeds, SPACING, lamb=1.0)
    for one, exact, found in zip(theirs, ours, report, strict=True):
        relative = (one[exact > 0] / exact[exact > 0]).astype(np.float64) - 1
        assert not found["certified"] and found["n_violated"] > 0
        assert relative.max() > 0.01
        assert found["max_relative_error"] == pytest.approx(relative.max(), rel=1e-4)
        assert found["fraction_over_1_percent"] == pytest.approx((relative > 0.01).mean(), rel=1e-4)


@needs_fastgeodis
def test_a_third_party_engine_gives_inf_where_there_is_no_seed(case):
    image, seeds = case
    distance, (_, empty) = solve_with_engine(
        image, np.stack([seeds[0], seeds[0] & False]), SPACING, engine="fastgeodis"
    )
    assert np.isfinite(distance[0]).all() and np.isinf(distance[1]).all()
    assert empty["n_unreachable"] == image.size and empty["max_relative_error"] == 0


@needs_fastgeodis
def test_a_third_party_engine_takes_a_flat_image_as_one_slice(case):
    image, seeds = case[0][0], case[1][0, 0]
    flat, _ = solve_with_engine(image, seeds, (1.0, 0.7), engine="fastgeodis")
    assert flat.shape == image.shape
    assert np.array_equal(flat, solve_with_engine(image[None], seeds[None], (1.0, 1.0, 0.7), engine="fastgeodis")[0][0])


@needs_fastgeodis
def test_fastgeodis_uses_the_threads_asked_for_and_leaves_torch_as_it_was(case, monkeypatch):
    import FastGeodis
    import torch

    before, seen, original = torch.get_num_threads(), [], FastGeodis.generalised_geodesic3d
    monkeypatch.setattr(
        FastGeodis,
        "generalised_geodesic3d",
        lambda *arguments: (seen.append(torch.get_num_threads()), original(*arguments))[1],
    )
    solve_with_engine(*case, SPACING, engine="fastgeodis", n_threads=before + 1)
    assert seen == [before + 1] * 2
    assert torch.get_num_threads() == before


@needs_fastgeodis
def test_fastgeodis_on_cuda_without_a_device_is_an_error(case):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(DeviceError, match="torch sees no CUDA device"):
        solve_with_engine(*case, SPACING, engine="fastgeodis", device="cuda")


@needs_geodistk
@pytest.mark.parametrize("lamb", [0.5, 1.0])
def test_geodistk_behind_the_door_is_geodistk(case, tmp_path, lamb):
    image, seeds = case
    distance, report = solve_with_engine(image, seeds, SPACING, engine="geodistk", metric="harmonic", lamb=lamb)
    for one, own in zip(distance, seeds, strict=True):
        assert np.array_equal(one, geodistk(tmp_path, image, own, SPACING, lamb, 4))
    assert [(r["engine"], r["iterations"], r["version"]) for r in report] == [("geodistk", 4, "0.1.7")] * 2


@needs_geodistk
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("lamb", [0.0, 0.5, 1.0])
def test_converged_geodistk_is_the_exact_map_up_to_rounding(case, lamb, n_channels):
    image, seeds = case
    image = np.stack([image, image[:, ::-1] * 0.5])[:n_channels]
    distance, report = solve_with_engine(
        image, seeds, SPACING, engine="geodistk", metric="harmonic", lamb=lamb, iterations=60, geodistk_python=GEODISTK
    )
    np.testing.assert_allclose(distance, geodesic_distance(image, seeds, SPACING, metric="harmonic", lamb=lamb), 1e-5)
    assert all(r["max_relative_error"] < 1e-5 for r in report)


@needs_geodistk
def test_an_interpreter_without_geodistk_is_named_with_the_remedy(case):
    with pytest.raises(DeviceError, match="No module named 'GeodisTK'.*SOFTLABELS_GEODISTK_PYTHON"):
        solve_with_engine(*case, SPACING, engine="geodistk", metric="harmonic", geodistk_python=sys.executable)


def test_a_missing_interpreter_is_named_with_the_remedy(case, tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTLABELS_GEODISTK_PYTHON", str(tmp_path / "none"))
    with pytest.raises(DeviceError, match="no interpreter at .*none; .*needs .*make .venv-geodistk"):
        solve_with_engine(*case, SPACING, engine="geodistk", metric="harmonic")


def test_a_missing_fastgeodis_is_named_with_the_remedy(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "FastGeodis", None)
    with pytest.raises(DeviceError, match="FastGeodis.*pip install"):
        solve_with_engine(*case, SPACING, engine="fastgeodis")


def test_geodistk_on_cuda_is_an_error(case):
    with pytest.raises(DeviceError, match="runs on 'cpu' only"):
        solve_with_engine(*case, SPACING, engine="geodistk", metric="harmonic", device="cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "dijkstra"}, "expected one of softlabels, fastgeodis, geodistk"),
        ({"engine": "fastgeodis", "metric": "harmonic"}, "expected 'sum', the only one it has"),
        ({"engine": "geodistk", "metric": "sum"}, "expected 'harmonic', the only one it has"),
        ({"engine": "fastgeodis", "iterations": 0}, "expected an integer >= 1"),
        ({"engine": "fastgeodis", "domain": np.zeros((9, 14, 17), bool)}, "drop the domain"),
        ({"engine": "fastgeodis", "lamb": 1.5}, "expected a number in 0..1"),
    ],
)
def test_what_an_engine_cannot_do_is_an_input_error(case, options, message):
    with pytest.raises(InputError, match=message):
        solve_with_engine(*case, SPACING, **options)


def test_inputs_are_not_modified(case):
    image, seeds = (a.copy() for a in case)
    image.flags.writeable = seeds.flags.writeable = False
    if importlib.util.find_spec("FastGeodis"):
        solve_with_engine(image, seeds, SPACING, engine="fastgeodis")
    solve_with_engine(image, seeds, SPACING)
    assert np.array_equal(image, case[0]) and np.array_equal(seeds, case[1])
