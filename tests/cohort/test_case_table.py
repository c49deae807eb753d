"""Laws of the table of cases: it is a sequence of cases, read one by one, and cheap to hand to another process."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlabels.cohort.case_table import CaseTable, EntryAddress, IndexedCase
from softlabels.cohort.index_file import sealed_index, unsealed_index
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.grid import Grid

ADDRESS = EntryAddress("0" * 64, "1" * 64)
BLOCKS = LabelBlocks((4, 5, 6), (2, 5, 3), {1: ((0, 3), (7, 1)), 300: ((2,), (5,))})
HEAD = {"any": 1}
GRID = Grid((4, 5, 6), (2.0, 0.1, 1 / 3))

cases = st.builds(
    IndexedCase,
    id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    split=st.one_of(st.none(), st.text(max_size=8)),
    flags=st.lists(st.text(max_size=8), max_size=2).map(tuple),
    prepare=st.just(ADDRESS),
    targets=st.dictionaries(st.text(max_size=8), st.just(ADDRESS), max_size=2),
    labels=st.sampled_from([None, BLOCKS]),
    grid=st.sampled_from([None, GRID]),
)
listed = st.lists(cases, max_size=6, unique_by=lambda case: case.id)


def small(n):
    """Return n cases, each in one of three splits."""
    return [IndexedCase(f"case{i}", (None, "train", "val")[i % 3], (), ADDRESS, {}, BLOCKS) for i in range(n)]


@given(listed)
def test_a_table_is_the_sequence_of_its_cases_in_memory_in_bytes_and_pickled(made):
    table = CaseTable.of(iter(made))
    content, read = unsealed_index(sealed_index(HEAD, table))
    assert content["any"] == 1
    for one in (table, read, pickle.loads(pickle.dumps(read))):
        assert one == made and list(one) == made and len(one) == len(made)
        assert one.ids == tuple(case.id for case in made) and one.splits == tuple(case.split for case in made)
        assert [one[i] for i in range(-len(made), len(made))] == made * 2
        assert [one.position(case.id) for case in made] == list(range(len(made)))


@given(listed)
def test_the_bytes_are_json_that_any_reader_understands(made):
    content = json.loads(sealed_index(HEAD, CaseTable.of(made)))
    assert content["cases"] == json.loads(json.dumps([case.to_json() for case in made]))


@given(st.integers(0, 9), st.data())
def test_slices_and_choices_are_those_of_a_list_and_share_the_text(n, data):
    made = small(n)
    table = CaseTable.of(made)
    part = data.draw(st.slices(n))
    assert table[part] == made[part] and table[part].text is table.text
    positions = data.draw(st.lists(st.integers(0, n - 1), max_size=5)) if n else []
    assert table.chosen(positions) == [made[i] for i in positions]


def test_a_position_outside_is_an_index_error_and_an_unknown_id_has_none():
    table = CaseTable.of(small(2))
    for position in (2, -3):
        with pytest.raises(IndexError):
            table[position]
    assert table.position("other") is None


def test_keys_are_those_of_all_cases():
    other = {"geols": EntryAddress("2" * 64, "3" * 64)}
    table = CaseTable.of([*small(2), replace(small(1)[0], id="other", targets=other)])
    assert table.keys() == {"0" * 64, "2" * 64}


def test_a_table_equals_a_sequence_of_the_same_cases_only():
    made = small(3)
    assert CaseTable.of(made) == tuple(made) and tuple(made) == CaseTable.of(made)
    assert CaseTable.of(made) not in (made[:2], made[::-1], None, {case.id: case for case in made})


def test_a_case_is_parsed_when_it_is_asked_for_and_not_before(monkeypatch):
    _, table = unsealed_index(sealed_index(HEAD, CaseTable.of(small(5))))
    parsed = []
    monkeypatch.setattr(IndexedCase, "from_json", lambda content: parsed.append(content["id"]))
    table.chosen([1, 3])[1], table.position("case2"), table.keys()
    assert parsed == ["case3"]


def test_a_process_that_is_given_a_table_is_given_its_bytes_once():
    table = CaseTable.of(small(1000))
    _ = table.position("case7")
    both = pickle.dumps((table, table.chosen(np.arange(0, 1000, 2))))
    assert len(both) < len(table.text) + 1000 * 64
