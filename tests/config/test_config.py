"""config.yaml: every fault is named at once, defaults are the papers', the shipped files agree with the model."""

import json

import pytest
from helpers import ROOT
from jsonschema import validate

from softlabels.classes import LabelSet
from softlabels.config import load_config, parse_config, recipe_notes
from softlabels.config.model import json_schema
from softlabels.config.reference import reference_files
from softlabels.errors import ConfigError
from softlabels.methods import METHODS, GeodesicMethod
from softlabels.pipeline.plan import make_plan

MINIMAL = {
    "channels": ["T1"],
    "labels": {"background": 0, "core": 1, "edema": 2},
    "targets": {"geols": {"method": "geols"}},
}


def faults(raw) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    return str(caught.value)


def test_shipped_config_is_valid():
    assert set(load_config(ROOT / "config.yaml").targets) == {"geols", "sing", "unmix", "gaussian"}


def test_handing_the_config_to_a_job_as_json_keeps_the_order_of_the_classes():
    raw = MINIMAL | {"labels": {"background": 0, "necrosis": 1, "edema": 2, "core": 4}}
    config = parse_config(json.loads(parse_config(raw).to_json()))
    assert LabelSet.parse(config.labels).names == ("background", "necrosis", "edema", "core")
    assert make_plan(config) == make_plan(parse_config(raw))


def test_all_faults_are_reported_at_once():
    raw = {
        "chanels": ["T1"],
        "labels": {"background": 1, "a": [2, 2]},
        "prepare": {"spacing": [1, 0, 1], "crop": "brain", "sharpen": True},
        "targets": {
            "x": {"method": "geols", "alpha": 2},
            "y": {"method": "geo"},
            "z": {"method": "svls", "kernel_size": 4},
        },
        "device": "tpu",
    }
    text = faults(raw)
    for key in (
        "chanels: unknown key. Did you mean 'channels'?",
        "channels: missing",
        "labels.background: got 1, expected 0",
        "labels.a: got [2, 2]",
        "prepare.spacing",
        "prepare.crop: got 'brain'",
        "prepare.sharpen: unknown key",
        "targets.x.alpha: got 2",
        "targets.y",
        "device: got 'tpu'",
    ):
        assert key in text, f"{key!r} not in:\n{text}"


@pytest.mark.parametrize(
    ("change", "kept", "stages"),
    [
        ({}, {"prepare", "seeds", "distance", "target"}, "one"),
        ({"keep": "all", "device": "cuda"}, {"prepare", "seeds", "distance", "target"}, "one"),
        ({"keep": "targets"}, {"prepare", "target"}, "all"),
        ({"keep": []}, {"prepare", "target"}, "all"),
        ({"keep": ["seeds"], "stages_per_job": "all"}, {"prepare", "seeds", "target"}, "all"),
        ({"keep": ["distance", "seeds"], "device": "cuda"}, {"prepare", "seeds", "distance", "target"}, "one"),
        ({"keep": "targets", "stages_per_job": "all"}, {"prepare", "target"}, "all"),
        ({"keep": "targets", "device": "cuda"}, {"prepare", "target"}, "all"),
        ({"stages_per_job": "all", "device": "cuda"}, {"prepare", "seeds", "distance", "target"}, "all"),
    ],
)
def test_training_always_finds_what_it_reads_and_what_is_not_kept_stays_in_one_job(change, kept, stages):
    config = parse_config(MINIMAL | change)
    assert config.kept_stages == kept and config.job_stages == stages
    assert parse_config(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channels": ["T1", "T1"]}, "channels: got ['T1', 'T1'], expected distinct"),
        ({"keep": "distances"}, "keep: got 'distances', expected all, targets, or a list of prepare, seeds, distance"),
        ({"keep": ["seeds", 3]}, "keep: got ['seeds', 3], expected all"),
        ({"keep": None}, "keep: got None, expected all"),
        ({"keep": ["seeds"], "stages_per_job": "one"}, "keep: got ['seeds'] with stages_per_job: one, but what is not"),
        ({"prepare": {"clip_percentiles": [90, 10]}}, "prepare.clip_percentiles"),
        ({"prepare": {"crop_margin_mm": 3}}, "crop_margin_mm: has no effect"),
        ({"labels": {"background": 0, "wt": [1, 2], "tc": [1]}}, "geols needs exclusive classes"),
        ({"targets": {"g": {"method": "geols", "distance": {"lamb": 0.5}}}}, "distance.lamb: has no effect"),
        ({"targets": {"g": {"method": "geols", "labels": {"background": 0, "new": 9}}}}, "integers [9]"),
        ({"engine": "fastgeodis"}, "engine fastgeodis has metric 'sum' only"),
        ({"labels": {"background": 0, "a": 3, "ignore": 2}}, "ignore: got 2"),
        ({"targets": {"s": {"method": "svls", "kernel_size": 4}}}, "expected an odd number"),
        ({"targets": {"l": {"method": "level_set", "truncate": True}}}, "only variant official"),
        ({"targets": {"bad name": {"method": "onehot"}}}, "bad name"),
        (
            {"targets": {"g": {"method": "gaussian", "calibrate": {"fitted_for": "a", "offsets": {"liver": 1.0}}}}},
            "calibrate.offsets: got liver, expected some of background",
        ),
        ({"targets": {"g": {"method": "gaussian", "calibrate": {"slope": 0.5}}}}, "calibrate.fitted_for"),
        ({"targets": {"l": {"method": "level_set", "calibrate": {"fitted_for": "a"}}}}, "Remove calibrate"),
        ({"targets": {"x": {"method": "svls", "sigma": float("nan")}}}, "targets.x.sigma"),
        ({"targets": {"x": 5}}, "targets.x: got 5, expected keys and values, among them 'method'"),
        ({"targets": {"x": {}}}, "targets.x.method: missing. Add it, one of onehot, label_smoothing, geols"),
        ({"targets": {"x": {"method": ["geols"]}}}, "targets.x.method: got ['geols'], which no installed package"),
        ({"targets": {"x": {"method": "geols", "seeds": {"strategy": "erosin"}}}}, "Did you mean 'erosion'?"),
        (
            {"targets": {"x": {"method": "geols", "seeds": {"strategy": "erosion", "radius_vox": 0}}}},
            "targets.x.seeds.radius_vox: got 0",
        ),
        ({"targets": {"x": {"method": "svls", "labels": {"a": 1}}}}, "targets.x.labels.background: got None"),
        (
            {
                "targets": {"x": {"method": "superpixel", "renormalise": True}},
                "labels": {"background": 0, "a": [1, 2], "b": 1},
            },
            "targets.x: renormalise: needs exclusive classes",
        ),
    ],
)
def test_fault_names_key_and_remedy(change, says):
    assert says in faults(MINIMAL | change)


PARITY = sorted((ROOT / "examples" / "parity").glob("*.yaml"))


@pytest.mark.parametrize("path", PARITY, ids=lambda path: path.stem)
def test_recipes_of_the_authors_are_whole(path):
    config = load_config(path)
    assert recipe_notes(config) == []
    for target in config.targets.values():
        assert target.variant_name == "official"
        assert target.precision == "uint16" or target.value_range is None
        if isinstance(target, GeodesicMethod):
            assert config.engine_of(target) != "softlabels" and target.distance.iterations == 4


def test_there_is_a_recipe_for_each_official_form():
    official = {method.name for method in METHODS.built_in.values() if "official" in method.variants()}
    assert {target.name for path in PARITY for target in load_config(path).targets.values()} == official


@pytest.mark.parametrize(
    "change", [{"normalise": "zscore"}, {"clip_percentiles": [1, 99]}, {"domain": "nonzero"}, {"crop": "labels"}]
)
def test_an_official_form_of_a_prepared_image_is_noted(change):
    targets = {
        "mine": {"method": "sing", "variant": "official"},
        "paper": {"method": "sing"},
        "labels_only": {"method": "svls", "variant": "official"},
    }
    (note,) = recipe_notes(parse_config(MINIMAL | {"prepare": change, "targets": targets}))
    assert note.startswith("targets.mine: variant official with prepare.") and "not the authors' recipe" in note
    assert recipe_notes(parse_config(MINIMAL | {"prepare": {}, "targets": targets})) == []


def test_variant_fills_in_its_own_metric():
    targets = {
        "paper": {"method": "geols"},
        "official": {"method": "geols", "variant": "official"},
        "own": {"method": "geols", "distance": {"metric": "sum", "lamb": 1}},
        "sing": {"method": "sing"},
    }
    config = parse_config(MINIMAL | {"targets": targets})
    found = {name: target.metric_parameters() for name, target in config.targets.items()}
    assert found == {
        "paper": {"metric": "pythagorean", "gamma": 1.0},
        "official": {"metric": "harmonic", "lamb": 1.0},
        "own": {"metric": "sum", "lamb": 1.0},
        "sing": {"metric": "l1", "lamb": 0.5},
    }


def test_regions_keep_their_order_and_drop_the_background():
    regions = LabelSet.parse({"background": 0, "wt": [1, 2, 4], "tc": [1, 4], "et": 4})
    assert regions.names == ("wt", "tc", "et") and regions.background is None and regions.values == (0, 1, 2, 4)
    exclusive = LabelSet.parse({"background": 0, "kidneys": [1, 2], "liver": 5})
    assert exclusive.names == ("background", "kidneys", "liver") and exclusive.background == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("channels: [T1]\nchannels: [T2]\n", "duplicate key 'channels' (lines 1 and 2)"),
        ("a: !!python/object/apply:os.system ['echo hi']\n", "not plain YAML"),
        ("- just\n- a list\n", "expected keys and values"),
        ("{unclosed\n", "not plain YAML"),
    ],
)
def test_hostile_yaml_is_refused_with_its_file_named(tmp_path, text, says):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="config.yaml") as caught:
        load_config(path)
    assert says in str(caught.value)


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="softlabels init"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", reference_files(ROOT))
def test_generated_file_is_up_to_date(name):
    assert (ROOT / name).read_text() == reference_files(ROOT)[name], "run 'python -m softlabels reference'"


def test_what_the_rules_pass_on_is_the_same_configuration():
    seeds = {"strategy": "skeleton"}
    for raw in (MINIMAL, MINIMAL | {"targets": {"g": {"method": "geols", "seeds": seeds}, "s": {"method": "sing"}}}):
        config = parse_config(raw)
        assert parse_config(config.model_dump(mode="json", exclude_defaults=True)) == config


def test_exclusive_classes_of_a_target_must_have_a_place_for_every_voxel():
    labels = {"background": 0, "core": 1, "edema": 2, "ring": 4, "ignore": 5}

    def parse(method, own):
        return parse_config(MINIMAL | {"labels": labels, "targets": {"t": {"method": method, "labels": own}}})

    edema = {"background": 0, "edema": 2}
    for method in ("geols", "onehot", "gaussian", "label_smoothing"):
        with pytest.raises(ConfigError, match=r"targets.t: labels: integers \[1, 4\] are in no class.*rest: \[1, 4\]"):
            parse(method, edema)
        parse(method, edema | {"rest": [1, 4]})
    # One structure against all else, and regions: what is in none of them is outside.
    parse("sing", edema)
    parse("level_set", edema)
    parse("svls", {"background": 0, "whole": [1, 2], "core": [1]})


def spelt(section_key: str, method_key: str) -> dict:
    """Return a configuration with the two keys that have a British and an American spelling."""
    targets = {"soft": {"method": "superpixel", method_key: True}}
    return MINIMAL | {"prepare": {section_key: "zscore"}, "targets": targets}


def test_both_spellings_mean_the_same_nodes():
    british, american = (parse_config(spelt(f"normali{letter}e", f"renormali{letter}e")) for letter in "sz")
    assert british == american and british.to_json() == american.to_json()
    assert make_plan(british).nodes == make_plan(american).nodes
    validate(instance=spelt("normalize", "renormalize"), schema=json_schema())


def test_two_spellings_of_one_key_are_refused():
    twice = spelt("normalise", "renormalise")
    twice["prepare"]["normalize"] = "minmax"
    twice["targets"]["soft"]["renormalize"] = False
    text = faults(twice)
    assert "prepare.normalize: unknown key" in text and "renormalize: unknown key" in text


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (
            {"method": "geols", "variant": "official"},
            "the classes of geols official have no stored map that sums to one",
        ),
        ({"method": "sing"}, "the classes of sing paper have no stored map that sums to one"),
        ({"method": "onehot"}, "the classes of onehot standard have no stored map that sums to one"),
        ({"method": "svls", "labels": {"background": 0, "whole": [1, 2], "core": 1}}, "svls paper overlap"),
    ],
)
def test_only_a_stored_distribution_may_be_sparse(target, why):
    text = faults(MINIMAL | {"targets": {"x": target | {"storage": "sparse"}}})
    assert "targets.x: storage: got sparse" in text and f"{why}. Remove storage" in text


@pytest.mark.parametrize("bound", [0, 0.2, "much"])
def test_what_a_sparse_map_may_drop_is_bounded(bound):
    assert "targets.x.max_dropped" in faults(MINIMAL | {"targets": {"x": {"method": "svls", "max_dropped": bound}}})


def test_a_colour_of_no_class_is_refused_with_the_nearest():
    raw = {"channels": ["T1"], "labels": {"background": 0, "core": 1}, "targets": {"a": {"method": "svls"}}}
    config = parse_config(raw | {"colours": {"core": "#aabbcc"}})
    assert config.label_set(config.targets["a"]).classes[1].colour == "#aabbcc"
    with pytest.raises(ConfigError, match=r"colours\.coer: no such class. Did you mean 'core'"):
        parse_config(raw | {"colours": {"coer": "#aabbcc"}})
    with pytest.raises(ConfigError, match="colours.core: "):
        parse_config(raw | {"colours": {"core": "red"}})
