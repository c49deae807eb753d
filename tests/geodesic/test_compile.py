"""Kernels are compiled once, for all processes, and on the threads that the job was given."""

import os
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

from softlabels._shared.cpus import usable_cpus
from softlabels._shared.jit import Compiler
from softlabels.geodesic import _compile
from softlabels.geodesic._threads import slabs_of

SOLVE = """
import sys
import numpy as np
from softlabels.geodesic import geodesic_distance
from softlabels.geodesic._cpu_sweeps import sweep_unit
seeds = np.zeros((2, 3, 4), bool)
seeds[0, 0, 0] = True
print(geodesic_distance(np.zeros(seeds.shape), seeds, (1, 1, 1), return_certificate=True)[1].is_exact)
is_compiler_ready = "numba.np.linalg" in sys.modules
assembly = "".join(sweep_unit.inspect_asm().values())
print(sum(sweep_unit.stats.cache_hits.values()), assembly.count("vfmadd"), is_compiler_ready)
"""


def solve_in_a_new_process(cache):
    """Return what SOLVE prints with an empty environment but for the cache."""
    environment = {"PATH": os.environ["PATH"], "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SOLVE], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[1].split()


def test_a_second_process_compiles_nothing_and_no_multiplication_is_fused(tmp_path):
    assert solve_in_a_new_process(tmp_path) == ["0", "0", "True"]
    # Nor does it ready the compiler, which takes half a second.
    assert solve_in_a_new_process(tmp_path) == ["1", "0", "False"]


def test_the_cache_is_named_after_the_sources(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    source = tmp_path / "kernels.py"
    source.write_text("one")
    first = Compiler("kernels", [source]).cache.folder
    assert first.is_relative_to(tmp_path) and first.is_dir()
    assert Compiler("kernels", [source]).cache.folder == first
    source.write_text("other")
    assert Compiler("kernels", [source]).cache.folder != first


def test_every_module_with_compiled_code_names_the_cache():
    package = Path(_compile.__file__).parent
    for source in package.glob("*.py"):
        text = source.read_text()
        has_kernels = any(f"@{name}" in text for name in ("compiled", "called", "inlined", "intrinsic"))
        if source.stem != "_compile" and has_kernels:
            assert source in _compile.compiler.sources


def test_threads_are_those_of_the_job(monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    everything = usable_cpus()
    assert everything >= 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert usable_cpus() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "100000")
    assert usable_cpus() == everything


def test_slabs_cover_everything_once_and_evenly():
    for n in range(1, 30):
        for wanted in range(12):
            slabs = slabs_of(n, wanted)
            assert [v for lo, hi in slabs for v in range(lo, hi)] == list(range(n))
            sizes = [hi - lo for lo, hi in slabs]
            assert max(sizes) - min(sizes) <= 1


def test_without_compilation_the_engine_says_so():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    code = "import numpy as np; from softlabels.geodesic import geodesic_distance as g\n"
    code += "try: g(np.zeros((1, 1, 2)), np.ones((1, 1, 2), bool), (1, 1, 1))\nexcept Exception as e: print(repr(e))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("DeviceError") and "NUMBA_DISABLE_JIT" in done.stdout, done.stdout + done.stderr
