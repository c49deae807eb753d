"""The keys of everything that softlabels computes: they must not change, or every store would be computed anew."""

from softlabels.config import parse_config
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.reuse import case_keys

TARGETS = {
    "geols": {"method": "geols"},
    "geols_official": {"method": "geols", "variant": "official"},
    "geols_random": {"method": "geols", "seeds": {"strategy": "random", "n": 3}},
    "geols_vector": {"method": "geols", "distance": {"modalities": "vector"}},
    "sing": {"method": "sing"},
    "sing_official": {"method": "sing", "variant": "official"},
    "sing_fastgeodis": {"method": "sing", "distance": {"metric": "sum", "engine": "fastgeodis"}},
    "superpixel": {"method": "superpixel"},
    "svls": {"method": "svls"},
    "svls_sparse": {"method": "svls", "storage": "sparse", "max_dropped": 0.02},
    "svls_own_classes": {"method": "svls", "labels": {"background": 0, "all": [1, 2]}},
    "gaussian": {"method": "gaussian"},
    "dilation": {"method": "dilation"},
    "level_set": {"method": "level_set"},
    "partial_volume": {"method": "partial_volume"},
    "multi_rater": {"method": "multi_rater"},
    "unmix": {"method": "unmix"},
    "random_walker": {"method": "random_walker"},
    "geodesic_band": {"method": "geodesic_band"},
}
CONFIG = {
    "channels": ["T1", "T2"],
    "labels": {"background": 0, "core": 1, "edema": 2},
    "prepare": {"spacing": [1, 1, 2]},
    "targets": TARGETS,
}
DIGESTS = {"image:0": "a" * 64, "image:1": "b" * 64, "label": "c" * 64}

#: Of version 1 of all stages and methods: target to its node and the first digits of its key.
OF_TARGETS = {
    "geols": ("target-ae150213", "81233ca7e18ed2e2"),
    "geols_official": ("target-128cfc50", "8b57ef91f4811b4c"),
    "geols_random": ("target-a8b5f0cc", "0a11dacd2a458feb"),
    "geols_vector": ("target-6be41ed2", "601079a76985d981"),
    "sing": ("target-5eeb8c97", "9b9cb9f6779bef4d"),
    "sing_official": ("target-f26b50ea", "63a87c27f26f4afa"),
    "sing_fastgeodis": ("target-1ad03e85", "4b52134c2693261e"),
    "superpixel": ("target-cadc8514", "ac00cbd6bd4c890d"),
    "svls": ("target-24208b6f", "465f42e100abe743"),
    "svls_sparse": ("target-cc3f27ce", "910b8115db871137"),
    "svls_own_classes": ("target-4da64f17", "6c151e23130e9259"),
    "gaussian": ("target-5443e503", "1b535a3c3f589882"),
    "dilation": ("target-1c6cefd4", "931c4f60b679205e"),
    "level_set": ("target-c1f6c1a9", "3cb10a1d64d94919"),
    "partial_volume": ("target-2f5ec231", "b3e879ebc7a7a943"),
    "multi_rater": ("target-f2226f38", "86aa1651ae8b377c"),
    "unmix": ("target-f08083f3", "0562df67a7865d8d"),
    "geodesic_band": ("target-48e6b4fc", "7d19c92d0da69901"),
    "random_walker": ("target-538bfae4", "1dae00bb4141a839"),
}
#: Node upstream to the first digits of its key.
OF_UPSTREAM = {
    "prepare-59d340e2": "524256ea036c22d7",
    "seeds-6ab6b478": "be0638a2b82ab40b",
    "seeds-7de6f54a": "4890d77b039ce473",
    "seeds-786c3466": "698e12f99b8b9bd5",
    "seeds-150634b3": "030258a76d51966c",
    "seeds-8c7509a8": "045914beaf401a66",
    "seeds-1ae76e8b": "84979a7475b16feb",
    "distance-c766bf0c": "3beb68d13b59d09b",
    "distance-506982f7": "4d7e22e9f34aaf2f",
    "distance-9abfcd86": "b2c7aa3d4368f97c",
    "distance-36b798bb": "6d240150ca6c30ba",
    "distance-afad88b4": "9e40eb65ad1527dc",
    "distance-2b77092f": "a3d326889a861612",
    "distance-bf5c00f0": "a34daf7ed4936e18",
}


def test_nodes_and_keys_of_version_1_stay_what_they_were():
    plan = make_plan(parse_config(CONFIG))
    keys = {node: key[:16] for node, key in case_keys(plan, "case0", DIGESTS).items()}
    assert {name: (node, keys[node]) for name, node in plan.targets.items()} == OF_TARGETS
    assert {node: key for node, key in keys.items() if not node.startswith("target-")} == OF_UPSTREAM


def test_what_the_loader_applies_is_in_no_node():
    calibrate = {"slope": 0.8, "offsets": {"core": 0.5}, "fitted_for": "rater 2"}
    targets = {
        "plain": {"method": "geols"},
        "softer": {"method": "geols", "alpha": 0.4},
        "calibrated": {"method": "geols", "calibrate": calibrate},
    }
    plan = make_plan(parse_config(CONFIG | {"targets": targets}))
    assert len(set(plan.targets.values())) == 1


def test_storage_is_in_the_node_where_it_is_sparse_and_only_there():
    many = CONFIG | {"labels": {"background": 0} | {f"organ_{i}": i for i in range(1, 16)}}
    few = CONFIG | {"labels": {"background": 0} | {f"organ_{i}": i for i in range(1, 15)}}

    def nodes(config, **options):
        targets = {"svls": {"method": "svls", **options}, "sing": {"method": "sing"}}
        plan = make_plan(parse_config(config | {"targets": targets}))
        return plan.targets["svls"], plan.nodes[plan.targets["svls"]].params, plan.nodes[plan.targets["sing"]].params

    assert nodes(few)[0] == nodes(few, storage="dense")[0] == nodes(few, max_dropped=0.05)[0]
    assert nodes(many)[0] == nodes(many, storage="sparse")[0] != nodes(many, storage="dense")[0]
    assert nodes(many)[0] != nodes(many, max_dropped=0.05)[0]
    for config, options, expected in (
        (few, {}, {}),
        (few, {"storage": "sparse"}, {"storage": "sparse", "max_dropped": 0.01}),
        (many, {}, {"storage": "sparse", "max_dropped": 0.01}),
        (many, {"storage": "dense"}, {}),
    ):
        _, svls, sing = nodes(config, **options)
        assert {k: v for k, v in svls.items() if k in ("storage", "max_dropped")} == expected
        assert not {"storage", "max_dropped"} & sing.keys()
