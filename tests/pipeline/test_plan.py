"""The plan: what is shared, what a change of one key recomputes, what stays out of every key."""

import pytest

from softlabels.config import parse_config
from softlabels.errors import InputError
from softlabels.pipeline.node import nodes_from_json, nodes_to_json
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.stages import STAGES

BASE = {
    "channels": ["T1"],
    "labels": {"background": 0, "core": 1, "edema": 2},
    "targets": {"geols": {"method": "geols"}},
}


def plan(**changes):
    return make_plan(parse_config(BASE | changes))


def with_target(**keys):
    return plan(targets={"geols": {"method": "geols", **keys}})


def stages_that_differ(a, b) -> set[str]:
    return {node.stage for key, node in b.nodes.items() if key not in a.nodes}


def test_nodes_stand_upstream_first():
    assert [node.stage for node in plan().nodes.values()] == ["prepare", "seeds", "distance", "target"]


@pytest.mark.parametrize(
    ("change", "recomputed"),
    [
        ({"alpha": 0.3}, set()),
        ({"seeds": {"strategy": "erosion"}}, {"seeds", "distance", "target"}),
        ({"distance": {"gamma": 2}}, {"distance", "target"}),
        ({"precision": "uint16"}, {"target"}),
    ],
)
def test_a_change_recomputes_only_what_depends_on_it(change, recomputed):
    assert stages_that_differ(plan(), with_target(**change)) == recomputed


def test_device_is_in_no_node_of_our_engine_and_in_a_foreign_one():
    assert plan(device="cuda").nodes == plan().nodes
    targets = {"s": {"method": "sing", "distance": {"metric": "sum", "engine": "fastgeodis"}}}
    cpu, cuda = plan(targets=targets), plan(targets=targets, device="cuda")
    assert "distance" in stages_that_differ(cpu, cuda)


def test_targets_share_equal_nodes_and_keep_their_names():
    two = plan(targets={"a": {"method": "geols"}, "b": {"method": "geols", "alpha": 0.5}})
    assert two.targets["a"] == two.targets["b"] and len(two.nodes) == 4


def test_derived_targets_have_no_node():
    derived = plan(targets={"hard": {"method": "onehot"}, "ls": {"method": "label_smoothing"}})
    assert derived.targets == {"hard": None, "ls": None}
    assert [node.stage for node in derived.nodes.values()] == ["prepare"]


def test_label_names_do_not_touch_prepare_but_are_checked_again():
    other = plan(labels={"background": 0, "core": 1, "edema": 2, "new": 3})
    assert other.prepare == plan().prepare
    assert other.nodes[other.prepare] != plan().nodes[plan().prepare]


def test_nodes_survive_their_json():
    nodes = list(plan().nodes.values())
    assert nodes_from_json(nodes_to_json(nodes)) == nodes
    assert [node.id for node in nodes_from_json(nodes_to_json(nodes))] == list(plan().nodes)


def test_upstream_of_a_target_is_its_whole_chain():
    made = plan(targets={"geols": {"method": "geols"}, "svls": {"method": "svls"}})
    chain = [made.nodes[n].stage for n in made.upstream(made.targets["svls"])]
    assert chain == ["prepare", "target"]


# The ids and keys of version 0.1.0. Whoever changes one must bump the version of what gives other results, or mend it.
GOLDEN_PREPARE = "prepare-f7be6083", "03d05a6f94c646e1ea732ad0d7e865933a0e2945c365003480a2c030823e47fa"
GOLDEN = [
    ({"method": "geols"}, ["seeds-82c17e7b", "distance-cd6152da", "target-95f3bc8b", "7325066d3217d39b"]),
    (
        {"method": "geols", "variant": "official"},
        ["seeds-ac55be74", "distance-d7f5b6a2", "target-9a6ee811", "9fd2d7288fb60bf3"],
    ),
    (
        {"method": "geols", "alpha": 0.3, "seeds": {"strategy": "erosion", "radius_vox": 2}},
        ["seeds-48080353", "distance-834fd5e4", "target-9213fbba", "e53d434e30b67471"],
    ),
    (
        {"method": "geols", "seeds": {"strategy": "random", "n": 5}},
        ["seeds-0094734c", "distance-2a1437c9", "target-2e578d70", "a244cd941bf97680"],
    ),
    (
        {
            "method": "geols",
            "seeds": {"strategy": "boundary", "side": "inner"},
            "distance": {"metric": "sum", "modalities": "vector"},
        },
        ["seeds-b61d7908", "distance-8b1f39a2", "target-e3a2483e", "3538f05111c77028"],
    ),
    (
        {"method": "geols", "variant": "official", "distance": {"engine": "geodistk"}},
        ["seeds-ac55be74", "distance-abc29d40", "target-e1220c4b", "334daceb957545ae"],
    ),
    ({"method": "sing"}, ["seeds-1d190699", "distance-cf638684", "target-62e02c2f", "5728b4cb48dcaf0a"]),
    (
        {"method": "sing", "variant": "official", "precision": "uint16"},
        ["seeds-c1496468", "distance-c56560f8", "target-cfc53c01", "994198d69f7603dd"],
    ),
    (
        {"method": "sing", "labels": {"background": 0, "core": 1}},
        ["seeds-79f961d6", "distance-e4c0ff0f", "target-5eea6839", "2f63e181af9a9e69"],
    ),
    ({"method": "superpixel", "renormalise": True}, ["target-e08b6f6b", "b67a30a60f812155"]),
    ({"method": "svls"}, ["target-f63edc58", "2fa72b57396c41af"]),
    ({"method": "svls", "variant": "official"}, ["target-3825af9d", "d2d8ee667d2d538f"]),
    ({"method": "svls", "kernel_size": 5, "sigma": 2, "spacing_aware": True}, ["target-1f34e71b", "6958da271cf694c4"]),
    ({"method": "gaussian"}, ["target-6bb41e54", "8902628588dd3cd0"]),
    ({"method": "dilation", "radius_mm": 3}, ["target-572be1d5", "caa72e06f628ed09"]),
    ({"method": "level_set"}, ["target-12317df2", "b17f9b695fd0d0e8"]),
    ({"method": "level_set", "variant": "normalised"}, ["target-4cf44291", "666fbbbe44127542"]),
    ({"method": "level_set", "variant": "official", "truncate": True}, ["target-dc1ca7d8", "3f42fb6b235554e8"]),
    ({"method": "partial_volume"}, ["target-85e8e996", "41f5cc2a0c5b0632"]),
    ({"method": "multi_rater", "fusion": "staple"}, ["target-7374e9cc", "a4b6395ef386a32d"]),
]


@pytest.mark.parametrize(("target", "golden"), GOLDEN)
def test_nodes_and_keys_stay_what_they_were(target, golden):
    made = plan(channels=["T1", "T2"], prepare={"normalise": "zscore"}, targets={"t": target})
    digests = {"image": "ab" * 32, "label": "cd" * 32}
    keys: dict[str, str] = {}
    for node_id, node in made.nodes.items():
        inputs = {role: keys[upstream] for role, upstream in node.inputs.items()} or digests
        keys[node_id] = STAGES[node.stage].key(node, "case0", inputs)
    prepare, *chain = made.upstream(made.targets["t"])
    assert (prepare, keys[prepare]) == GOLDEN_PREPARE
    assert [*chain, keys[chain[-1]][:16]] == golden


NAMED = {
    "geols": {"method": "geols"},
    "geols_strong": {"method": "geols", "alpha": 0.3},
    "sing": {"method": "sing"},
    "hard": {"method": "onehot"},
}


@pytest.mark.parametrize(
    ("name", "target", "stage"),
    [
        ("prepare", "geols", "prepare"),
        ("geols", "geols", "target"),
        ("geols/target", "geols", "target"),
        ("geols/distance", "geols", "distance"),
        ("sing/seeds", "sing", "seeds"),
        ("sing/d", "sing", "distance"),
        ("sing/prepare", "geols", "prepare"),
        ("geols_strong/dist", "geols", "distance"),
        ("geo", "geols", None),
    ],
)
def test_a_node_is_found_by_the_name_of_its_target(name, target, stage):
    made = plan(targets=NAMED)
    if stage is None:
        with pytest.raises(InputError, match="node 'geo': the beginning of geols, geols/prepare, .*Give more"):
            made.find_node(name)
        return
    (expected,) = [n for n in made.upstream(made.targets[target]) if made.nodes[n].stage == stage]
    assert made.find_node(name) == expected


def test_a_node_is_found_by_its_id_and_by_the_beginning_of_one():
    made = plan(targets=NAMED)
    for node_id in made.nodes:
        assert made.find_node(node_id) == made.find_node(node_id[:-2]) == node_id


def test_a_name_that_is_none_is_refused_with_what_is_near():
    made = plan(targets=NAMED)
    with pytest.raises(InputError, match=r"node 'sing/distence': not in the plan\. Did you mean sing/distance"):
        made.find_node("sing/distence")
    with pytest.raises(InputError, match="node 'hard': this target is derived from the labels"):
        made.find_node("hard")
    with pytest.raises(InputError, match="node '': the beginning of"):
        made.find_node("")
