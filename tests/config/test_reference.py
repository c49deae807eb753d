"""The generated pages: tables between markers, what a row says, and a schema that lets other packages in."""

import pytest
from helpers import ROOT

from softlabels.config import json_schema
from softlabels.config.reference import reference_files
from softlabels.config.tables import default_rows, key_rows, loss_rows, markdown, method_rows
from softlabels.errors import InputError
from softlabels.methods import METHODS
from softlabels.seeds import STRATEGIES


def test_a_page_without_its_markers_is_refused(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("methods", "losses"):
        (tmp_path / "docs" / f"{name}.md").write_text((ROOT / "docs" / f"{name}.md").read_text().replace("<!--", "<--"))
    with pytest.raises(InputError, match="table of methods: expected the lines '<!-- methods"):
        reference_files(tmp_path)


def test_text_around_the_tables_stays(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("methods", "losses"):
        text = (ROOT / "docs" / f"{name}.md").read_text()
        (tmp_path / "docs" / f"{name}.md").write_text(text.replace("geols", "gools") + "the end")
    made = reference_files(tmp_path)
    assert made["docs/methods.md"].endswith("the end") and "| `geols` | GeoLS |" in made["docs/methods.md"]
    assert made["docs/losses.md"].endswith("the end")


def test_rows_have_as_many_cells_as_their_header():
    for line in markdown(("a", "b", "c"), [("", "", ""), ("1", "", "2")]):
        assert line.count("|") == 4


def test_every_method_has_its_rows():
    assert [row[0] for row in method_rows()] == [f"`{name}`" for name in METHODS.built_in]
    n_variants = sum(len(method.variants()) for method in METHODS.built_in.values())
    assert len(default_rows()) == n_variants
    targets = ", ".join(row[0] for row in loss_rows())
    assert [method.title for method in METHODS.built_in.values() if method.title not in targets] == []


@pytest.mark.parametrize("component", [*METHODS.built_in.values(), *STRATEGIES.built_in.values()])
def test_every_key_says_what_it_means_and_what_it_may_be(component):
    first, *rows = key_rows(component)
    assert first == (f"`{component.key}`", f"`{component.name}`", "required", "")
    for key, values, default, meaning in rows:
        assert values != "value" and default != "required" and meaning, key


def test_the_schema_knows_every_method_and_lets_other_names_in():
    choices = json_schema()["properties"]["targets"]["patternProperties"].popitem()[1]["oneOf"]
    *named, other = choices
    assert [one["properties"]["method"]["const"] for one in named] == list(METHODS.built_in)
    assert all(one["required"][0] == "method" and one["additionalProperties"] is False for one in named)
    assert other["properties"]["method"]["not"]["enum"] == list(METHODS.built_in)
