"""Types and bounds: the model and the JSON schema made from it give the same answer to every value."""

import copy

import pytest
from jsonschema import Draft202012Validator

from softlabels.config import json_schema, parse_config
from softlabels.errors import ConfigError

VALID = {
    "channels": ["T1"],
    "labels": {"background": 0, "core": 1, "edema": 2},
    "prepare": {"spacing": [1, 0.5, 0.5], "clip_percentiles": [0.5, 99.5], "crop": "labels", "crop_margin_mm": 2},
    "targets": {
        "band": {"method": "geodesic_band"},
        "blur": {"method": "gaussian", "sigma_mm": 1},
        "geols": {"method": "geols", "seeds": {"strategy": "random", "n": 3, "seed": 7}},
        "shell": {"method": "dilation"},
        "svls": {"method": "svls", "kernel_size": 5},
    },
    "cases_per_job": 2,
    "pictures": True,
}
SCHEMA = Draft202012Validator(json_schema())


def changed(key: str, value) -> dict:
    """Return a valid configuration with one value replaced."""
    raw = copy.deepcopy(VALID)
    *folders, last = key.split("/")
    section = raw
    for name in folders:
        section = section.setdefault(name, {})
    section[last] = value
    return raw


def is_valid(raw: dict) -> bool:
    try:
        parse_config(raw)
    except ConfigError as error:
        assert len(str(error)) < 1000
        return False
    return True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels/background", False),
        ("labels/core", True),
        ("labels/core", "1"),
        ("labels/core", [1, True]),
        ("labels/core", ["1"]),
        ("labels/core", 1.5),
        ("labels/core", 10**400),
        ("labels", {}),
        ("labels", []),
        ("channels", "T1"),
        ("channels", [1]),
        ("channels", []),
        ("cases_per_job", True),
        ("cases_per_job", "2"),
        ("cases_per_job", 65),
        ("pictures", "yes"),
        ("pictures", 1),
        ("device", None),
        ("store", ""),
        ("store", 7),
        ("results", ""),
        ("cases", None),
        ("prepare/spacing", [1, 1]),
        ("prepare/spacing", [1, 1, True]),
        ("prepare/spacing", ["1", 1, 1]),
        ("prepare/spacing", [1e-300, 1, 1]),
        ("prepare/spacing", [1e9, 1, 1]),
        ("prepare/spacing", "111"),
        ("prepare/clip_percentiles", [0, 101]),
        ("prepare/crop_margin_mm", 1e9),
        ("targets/blur/sigma_mm", 1e9),
        ("targets/blur/sigma_mm", True),
        ("targets/blur/sigma_mm", "1"),
        ("targets/band/sigma_mm", 1e9),
        ("targets/shell/radius_mm", 1e9),
        ("targets/svls/sigma", 1e9),
        ("targets/svls/kernel_size", "5"),
        ("targets/geols/seeds/seed", 10**400),
        ("targets/geols/seeds/seed", True),
        ("targets/geols/seeds/n", "3"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_model_and_schema_refuse_a_value_of_another_type_or_out_of_bounds(key, value):
    raw = changed(key, value)
    assert not is_valid(raw)
    assert not SCHEMA.is_valid(raw)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels/core", [1, 3]),
        ("labels/core", 2**31 - 1),
        ("prepare/spacing", [0.001, 0.001, 0.001]),
        ("prepare/spacing", "native"),
        ("prepare/clip_percentiles", None),
        ("targets/blur/sigma_mm", 100),
        ("targets/geols/seeds/seed", 2**63 - 1),
        ("store", "../shared store"),
        ("pictures", False),
    ],
    ids=lambda value: str(value)[:24],
)
def test_model_and_schema_take_what_is_within_them(key, value):
    raw = changed(key, value)
    assert is_valid(raw)
    assert SCHEMA.is_valid(raw)


@pytest.mark.parametrize("name", ["", "$\\bad{$", "a\0", "\x1b[31m", "../../x", "a b", "left\n", "n" * 65])
def test_classes_of_a_target_have_the_grammar_of_all_names(name):
    raw = changed("targets/blur/labels", {"background": 0, name: 1, "rest": 2})
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    assert "\x1b" not in str(caught.value) and "\0" not in str(caught.value)


def test_no_number_is_without_bounds():
    def unbounded(schema, key):
        if isinstance(schema, dict):
            if schema.get("type") in ("number", "integer"):
                low = {"minimum", "exclusiveMinimum"} & set(schema)
                high = {"maximum", "exclusiveMaximum"} & set(schema)
                if not (low and high):
                    yield key
            for name, one in schema.items():
                yield from unbounded(one, f"{key}/{name}")
        elif isinstance(schema, list):
            for one in schema:
                yield from unbounded(one, key)

    assert list(unbounded(json_schema(), "")) == []
