"""The methods text says what the configuration says."""

import pytest

from softlabels.config import parse_config
from softlabels.methods import METHODS
from softlabels.view.methods_text import methods_text

BASE = {"channels": ["T1", "T2"], "labels": {"background": 0, "core": 1, "rim": 2}}


def text_of(targets, **more):
    return methods_text(parse_config(BASE | more | {"targets": targets}), n_exact_maps=3, n_maps=4)


def test_preprocessing_is_told_in_the_order_in_which_it_is_done():
    prepare = {
        "spacing": [2, 1, 1], "clip_percentiles": [0.5, 99.5], "normalise": "zscore", "domain": "nonzero",
        "crop": "labels", "crop_margin_mm": 5,
    }  # fmt: skip
    first = text_of({"soft": {"method": "svls"}}, prepare=prepare)[0]
    parts = ["(T1, T2)", "labelled voxels with a margin of 5 mm", "2 × 1 × 1 mm", "percentiles 0.5 and 99.5",
             "mean 0 and standard deviation 1 for each channel inside the non-zero domain"]  # fmt: skip
    places = [first.index(part) for part in parts]
    assert places == sorted(places)
    assert text_of({"soft": {"method": "svls"}})[0].endswith("(T1, T2) were used as stored.")


def test_a_geodesic_target_names_seeds_metric_weight_and_blend():
    target = {
        "method": "geols",
        "seeds": {"strategy": "erosion"},
        "distance": {"metric": "sum", "lamb": 0.25},
        "alpha": 0.2,
    }
    _, told, exact = text_of({"soft": target})
    assert told.startswith(
        'The target "soft" is GeoLS (Adiga Vasudeva, Dolz and Lombaert, MIDL 2023) in the variant paper'
    )
    for part in ("from seeds by erosion", "with the geodesic distance sum (lamb 0.25)", "alpha 0.2"):
        assert part in told
    assert exact.endswith("3 of 4 distance maps carry a certificate of exactness.")


def test_a_third_party_engine_is_named_with_its_iterations():
    target = {"method": "geols", "variant": "official", "distance": {"metric": "sum"}}
    _, told, _ = text_of({"soft": target}, engine="fastgeodis")
    assert "by 4 iterations of FastGeodis" in told


@pytest.mark.parametrize("name", list(METHODS.built_in))
def test_every_method_can_be_told(name):
    (_, told, *_) = text_of({"soft": {"method": name}})
    assert METHODS[name].title in told and METHODS[name].source in told and told.endswith(".")
