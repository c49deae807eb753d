"""The compiler of this package's CPU kernels."""

from __future__ import annotations

from pathlib import Path

from softlabels._shared.jit import Compiler

#: The modules that compiled code comes from.
_SOURCES = ("metric", "_simd", "_cpu_layout", "_cpu_kernels", "_cpu_sweeps", "_certify_pass", "_plateaus", "_reference")

compiler = Compiler("geodesic", [Path(__file__).with_name(f"{module}.py") for module in _SOURCES])
compiled, called, inlined = compiler.compiled, compiler.called, compiler.inlined
