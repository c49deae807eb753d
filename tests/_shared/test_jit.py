"""The cache of compiled kernels on a home that many jobs share: they begin together, are killed, run out of space."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

KERNEL = """
from pathlib import Path
from softlabels._shared.jit import Compiler

@Compiler("test", [Path(__file__)]).compiled
def total(values):
    found = values[0]
    for value in values[1:]:
        found += value
    return found
"""
#: Prints the sum, hits and misses. With a number of processes, it goes on when all of them have found nothing; when it
#: is to be killed, this happens after the file is written and before it has its name.
RUN = """
import os, signal, sys, time
import numpy as np
from numba.core import event
from kernel import total

kind, n_together, is_killed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"

class Together(event.Listener):
    def on_start(self, event):
        open(f"compiling-{os.getpid()}", "w").close()
        while sum(name.startswith("compiling-") for name in os.listdir()) < n_together:
            time.sleep(0.01)

    def on_end(self, event):
        if is_killed:
            os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

with event.install_listener("numba:compile", Together()):
    found = total(np.arange(5, dtype=kind))
stats = total.stats
print(found, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture
def folder(tmp_path):
    """A working directory with a kernel; the cache is its folder `cache`."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    return tmp_path


def start(folder, kind="float32", n_together=0, is_killed=False, code=RUN) -> subprocess.Popen:
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), "."]),
    }
    command = [sys.executable, "-c", code, kind, str(n_together), str(is_killed)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


def answer(process: subprocess.Popen) -> list[str]:
    """Return sum, cache hits and misses that a process printed."""
    said, complaint = process.communicate(timeout=100)
    assert process.returncode == 0, complaint
    return said.split()


def cached(folder) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


def test_first_starts_at_once_give_every_signature_its_own_code(folder):
    processes = [start(folder, kind, n_together=6) for kind in ("float32", "int32", "float64") * 2]
    assert {tuple(answer(process)[1:]) for process in processes} == {("0", "1")}
    next_ones = {kind: answer(start(folder, kind)) for kind in ("float32", "int32", "float64")}
    assert next_ones == {"float32": ["10.0", "1", "0"], "int32": ["10", "1", "0"], "float64": ["10.0", "1", "0"]}
    assert len(cached(folder)) == 3


def test_one_process_may_load_and_compile(folder):
    answer(start(folder, "float32"))
    code = "import numpy as np; from kernel import total\n"
    code += "print(total(np.arange(5, dtype='f4')), total(np.arange(5)), total(np.arange(4, dtype='f4')))\n"
    code += "print(sum(total.stats.cache_hits.values()), sum(total.stats.cache_misses.values()))"
    assert answer(start(folder, code=code)) == ["10.0", "10", "6.0", "1", "1"]


def test_process_killed_while_it_writes_hurts_nobody(folder):
    victim, *others = [start(folder, n_together=6, is_killed=n == 0) for n in range(6)]
    assert victim.wait(100) < 0
    victim.communicate()
    assert [answer(process) for process in others] == [["10.0", "0", "1"]] * 5
    assert answer(start(folder)) == ["10.0", "1", "0"]


def test_file_that_is_not_whole_is_made_again(folder):
    assert answer(start(folder)) == ["10.0", "0", "1"]
    (path,) = cached(folder)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:200] + b"?" + whole[201:]):
        path.write_bytes(damaged)
        assert answer(start(folder)) == ["10.0", "0", "1"]
    assert path.stat().st_size == len(whole) and answer(start(folder)) == ["10.0", "1", "0"]


def test_full_disk_is_said_and_costs_no_result(folder, monkeypatch):
    import importlib.util

    import numpy as np

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "cache"))
    specification = importlib.util.spec_from_file_location("kernel", folder / "kernel.py")
    kernel = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(kernel)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.warns(RuntimeWarning, match="compiled anew in each process: .*No space left.*set NUMBA_CACHE_DIR"):
        assert kernel.total(np.arange(5)) == 10
    assert cached(folder) == []


#: Solves, and prints the digest of the bits, whether they come from kept kernels, and how many files importing made.
SOLVED = """
import hashlib, os, sys
from pathlib import Path
import numba
before = numba.config.CACHE_DIR
{change}
import softlabels.geodesic._cpu, softlabels.geodesic._certify_pass, softlabels.methods, softlabels.seeds.thinning
import softlabels._shared.exponential, softlabels.methods._geols_kernels
n_made = len(list(Path(os.environ["HOME"]).rglob("*"))) + len(list(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*")))
assert numba.config.CACHE_DIR == before
import numpy as np
from softlabels.geodesic import geodesic_distance
from softlabels.geodesic._cpu_sweeps import sweep_unit
rng = np.random.default_rng(0)
image, seeds = rng.normal(size=(2, 5, 9, 40)), rng.random((3, 5, 9, 40)) < 0.01
results = [geodesic_distance(image, seeds, (3, 1, 1), metric="harmonic")]
results += [softlabels._shared.exponential.exp_nonpositive(-results[0])]
print(hashlib.sha256(np.stack(results).tobytes()).hexdigest(), sum(sweep_unit.stats.cache_hits.values()), n_made)
"""

#: How numba might change: a name is gone, or what is called takes other arguments.
CHANGES = {
    "a name that is imported is gone": "import numba.core.runtime; del numba.core.runtime.rtsys",
    "a method is gone": "from numba.core.compiler import CompileResult; del CompileResult._rebuild",
    "code is packed otherwise": "from numba.core.compiler import CompileResult\n"
    "CompileResult._reduce = lambda self, how: None",
}
UNPACKED_OTHERWISE = (
    "from numba.core.compiler import CompileResult\nCompileResult._rebuild = classmethod(lambda cls, payload: None)\n"
)


def run_with(folder, code: str) -> tuple[list[str], list[str]]:
    """Return the words that a script prints with an empty home and the cache of the folder, and its warnings."""
    for name in ("home", "cache"):
        (folder / name).mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), "."]),
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), [line for line in done.stderr.splitlines() if "Warning" in line]


def test_importing_kernels_makes_no_folder_and_an_unknown_numba_gives_the_same_bits(folder):
    (digest, *counts), warned = run_with(folder, SOLVED.format(change=""))
    assert (counts, warned) == (["0", "0"], [])
    (kept, n_hits, _), warned = run_with(folder, SOLVED.format(change=""))
    assert (kept, n_hits, warned) == (digest, "1", [])
    (again, n_hits, _), warned = run_with(folder, SOLVED.format(change=CHANGES["a name that is imported is gone"]))
    assert (again, n_hits) == (digest, "0")
    assert len(warned) == 1 and "kernels are compiled anew in each process: numba" in warned[0]


@pytest.mark.parametrize("change", CHANGES)
def test_a_numba_with_other_insides_is_said_once_and_compiles(folder, change):
    code = "; from kernel import total; import numpy as np; print(total(np.arange(5)), total(np.arange(5.0)))"
    said, warned = run_with(folder, CHANGES[change] + code)
    assert said == ["10", "10.0"] and cached(folder) == []
    assert len(warned) == 1 and "is none that this release knows" in warned[0]


def test_kept_code_that_this_numba_cannot_unpack_is_compiled_anew(folder):
    code = "from kernel import total; import numpy as np; print(total(np.arange(5)), total(np.arange(5.0)))"
    assert run_with(folder, code) == (["10", "10.0"], [])
    said, warned = run_with(folder, UNPACKED_OTHERWISE + code)
    assert said == ["10", "10.0"] and len(warned) == 1


def test_numba_s_insides_are_known_to_one_folder():
    inside = re.compile(r"(from|import) numba\.(?!extending\b)")
    known = [path for path in (ROOT / "softlabels").rglob("*.py") if inside.search(path.read_text(encoding="utf-8"))]
    assert [str(path.relative_to(ROOT)) for path in known] == ["softlabels/_shared/jit/_numba_cache.py"]
