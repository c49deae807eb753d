"""Which files and folders every user of a machine can change."""

import os
import shlex

import pytest

from softlabels.monitor.trust import open_to_all


@pytest.mark.parametrize(("mode", "is_open"), [(0o777, True), (0o707, True), (0o775, False), (0o1777, False)])
def test_a_folder_is_open_if_all_may_write_and_it_is_not_sticky(tmp_path, mode, is_open):
    folder = tmp_path / "with space"
    folder.mkdir()
    folder.chmod(mode)
    lines = open_to_all([folder, folder, tmp_path / "absent", tmp_path])
    assert len(lines) == is_open
    for line in lines:
        command = line.partition("run: ")[2]
        assert shlex.split(command) == ["chmod", "o-w", str(folder)]


def test_a_file_is_open_whatever_its_sticky_bit_and_a_link_counts_as_what_it_leads_to(tmp_path):
    config, link = tmp_path / "config.yaml", tmp_path / "link"
    config.touch()
    config.chmod(0o1666)
    link.symlink_to(config)
    assert [line.partition(":")[0] for line in open_to_all([config, link])] == [str(config), str(link)]
    os.chmod(config, 0o664)
    assert open_to_all([config, link]) == []
