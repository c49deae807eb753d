"""Warming up computes every target of a configuration for a made case, and leaves nothing behind but kernels."""

import pytest

from softlabels._shared.compile_clock import CompileClock
from softlabels.config import parse_config
from softlabels.pipeline.warm_up import warm_up

BASE = {"channels": ["T1", "T2"], "labels": {"background": 0, "core": 1, "rim": 2}}


@pytest.mark.parametrize(
    "targets",
    [
        {"geols": {"method": "geols"}, "sing": {"method": "sing"}, "raters": {"method": "multi_rater"}},
        {"walker": {"method": "random_walker"}, "unmix": {"method": "unmix"}, "level": {"method": "level_set"}},
    ],
)
def test_every_target_is_computed_and_a_second_time_nothing_is_compiled(tmp_path, targets):
    config = parse_config(BASE | {"targets": targets, "prepare": {"spacing": [1, 1, 1], "normalise": "zscore"}})
    warm_up(config, tmp_path / "first")
    assert warm_up(config, tmp_path / "second") == (0, 0.0)
    results = [path.name.partition("-")[0] for path in (tmp_path / "first/results/warm_up").glob("target-*.json")]
    assert len(results) == len(targets)


def test_many_labels_and_overlapping_regions_are_made_too(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3]}
    warm_up(parse_config(BASE | {"labels": labels, "targets": {"sing": {"method": "sing"}}}), tmp_path)


def test_a_compilation_within_another_is_counted_once(caplog):
    clock = CompileClock()
    with caplog.at_level("INFO"):
        clock.start()
        clock.start()
        clock.end()
        assert clock.n_kernels == 0
        clock.end()
        clock.start()
        clock.end()
    assert clock.n_kernels == 2 and clock.wall_seconds >= clock.cpu_seconds * 0
    assert [record.message for record in caplog.records] == ["compiling kernels (once per machine)"]
