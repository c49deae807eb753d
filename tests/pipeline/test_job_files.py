"""Job files: named by their content, verified when they are read, deleted when no run has used them for long."""

import os
import time

import pytest

from softlabels.errors import FormatError
from softlabels.pipeline.job_files import JobFiles, read_job_file

DAY = 24 * 3600


@pytest.fixture
def files(tmp_path) -> JobFiles:
    return JobFiles(tmp_path / "files")


def age(path, days):
    os.utime(path, (time.time() - days * DAY,) * 2)


@pytest.mark.parametrize("content", ["", "[]", '{"path": "Müller/{a} \\udcff"}', "x" * 300_000])
def test_what_is_written_is_read_and_equal_content_is_one_file(files, content):
    path = files.write(content)
    assert path == files.path(content) == files.write(content)
    assert read_job_file(path) == content
    assert files.path(content + " ") != path and len(list(path.parent.iterdir())) == 1


def test_the_path_of_a_content_can_be_known_without_writing_it(files):
    files.path("[]")
    assert not files.folder.exists()


def test_a_file_that_was_cut_is_written_again(files):
    path = files.write("[1, 2, 3]")
    path.write_text("[1, 2")
    assert read_job_file(files.write("[1, 2, 3]")) == "[1, 2, 3]"


@pytest.mark.parametrize("damage", ["missing", "changed", "renamed", "folder", "loop"])
def test_what_is_not_the_file_that_was_written_is_refused_with_its_path_and_a_remedy(files, damage):
    path = files.write('["a"]')
    if damage == "renamed":
        path = files.write('["b"]').rename(path)
    else:
        path.unlink()
    if damage == "changed":
        path.write_text('["b"]')
    elif damage == "folder":
        path.mkdir()
    elif damage == "loop":
        path.symlink_to(path)
    with pytest.raises(FormatError, match=rf"{path}: .*Run the same snakemake command again"):
        read_job_file(path)


def test_a_planted_link_is_replaced_and_never_followed(files, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    files.folder.mkdir()
    files.path("[]").symlink_to(precious)
    assert read_job_file(files.write("[]")) == "[]" and precious.read_text() == "mine"


def test_files_that_no_run_used_for_30_days_are_deleted_and_nothing_else(files, tmp_path):
    unused, used, recent = files.write("[1]"), files.write("[2]"), files.write("[3]")
    others = files.folder / "notes.json", files.folder / ("0" * 32)
    for path in others:
        path.write_text("of others")
    linked = files.folder / ("a" * 32 + ".json")
    linked.symlink_to(tmp_path / "elsewhere")
    for path in (unused, used, *others):
        age(path, 31)
    age(recent, 29)
    files.write("[2]")
    assert files.delete_unused() == 1
    assert set(files.folder.iterdir()) == {used, recent, linked, *others}
    assert JobFiles(tmp_path / "absent").delete_unused() == 0
