"""Refining a network's probabilities: unmix with another prior, its files, and its command."""

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.soft_truth import averaged, brier, tissue_shares
from scipy import ndimage
from typer.testing import CliRunner

from softlabels.calibration import Calibration
from softlabels.cli.commands import app
from softlabels.errors import InputError
from softlabels.evaluation.probabilities import read_image, read_pairs, read_probabilities, write_npz
from softlabels.evaluation.refine import fit_temperature, hard_labels, refine
from softlabels.grid import Grid
from softlabels.methods.unmix import unmix

SHAPE, SPACING = (5, 12, 10), (2.0, 1.0, 1.0)


def a_case(seed=0):
    """Return an image, the shares of three tissues that it mixes, and an overconfident network's probabilities."""
    rng = np.random.default_rng(seed)
    score = np.stack([ndimage.gaussian_filter(rng.normal(size=SHAPE), 1) for _ in range(3)])
    shares = np.exp(30 * score)
    shares /= shares.sum(axis=0)
    image = np.tensordot([0.0, 5.0, 9.0], shares, 1) + rng.normal(0, 0.2, SHAPE)
    network = Calibration(2.5, (0.0,) * 3, "a network").applied(shares)
    return image[None].astype(np.float32), shares.astype(np.float32), network


def write(path, values, channels=False):
    """Write a volume, or one with channels, as NIfTI."""
    image = sitk.GetImageFromArray(np.moveaxis(values, 0, -1) if channels else values, isVector=channels)
    image.SetSpacing(SPACING[::-1])
    sitk.WriteImage(image, str(path))
    return path


def test_it_is_unmix_with_the_probabilities_as_prior():
    image, _, network = a_case()
    masks = network.argmax(axis=0) == np.arange(3)[:, None, None, None]
    expected = unmix(image, masks, network, SPACING, window_mm=2.0)
    np.testing.assert_allclose(refine(image, network, SPACING), expected, atol=1e-6)


def test_where_the_image_says_nothing_the_probabilities_stay():
    _, _, network = a_case()
    found = refine(np.full((2, *SHAPE), 3.0), network, SPACING)
    np.testing.assert_allclose(found, network, atol=1e-6)
    half = refine(np.zeros((1, *SHAPE)), network.astype(np.float16), SPACING)
    np.testing.assert_allclose(half, network, atol=1e-3)
    np.testing.assert_allclose(half.sum(axis=0), 1, atol=1e-6)


def test_a_temperature_comes_first_and_is_found_on_cases_with_a_truth():
    image, _, network = a_case()
    cases = [(n, s) for _, s, n in (a_case(seed) for seed in range(8))]
    temperature = fit_temperature(cases)
    assert temperature == pytest.approx(2.5, rel=0.05)
    calm = Calibration(1 / temperature, (0.0,) * 3, "a network").applied(network)
    found = refine(image, network, SPACING, temperature=temperature)
    np.testing.assert_allclose(found, refine(image, calm, SPACING), atol=1e-6)


def test_regions_are_refined_each_against_the_rest():
    image, _, network = a_case()
    regions = np.stack([network[1] + network[2], network[2]])
    found = refine(image, regions, SPACING, is_overlapping=True)
    for region, one in zip(regions, found, strict=True):
        np.testing.assert_allclose(one, refine(image, np.stack([region, 1 - region]), SPACING)[0], atol=1e-5)


def test_what_is_no_probability_is_refused():
    image, _, network = a_case()
    for wrong, says in (
        (network * 5, "logits"),
        (network[:2], "is_overlapping"),
        (network[0], r"expected \(C, D, H, W\)"),
        (np.full_like(network, np.nan), "got values from nan"),
    ):
        with pytest.raises(InputError, match=says):
            refine(image, wrong, SPACING)
    with pytest.raises(InputError, match="temperature"):
        refine(image, network, SPACING, temperature=0.0)


def test_a_brain_that_a_sure_network_cut_into_classes_gets_its_shares_back():
    image, shares = tissue_shares()
    nowhere = np.zeros(image.shape[1:], int)
    coarse, truth = (averaged(one, nowhere, (2, 2, 2))[0][:, 20:70, 40:80, 20:80] for one in (image, shares))
    rng = np.random.default_rng(0)
    noise = np.stack([ndimage.gaussian_filter(rng.normal(size=truth.shape[1:]), 1) for _ in truth])
    logits = 2 * np.log(ndimage.gaussian_filter(truth, (0, 0.7, 0.7, 0.7)) + 1e-3) + noise / noise.std()
    network = np.exp(logits - logits.max(axis=0))
    network /= network.sum(axis=0)
    before = brier(network, truth).brier
    assert brier(refine(coarse, network, (2, 2, 2)), truth).brier < 0.8 * before
    # Another brain's image cannot help, and does little harm.
    stranger = rng.permutation(coarse.ravel()).reshape(coarse.shape)
    assert brier(refine(stranger, network, (2, 2, 2)), truth).brier < 1.02 * before


def test_probabilities_are_read_from_npz_and_from_images_alike(tmp_path):
    _, _, network = a_case()
    grid = Grid(SHAPE, SPACING)
    files = [
        [write_npz(tmp_path / "case.npz", network)],
        [write(tmp_path / "all.nii.gz", network, channels=True)],
        [write(tmp_path / f"class{c}.nii.gz", one) for c, one in enumerate(network)],
    ]
    np.savez(tmp_path / "old.npz", softmax=network)
    for paths in [*files, [tmp_path / "old.npz"]]:
        where = grid if paths[0].suffix == ".npz" else read_image(paths[:1])[1]
        np.testing.assert_array_equal(read_probabilities(paths, where), network)


def test_files_that_do_not_fit_are_named(tmp_path):
    _, _, network = a_case()
    grid = Grid(SHAPE, SPACING)
    path = write_npz(tmp_path / "turned.npz", network.transpose(0, 3, 2, 1))
    with pytest.raises(InputError, match=r"turned.npz: got shape \(3, 10, 12, 5\).*NibabelIOWithReorient"):
        read_probabilities([path], grid)
    np.savez(tmp_path / "two.npz", a=network, b=network)
    with pytest.raises(InputError, match="two.npz: got the arrays a, b"):
        read_probabilities([tmp_path / "two.npz"], grid)
    (tmp_path / "torn.npz").write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="torn.npz: cannot be read"):
        read_probabilities([tmp_path / "torn.npz"], grid)
    np.savez(tmp_path / "labels.npz", probabilities=network.astype(int))
    with pytest.raises(InputError, match="labels.npz: got int64"):
        read_probabilities([tmp_path / "labels.npz"], grid)
    moved = write(tmp_path / "image.nii.gz", network[0])
    with pytest.raises(InputError, match="another grid"):
        read_probabilities([moved], Grid(SHAPE, (1.0, 1.0, 1.0)))
    (tmp_path / "sheet.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match="columns probabilities and reference"):
        read_pairs(tmp_path / "sheet.tsv")


def test_the_command_refines_files_and_fits_a_temperature(tmp_path):
    rows = ["probabilities\treference"]
    for seed in (1, 2, 3):
        _, shares, network = a_case(seed)
        write_npz(tmp_path / f"case{seed}.npz", network)
        write(tmp_path / f"truth{seed}.nii.gz", shares, channels=True)
        rows.append(f"case{seed}.npz\ttruth{seed}.nii.gz")
    (tmp_path / "fit.tsv").write_text("\n".join(rows) + "\n")
    image, _, network = a_case()
    write(tmp_path / "image.nii.gz", image[0])
    given = [str(write_npz(tmp_path / "case.npz", network)), "--image", str(tmp_path / "image.nii.gz")]
    output, labels = tmp_path / "out.nii.gz", tmp_path / "labels.nii.gz"
    done = CliRunner().invoke(app, ["refine", *given, "--output", str(output), "--labels", str(labels)])
    assert done.exit_code == 0, done.output
    written, grid = read_image([output])
    assert grid.spacing == SPACING
    expected = refine(image, network, SPACING)
    np.testing.assert_allclose(written, expected, atol=1e-6)
    np.testing.assert_array_equal(read_image([labels])[0][0], hard_labels(expected))
    fit = ["--fit", str(tmp_path / "fit.tsv"), "--output", str(tmp_path / "out.npz")]
    done = CliRunner().invoke(app, ["refine", *given, *fit])
    assert done.exit_code == 0 and "fitted on 3 cases" in done.output
    temperature = fit_temperature(read_pairs(tmp_path / "fit.tsv"))
    expected = refine(image, network, SPACING, temperature=temperature)
    np.testing.assert_allclose(read_probabilities([tmp_path / "out.npz"], grid), expected, atol=1e-6)
    both = CliRunner().invoke(app, ["refine", *given, *fit, "--temperature", "2"])
    assert isinstance(both.exception, InputError)
