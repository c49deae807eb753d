"""The memory that jobs may take: what is free, or less in a container."""

from types import SimpleNamespace

import psutil
import pytest

from softlabels._shared.memory import free_memory_mb


@pytest.mark.parametrize(("limit", "expected_mb"), [("1000000000\n", 800), ("max\n", None), (None, None)])
def test_most_of_what_is_free_is_counted_on_within_the_limit_of_a_container(tmp_path, monkeypatch, limit, expected_mb):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5_000_000_000))
    path = tmp_path / "memory.max"
    if limit:
        path.write_text(limit)
    assert free_memory_mb(path) == pytest.approx(expected_mb or 4000)
