"""Laws of sealed JSON: it comes back as it was, in either form, and no changed byte goes unnoticed."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlabels._shared.plain_json import n_sealed_bytes, quickly_sealed_json, sealed_json, unsealed_json

FORMS = (sealed_json, quickly_sealed_json)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
contents = st.dictionaries(st.text().filter(lambda name: name != "seal"), plain, min_size=1, max_size=4)


@given(contents)
def test_what_is_sealed_comes_back_in_either_form_and_is_json_that_says_the_same(content):
    for seal in FORMS:
        assert unsealed_json(seal(content)) == content
        said = json.loads(seal(content))
        assert said.pop("seal") and said == json.loads(json.dumps(content))


@pytest.mark.parametrize("seal", FORMS)
def test_any_changed_byte_is_noticed_and_so_is_a_missing_end(seal):
    good = seal({"a": [1, 2.5, "\u00b5"], "z": {"seal": "0" * 64}})
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1
        # White space outside of strings may be another in the older form, which seals what the text says.
        if seal is quickly_sealed_json or not good[position : position + 1].isspace():
            with pytest.raises(ValueError, match=r"."):
                unsealed_json(bytes(bad))
        with pytest.raises(ValueError, match=r"."):
            unsealed_json(good[:position])


def test_the_seal_of_a_quickly_sealed_text_is_the_hash_of_the_bytes_before_its_line():
    text = quickly_sealed_json({"a": 1, "z": 2})
    before = text[: text.index(b' "seal"')]
    assert n_sealed_bytes(text) == len(before) and json.loads(text)["seal"] == hashlib.sha256(before).hexdigest()
    assert n_sealed_bytes(sealed_json({"a": 1, "z": 2})) is None and n_sealed_bytes(b"") is None
