"""The plan: what is shared, what a change of one key recomputes, what stays out of every key."""

import pytest
from helpers import made_data

from softlabels.config import parse_config
from softlabels.errors import InputError
from softlabels.methods import METHODS, Distance, GeodesicMethod
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


@pytest.mark.parametrize(
    ("prepare", "version"),
    [
        ({"interpolation": "bspline", "spacing": [1, 1, 1]}, "2"),
        ({"interpolation": "bspline"}, "1"),
        ({"spacing": [1, 1, 1]}, "1"),
    ],
)
def test_only_what_resamples_by_spline_has_the_version_of_the_spline(prepare, version):
    made = plan(prepare=prepare)
    assert made.nodes[made.prepare].algorithm == version


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


@pytest.mark.parametrize(
    ("needs", "stages", "roles"),
    [
        (set(), [], {"prepare"}),
        ({"image"}, [], {"prepare"}),
        ({"seeds"}, ["seeds"], {"prepare", "seeds"}),
        ({"image", "seeds"}, ["seeds"], {"prepare", "seeds"}),
        ({"distance"}, ["seeds", "distance"], {"prepare", "distance"}),
        ({"seeds", "distance"}, ["seeds", "distance"], {"prepare", "seeds", "distance"}),
    ],
)
def test_a_method_gets_the_nodes_that_it_needs_and_no_others(needs, stages, roles, monkeypatch):
    geols = METHODS["geols"]

    class Toy(GeodesicMethod):
        """A method that needs this and that."""

        name = "toy"
        title = source = "toy"
        version = "1"
        default_seeds = {"standard": geols().seed_strategy}
        default_distance = {"standard": Distance(metric="l1")}

    Toy.needs = frozenset(needs)
    monkeypatch.setitem(METHODS.built_in, "toy", Toy)
    made = plan(targets={"toy": {"method": "toy"}})
    assert [node.stage for node in made.nodes.values()] == ["prepare", *stages, "target"]
    target = made.nodes[made.targets["toy"]]
    assert set(target.inputs) == roles
    assert {role: made.nodes[node].stage for role, node in target.inputs.items()} == {role: role for role in roles}


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


def test_a_node_is_for_the_targets_that_need_it():
    targets = {"a": {"method": "geols"}, "b": {"method": "svls"}, "hard": {"method": "onehot"}}
    plan = make_plan(parse_config(made_data.CONFIG | {"targets": targets}))
    users = {plan.nodes[node].stage + str(names): names for node, names in plan.users().items()}
    assert users == {
        "prepare['a', 'b']": ["a", "b"], "seeds['a']": ["a"], "distance['a']": ["a"], "target['a']": ["a"],
        "target['b']": ["b"],
    }  # fmt: skip
