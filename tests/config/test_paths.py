"""Paths of config.yaml: one form, whatever they are spelled like, and never a folder that others have files in."""

import os
from pathlib import Path

import pytest

from softlabels.config import parse_config
from softlabels.errors import ConfigError

MINIMAL = {"channels": ["T1"], "labels": {"background": 0, "a": 1}, "targets": {"hard": {"method": "onehot"}}}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("store", "store"),
        ("store/", "store"),
        ("./a//b/../store", "a/store"),
        ("../store", "../store"),
        ("~/store", "/home/me/store"),
        ("$SCRATCH/store", "/scratch/me/store"),
        ("${SCRATCH}/store/", "/scratch/me/store"),
        ("/data/50% & more", "/data/50% & more"),
        ("a$ b", "a$ b"),
    ],
)
@pytest.mark.parametrize("key", ["cases", "store", "results"])
def test_paths_are_expanded_once(key, given, path):
    config = parse_config(MINIMAL | {key: given})
    assert getattr(config, key) == path
    assert getattr(parse_config(MINIMAL | {key: path}), key) == path


@pytest.mark.parametrize("given", ["", "   ", "a\0b", "a\nb", "$UNSET/store", "${UNSET}/x", "~nobody-of-this-name/x"])
@pytest.mark.parametrize("key", ["cases", "store", "results"])
def test_a_path_that_leads_nowhere_is_refused(key, given):
    with pytest.raises(ConfigError, match=f"{key}: "):
        parse_config(MINIMAL | {key: given})


def test_the_value_of_a_variable_is_not_expanded_again(monkeypatch):
    monkeypatch.setenv("SCRATCH", "$HOME/x")
    with pytest.raises(ConfigError, match=r"store: .*\$HOME is not set"):
        parse_config(MINIMAL | {"store": "$SCRATCH/store"})


@pytest.mark.parametrize("given", ["/", "//", ".", "./", "a/..", "~", "$HOME/"])
@pytest.mark.parametrize("key", ["store", "results"])
def test_a_folder_with_files_of_others_is_not_taken_for_store_or_results(key, given):
    with pytest.raises(ConfigError, match=f"{key}: got .* expected a folder of its own"):
        parse_config(MINIMAL | {key: given})


def test_braces_may_be_in_the_store_but_not_in_names_of_rules():
    assert parse_config(MINIMAL | {"store": "run {a}"}).store == "run {a}"
    with pytest.raises(ConfigError, match="results: .*wildcards"):
        parse_config(MINIMAL | {"results": "run {a}"})


def test_defaults_are_left_as_they_are():
    config = parse_config(MINIMAL)
    assert [Path(os.path.normpath(path)) for path in (config.cases, config.store, config.results)] == [
        Path("cases.tsv"),
        Path("store"),
        Path("results"),
    ]
