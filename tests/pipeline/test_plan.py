"""The plan: what is shared, what a change of one key recomputes, what stays out of every key."""

import pytest

from softlabels.config import parse_config
from softlabels.pipeline.node import nodes_from_json, nodes_to_json
from softlabels.pipeline.plan import make_plan

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
