"""The key: equal for equal requests on every Python, different for different ones, and never of something vague."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from softlabels.errors import InputError
from softlabels.store import entry_key

REQUEST = {
    "stage": "distance",
    "algorithm": "3",
    "params": {
        "metric": "sum",
        "lamb": 0.1 + 0.2,
        "tiny": 1e-300,
        "classes": [{"name": "tümour ≥ 1", "values": [1, 2]}],
        "cap": None,
        "exact": True,
        "big": 2**70,
    },
    "inputs": {"prepare": "ab" * 32, "seeds": "cd" * 32},
}
GOLDEN = "37bf0c583e70e0a18759598594baed7d71d2bbf5fbe6cee0bd10562a307a92ce"

CANONICAL = (
    '{"algorithm":"3","format":1,"inputs":{"prepare":"' + "ab" * 32 + '","seeds":"' + "cd" * 32 + '"},'
    '"params":{"big":1180591620717411303424,"cap":null,"classes":[{"name":"t\\u00fcmour \\u2265 1","values":[1,2]}],'
    '"exact":true,"lamb":0.30000000000000004,"metric":"sum","tiny":1e-300},"stage":"distance"}'
)


def test_the_key_is_the_hash_of_the_canonical_request():
    assert entry_key(**REQUEST) == hashlib.sha256(CANONICAL.encode("ascii")).hexdigest() == GOLDEN


def pythons():
    """Return every Python of this machine that softlabels supports."""
    found = {sys.executable}
    for minor in (11, 12, 13, 14):
        found |= {
            str(path)
            for path in Path(os.environ.get("PYENV_ROOT", "~/.pyenv"))
            .expanduser()
            .glob(f"versions/3.{minor}.*/bin/python")
        }
    return sorted(found)


@pytest.mark.parametrize("python", pythons())
def test_every_python_computes_the_same_key_with_its_standard_library_alone(python):
    code = f"from softlabels.store.key import entry_key; print(entry_key(**{REQUEST!r}))"
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    done = subprocess.run([python, "-S", "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == GOLDEN


def changed_requests():
    """Yield the request with one thing changed, for everything in it."""
    for field, value in [("stage", "seeds"), ("algorithm", "4"), ("algorithm", "")]:
        yield {**REQUEST, field: value}
    changes = {"metric": "l1", "lamb": 0.3, "tiny": 0.0, "cap": 0, "exact": 1, "big": float(2**70), "new": None}
    for name, value in changes.items():
        yield {**REQUEST, "params": {**REQUEST["params"], name: value}}
    yield {**REQUEST, "params": {k: v for k, v in REQUEST["params"].items() if k != "cap"}}
    for classes in ([], [{"name": "tümour ≥ 1", "values": [2, 1]}], [{"name": "tumour ≥ 1", "values": [1, 2]}]):
        yield {**REQUEST, "params": {**REQUEST["params"], "classes": classes}}
    one_digit_off = "ab" * 31 + "aa"
    for inputs in (
        {"prepare": "ab" * 32},
        {"prepare": one_digit_off, "seeds": "cd" * 32},
        {"seeds": "ab" * 32, "prepare": "cd" * 32},
    ):
        yield {**REQUEST, "inputs": inputs}


def test_whatever_changes_in_the_request_changes_the_key():
    keys = [entry_key(**request) for request in changed_requests()]
    assert len({*keys, GOLDEN}) == len(keys) + 1 == 18


def test_the_format_version_changes_the_key(monkeypatch):
    monkeypatch.setattr("softlabels.store.key.FORMAT_VERSION", 2)
    assert entry_key(**REQUEST) != GOLDEN


def test_order_of_dicts_and_kind_of_sequence_do_not_change_the_key():
    params = dict(reversed(REQUEST["params"].items()))
    params["classes"] = ({"values": (1, 2), "name": "tümour ≥ 1"},)
    assert entry_key(**{**REQUEST, "params": params}) == GOLDEN


@pytest.mark.parametrize(
    "wrong",
    [
        np.nan,
        np.inf,
        -np.inf,
        np.float64(1),
        np.int64(1),
        np.bool_(True),
        Path("x"),
        b"x",
        {1: "x"},
        {1, 2},
        1j,
        np.zeros(2),
    ],
    ids=repr,
)
def test_what_is_not_plain_json_is_refused_with_its_place(wrong):
    with pytest.raises(InputError, match=r"entry key\.params\.deep\[1\].*expected plain JSON"):
        entry_key(**{**REQUEST, "params": {"deep": [0, wrong]}})
