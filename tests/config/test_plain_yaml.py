"""Hostile and mistaken YAML: one line that says what is wrong, never a traceback, a hang or another value."""

import os

import pytest
import yaml

from softlabels.config import command_line_values, load_config, read_yaml
from softlabels.errors import ConfigError


def laughs(first: str, make, levels: int = 40) -> str:
    """Return anchors of which each refers several times to the one before it."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {make(f'*a{i - 1}')}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (laughs("[x]", lambda one: f"[{', '.join([one] * 9)}]"), "more than 100000 values"),
        (laughs("{x: 1}", lambda one: f"{{l: {one}, r: {one}}}"), "more than 100000 values"),
        (laughs("{x: 1}", lambda one: f"{{<<: [{one}, {one}]}}"), "more than 100000 values"),
        ("a: &a [*a]", "leads to itself"),
        ("a: " + "[" * 500 + "]" * 500, "levels of nested values"),
        ("a: " + "{b: " * 500 + "1" + "}" * 500, "levels of nested values"),
        ("a: 2026-13-45", "not plain YAML"),
        ("a: 2026-11-25", "a: got datetime.date"),
        ("a: !!int x", "not plain YAML"),
        ("a: !!float x", "not plain YAML"),
        ("a: !!bool x", "not plain YAML"),
        ("a: !!timestamp x", "not plain YAML"),
        ("a: " + "9" * 5000, "not plain YAML"),
        ("a: !!binary eA==", "a: got b'x'"),
        ("a: !!set {x}", "a: got {'x'}"),
        ("a: \0", "not plain YAML"),
        ("{[a]: 1}", "not plain YAML"),
        ("no: 1", "got the key False, expected text"),
        ("b: {ON: 1}", "got the key True in b, expected text"),
        ("null: 1", "got the key None"),
        ("a: 1\n--- \nb: 2", "not plain YAML"),
    ],
    ids=lambda value: value[:24],
)
def test_hostile_yaml_ends_in_one_line(tmp_path, text, says):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and says in message and "\n" not in message and len(message) < 1000


def test_references_and_merge_keys_of_ordinary_size_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 4}\nc: *a\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": [2, 3]}, "b": {"x": 4, "y": [2, 3]}, "c": {"x": 1, "y": [2, 3]}}


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(tmp_path / "config.yaml")


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    with open(tmp_path / "config.yaml", "wb") as file:
        file.truncate(2**31)
    with pytest.raises(ConfigError, match="larger than"):
        load_config(tmp_path / "config.yaml")


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "config.yaml").write_bytes("store: Müller\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "config.yaml")


def test_values_of_the_command_line_mean_what_they_mean_in_a_file():
    # As Snakemake parses --config: BaseLoader gives text for everything inside of brackets.
    given = {"pictures": "false", "prepare": yaml.load("{spacing: [1, 0.5, 2e0], crop: none}", yaml.BaseLoader)}
    content = {"pictures": "false", "prepare": {**given["prepare"], "clip_percentiles": [1, "99"]}, "device": "cpu"}
    assert command_line_values(content, given) == {
        "pictures": False,
        "prepare": {"spacing": [1, 0.5, "2e0"], "crop": "none", "clip_percentiles": [1, "99"]},
        "device": "cpu",
    }


def test_command_line_values_of_another_workflow_change_nothing():
    content = {"store": "false", "labels": {"a": 1}}
    assert command_line_values(content, {"store": "true", "sample": "5", "labels": "no"}) == content
