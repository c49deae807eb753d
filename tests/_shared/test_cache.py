"""What is kept in the cache is code that will be run: nobody but this user may have put it there."""

import hashlib
import os
import pickle
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from helpers import ROOT

from softlabels._shared import cache as cache_module
from softlabels._shared.cache import PrivateCache


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return the directory that NUMBA_CACHE_DIR names; no warning has been given yet."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    cache_module._warn.cache_clear()
    return tmp_path


def kept(content=b"code") -> Path:
    """Keep a file and return its path."""
    cache = PrivateCache("kernels")
    cache.save("file", content)
    return cache.folder / "file"


def test_the_folder_is_for_this_user_alone_whatever_the_umask(root):
    before = os.umask(0)
    try:
        folder = kept().parent
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert PrivateCache("kernels").load("file") == b"code"


def test_nothing_is_made_before_it_is_needed(root):
    PrivateCache("kernels")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o701, 0o755, 0o777])
def test_a_folder_that_is_open_to_others_is_not_read(root, mode):
    kept().parent.chmod(mode)
    cache = PrivateCache("kernels")
    with pytest.warns(RuntimeWarning, match=r"compiled anew in each process: .*kernels: it is open to other users"):
        assert cache.load("file") is None
    cache.save("other", b"code")
    assert not (root / f"softlabels-{os.geteuid()}" / "kernels" / "other").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_folder_of_another_user_is_not_read(root):
    os.chown(kept().parent, 12345, -1)
    with pytest.warns(RuntimeWarning, match="it belongs to another user"):
        assert PrivateCache("kernels").load("file") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_another_user_is_not_read(root):
    os.chown(kept(), 12345, -1)
    assert PrivateCache("kernels").load("file") is None


def test_neither_a_link_nor_a_pipe_is_read(root):
    path = kept()
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    assert PrivateCache("kernels").load("file") is None
    path.unlink()
    os.mkfifo(path)
    assert PrivateCache("kernels").load("file") is None
    folder = path.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")
    with pytest.warns(RuntimeWarning, match="it is a link"):
        assert PrivateCache("kernels").load("file") is None


def test_a_file_that_is_not_whole_is_none(root):
    path = kept()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:70] + b"?" + whole[71:], b"no newline"):
        path.write_bytes(damaged)
        assert PrivateCache("kernels").load("file") is None


def test_where_no_folder_can_be_made_it_is_said_once(root, monkeypatch):
    (root / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(root / "file"))
    with pytest.warns(RuntimeWarning, match="it cannot be made.*set NUMBA_CACHE_DIR") as found:
        for _ in range(3):
            cache = PrivateCache("kernels")
            assert cache.load("file") is None
            cache.save("file", b"code")
    assert len(found) == 1


def test_without_a_home_nothing_is_written_where_one_happens_to_be(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache_module, "_root", lambda: Path("~/.cache/softlabels"))
    monkeypatch.chdir(tmp_path)
    cache_module._warn.cache_clear()
    with pytest.warns(RuntimeWarning, match="no home directory"):
        PrivateCache("kernels").save("file", b"code")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_nothing_but_a_warning(root, monkeypatch):
    cache = PrivateCache("kernels")
    assert cache.load("file") is None

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.warns(RuntimeWarning, match="cannot be written to .No space left"):
        cache.save("file", b"code")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.save("file", b"code")
    assert list(cache.folder.iterdir()) == []


def test_a_planted_pickle_in_an_open_cache_is_not_run(tmp_path):
    """The attack itself: whoever may write to the folder puts a pickle under a kernel's name."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    code = "import numpy as np; from softlabels._shared.exponential import exp_nonpositive\n"
    code += "print(exp_nonpositive(np.float32([0])))"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    kernels = list((tmp_path / "cache").rglob("*.nbc"))
    assert kernels

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    planted = pickle.dumps(Attack())
    for path in kernels:
        path.write_bytes(hashlib.sha256(planted).hexdigest().encode() + b"\n" + planted)
        path.parent.chmod(0o777)
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "[1.]\n"
    assert "open to other users" in done.stderr
    assert not (tmp_path / "owned").exists()
