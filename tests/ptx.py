"""Every CUDA text, compiled to PTX by NVIDIA's compiler, without a GPU: ``make ptx``.

    python tests/ptx.py [--tree FOLDER] [--only LABEL] [--keep FOLDER]

For several tilings and for compute capabilities 8.0, 9.0 and 10.0.  Refused is a text that does not compile, and code
that leaves registers or shared memory where the text has them, calls anything, takes other parameters than the
launcher passes, divides or rounds otherwise than IEEE 754 says, or flushes subnormal numbers.  Registers and spills
are printed if ``ptxas`` is on the PATH.

Exit code: 0; 1 if something is refused; 3 if numba-cuda or its compiler is missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moaproof.errors import NotCovered
from moaproof.runtime import cuda as launcher
from moaproof.runtime.loader import Loaded, load
from moaproof.testing import gpu
from moaproof.testing.gpu import Block, Text

CAPABILITIES = ((8, 0), (9, 0), (10, 0))
# dk, dv, block: what ``attention`` takes, a single row, and an odd one.
TILINGS = ((64, 64, Block(4, 16, 4, 16)), (128, 128, Block(1, 1, 1, 32)), (5, 33, Block(3, 5, 2, 7)))
# What is allowed beside plain instructions: libdevice's float32 exp is made of ex2.approx.ftz.
FORBIDDEN = {
    "local memory": r"\.local\b",
    "a call": r"\bcall\b|\.extern \.func",
    "shared or global memory by a generic address": r"\b(?:ld|st)(?:\.volatile)?\.(?:v[24]\.)?[bfsu]\d+",
    "a division or root that is not IEEE's": r"\b(?:div|sqrt|rcp|rsqrt)\.(?:approx|full)",
    "subnormal numbers flushed": r"^(?:@!?%p\d+ +)?(?!ex2\.)\w+(?:\.\w+)*\.ftz\b",
}


def complaints(ptx: str) -> list[str]:
    """What a kernel's code may not have, with the line that has it."""
    lines = [line.strip() for line in ptx.splitlines() if not line.strip().startswith("//")]
    found = {what: [line for line in lines if re.search(pattern, line)] for what, pattern in FORBIDDEN.items()}
    return [f"{what}: {bad[0]} ({len(bad)} times)" for what, bad in found.items() if bad]


def parameters(ptx: str) -> int:
    """How many parameters the entry has."""
    head = ptx[ptx.index(".entry") : ptx.index("{", ptx.index(".entry"))]
    return len(re.findall(r"\.param\b", head))


def sizes_of(text: Text, dk: int, dv: int, block: Block) -> dict[str, int]:
    """The sizes of a small call, with the tiles of that block."""
    case = gpu.case_of(text, n=3, m=9, dk=dk, dv=dv)
    call = gpu.tensors(case, "cpu").prepared(case)
    return call.sizes | gpu.tiles_of(text, call.sizes, block, 1)


def launches(
    text: Text, kernel: Loaded, dk: int, dv: int, block: Block
) -> Iterator[tuple[launcher.Shape, Any, tuple[Any, ...]]]:
    """Each launch with its Python function and the types of its parameters."""
    for shape in launcher.shapes(kernel, sizes_of(text, dk, dv, block)):
        function = kernel.launches(dict(shape.constants))[shape.name].function
        yield shape, function, launcher.signature_of(kernel, shape)


def passed(kernel: Loaded, shape: launcher.Shape) -> int:
    """How many words the launcher passes."""
    inputs = {t.data[0]: t for t in kernel.certificate.inputs}
    scalar = {name for name, t in inputs.items() if not t.args}
    array, number, real = torch.empty(1), 0, np.dtype(kernel.dtype).type(0)
    kinds = [real if p in scalar else number if p in kernel.sizes else array for p in shape.parameters]
    return sum(len(launcher.flattened(k)) for k in kinds)


def compiled(shape: launcher.Shape, function: Any, signature: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """PTX, as ``runtime.cuda`` has it compiled on such a device."""
    from numba import cuda
    from numba.cuda import dispatcher

    class Device:
        compute_capability = capability

    dispatcher.get_current_device = lambda: Device  # instructions are compiled for "the current device"
    code, _ = cuda.compile(
        function,
        signature,
        device=False,
        abi="numba",
        cc=capability,
        launch_bounds=launcher.bounds_of(shape),
        output="ptx",
    )
    return str(code)


def resources(ptx: str, capability: tuple[int, int]) -> str:
    """Registers and spills by ptxas; nothing if it is missing."""
    if shutil.which("ptxas") is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        command = ["ptxas", f"-arch=sm_{capability[0]}{capability[1]}", "-v", str(file), "-o", f"{folder}/cubin"]
        for _ in range(2):
            file.write_text(ptx)
            said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
            old = re.search(r"Unsupported \.version .*; current version is '([\d.]+)'", said)
            if old is None:
                break
            ptx = re.sub(r"^\.version .*$", f".version {old.group(1)}", ptx, flags=re.MULTILINE)
    registers, spills = re.search(r"Used (\d+) registers", said), re.search(r"(\d+) bytes spill stores", said)
    return f"{registers.group(1)} registers, {spills.group(1)} bytes spilled" if registers and spills else said[-200:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, help="a folder with certs and kernels, instead of the installed ones")
    parser.add_argument("--only", default="", help="texts whose label contains this")
    parser.add_argument("--keep", type=Path, help="a folder for the PTX")
    args = parser.parse_args()
    certs, kernels = (args.tree / "certs", args.tree / "kernels") if args.tree else (None, None)
    try:
        import numba_cuda  # noqa: F401
    except ImportError:
        print("make ptx: numba-cuda is missing; `make .venv/.cuda` installs it, about 700 MB")
        return 3
    bad = count = 0
    for text in gpu.texts(certs):
        if args.only not in text.label:
            continue
        kernel = load(text.certificate, text.dtype, certs, kernels, "cuda")
        for dk, dv, block in TILINGS:
            for shape, function, signature in launches(text, kernel, dk, dv, block):
                for capability in CAPABILITIES:
                    start = time.perf_counter()
                    try:
                        ptx = compiled(shape, function, signature, capability)
                    except (ImportError, OSError, RuntimeError) as e:
                        print(f"make ptx: the compiler cannot be loaded ({e}); `moaproof doctor` says what is missing")
                        return 3
                    took = time.perf_counter() - start
                    found = complaints(ptx)
                    if parameters(ptx) != passed(kernel, shape):
                        found.append(f"{parameters(ptx)} parameters; the launcher passes {passed(kernel, shape)}")
                    count, bad = count + 1, bad + bool(found)
                    threads = "x".join(map(str, shape.block))
                    name = f"{text.label} {shape.name} dk={dk} dv={dv} {threads} sm_{capability[0]}{capability[1]}"
                    print(
                        f"{name}: {took:.1f} s, {shape.shared} bytes shared, {resources(ptx, capability)}", flush=True
                    )
                    for complaint in found:
                        print(f"    REFUSED: {complaint}")
                    if args.keep is not None:
                        args.keep.mkdir(parents=True, exist_ok=True)
                        (args.keep / f"{name.replace('/', '-').replace(' ', '_')}.ptx").write_text(ptx)
    if not count:
        raise NotCovered("make ptx: there is no CUDA text")
    print(f"{count} codes of {len(gpu.texts(certs))} texts, {bad} refused")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
