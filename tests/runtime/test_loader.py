"""The loader runs what was checked and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from moaproof.errors import CertificateInvalid, DigestMismatch, NotCovered
from moaproof.kernel.certificate import parse
from moaproof.runtime import loader
from moaproof.runtime.loader import load
from moaproof.term import canonical

NAME, FILE = "attention-rows", "attention_rows_float64.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of certs/ and kernels/ that a test may spoil."""
    for name in ("certs", "kernels"):
        shutil.copytree(loader.package_folder(name), tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def open_(tree: Path, name: str = NAME, dtype: str = "float64") -> loader.Loaded:
    return load(name, dtype, tree / "certs", tree / "kernels")


def edit_manifest(tree: Path, edit: Callable[[dict], object]) -> None:
    file = tree / "kernels" / "MANIFEST.json"
    document = json.loads(file.read_bytes())
    edit(document["kernels"])
    file.write_bytes(canonical(document))


def test_what_is_loaded_is_what_both_lists_name() -> None:
    manifest = json.loads((loader.package_folder("kernels") / "MANIFEST.json").read_bytes())["kernels"]
    for file, row in manifest.items():
        found = load(row["certificate"], row["dtype"], target="cuda" if "_cuda_" in file else "cpu")
        assert found.file == file
        assert hashlib.sha256(found.source).hexdigest() == row["sha256"] == found.sha256


def test_an_untouched_copy_loads(tree: Path) -> None:
    assert open_(tree).source == (tree / "kernels" / FILE).read_bytes()


def test_an_altered_kernel_is_refused(tree: Path) -> None:
    file = tree / "kernels" / FILE
    file.write_bytes(file.read_bytes().replace(b"s8 * scale", b"s8 + scale", 1) + b"\n")
    with pytest.raises(
        DigestMismatch, match=rf"kernels/{FILE}: its SHA-256 is .*changed after it was checked.*make regen"
    ):
        open_(tree)


def test_an_altered_kernel_is_refused_even_if_the_manifest_follows_it(tree: Path) -> None:
    file = tree / "kernels" / FILE
    file.write_bytes(file.read_bytes() + b"\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    edit_manifest(tree, lambda rows: rows[FILE].update(sha256=digest))
    with pytest.raises(DigestMismatch, match=r"listed with another sha256 than attention-rows\.json states"):
        open_(tree)


@pytest.mark.parametrize("field", ["certificate", "core", "dtype", "sha256"])
def test_a_manifest_that_differs_in_a_field_is_refused(tree: Path, field: str) -> None:
    edit_manifest(tree, lambda rows: rows[FILE].update({field: "0" * 64}))
    with pytest.raises(DigestMismatch, match=f"MANIFEST.json: {FILE} is listed with another {field}"):
        open_(tree)


def test_a_kernel_that_the_manifest_does_not_list_is_refused(tree: Path) -> None:
    edit_manifest(tree, lambda rows: rows.pop(FILE))
    with pytest.raises(DigestMismatch, match=f"{FILE} is not listed"):
        open_(tree)


def test_a_renamed_certificate_is_refused(tree: Path) -> None:
    shutil.copy(tree / "certs" / "causal-rows.json", tree / "certs" / f"{NAME}.json")
    with pytest.raises(DigestMismatch, match="it is the certificate causal-rows, renamed"):
        open_(tree)


def test_another_certificates_kernel_under_this_name_is_refused(tree: Path) -> None:
    """Kernel and manifest exchanged together, the certificate left: its digest decides."""
    shutil.copy(tree / "kernels" / "causal_rows_float64.py", tree / "kernels" / FILE)
    digest = hashlib.sha256((tree / "kernels" / FILE).read_bytes()).hexdigest()
    edit_manifest(tree, lambda rows: rows[FILE].update(sha256=digest))
    with pytest.raises(DigestMismatch):
        open_(tree)


@pytest.mark.parametrize("place", ["certs/attention-rows.json", "kernels/MANIFEST.json", f"kernels/{FILE}"])
def test_a_missing_file_is_named(tree: Path, place: str) -> None:
    (tree / place).unlink()
    with pytest.raises(CertificateInvalid, match=rf"{place}: cannot be read .*make regen"):
        open_(tree)


MANIFEST = b'{"kernels":{},"schema":"moaproof/manifest/1"}'
BAD_MANIFESTS = {
    "empty": b"", "cut": b"{", "a list": b"[]", "another version": MANIFEST.replace(b"/1", b"/2"), "no text": b"\xff",
    "nested": b"[" * 100_000, "a long integer": MANIFEST.replace(b"{}", b"9" * 5000),
    "not canonical": b" " + MANIFEST, "a field twice": MANIFEST.replace(b'"kernels"', b'"kernels":{},"kernels"'),
    "a field more": MANIFEST.replace(b'"schema"', b'"more":1,"schema"'),
    "not a number": MANIFEST.replace(b"{}", b'{"x":NaN}'), "surrogate": MANIFEST.replace(b"{}", b'{"\\ud800":1}'),
    "rows of no record": MANIFEST.replace(b"{}", b'[1]'),
}  # fmt: skip


def test_a_file_too_long_for_what_it_is_is_not_read(tree: Path) -> None:
    with (tree / "kernels" / FILE).open("ab") as stream:
        stream.truncate(2**40)  # a hole: it takes no space
    with pytest.raises(CertificateInvalid, match=r"cannot be read \(more than"):
        open_(tree)


def test_a_row_of_the_manifest_that_is_no_record_is_refused(tree: Path) -> None:
    for row in ([], "x", 1, None, {}, {"sha256": []}):
        edit_manifest(tree, lambda rows, row=row: rows.update({FILE: row}))
        loader._load.cache_clear()
        with pytest.raises(DigestMismatch):
            open_(tree)


@pytest.mark.parametrize("text", BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
def test_a_bad_manifest_is_refused(tree: Path, text: bytes) -> None:
    (tree / "kernels" / "MANIFEST.json").write_bytes(text)
    with pytest.raises(CertificateInvalid, match=r"kernels/MANIFEST\.json"):
        open_(tree)


def test_a_truncated_certificate_is_refused(tree: Path) -> None:
    file = tree / "certs" / f"{NAME}.json"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CertificateInvalid):
        open_(tree)


def test_a_dtype_without_a_kernel_is_refused_with_what_there_is() -> None:
    with pytest.raises(NotCovered, match=r"no cpu kernel for float32; it has kernels for: float64 \(cpu\)"):
        load("causal-rows", "float32")


def test_a_text_of_the_other_target_is_not_found() -> None:
    with pytest.raises(NotCovered, match=r"no cuda kernel for float64; it has kernels for: float64 \(cpu\)"):
        load("causal-rows", "float64", target="cuda")
    with pytest.raises(NotCovered, match=r"no cpu kernel for float64; it has kernels for: .*float64 \(cuda\)"):
        load("attention-cuda-online", "float64")


def test_a_text_runs_on_its_own_target_alone() -> None:
    with pytest.raises(NotCovered, match="a cuda text is no function of the CPU"):
        load("attention-cuda-online", "float64", target="cuda").function  # noqa: B018
    with pytest.raises(NotCovered, match="a cpu text has no launches"):
        load("attention-online", "float64").launches({})


def test_an_altered_cuda_text_is_refused(tree: Path) -> None:
    file = tree / "kernels" / "attention_cuda_online_float64.py"
    file.write_bytes(file.read_bytes().replace(b"cuda.syncthreads()", b"pass", 1))
    with pytest.raises(DigestMismatch, match="changed after it was checked"):
        load("attention-cuda-online", "float64", tree / "certs", tree / "kernels", "cuda")


def test_launches_need_numba_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba_cuda", None)
    for name in [n for n in sys.modules if n.startswith("moaproof.instructions.cuda")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(NotCovered, match=r"CUDA kernels need numba-cuda: pip install 'moaproof\[cuda\]'"):
        load("attention-cuda-online", "float64", target="cuda").launches({})


# --- compiling and its cache -----------------------------------------------------------------------


@pytest.fixture
def light(tree: Path) -> loader.Loaded:
    """A kernel that compiles at once: the loader does not look into the text, only at its digest."""
    file = tree / "kernels" / FILE
    file.write_bytes(
        b"from moaproof.instructions.cpu_float64 import exp, njit\n@njit\ndef kernel(out, x):\n    out[0] = exp(x)\n"
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    certificate = parse((tree / "certs" / f"{NAME}.json").read_bytes())
    return loader.Loaded(certificate, "float64", FILE, digest, file.read_bytes(), ())


def result(kernel: loader.Loaded) -> float:
    out = np.zeros(1)
    loader._compile(kernel)(out, 0.0)
    return float(out[0])


def test_machine_code_is_cached_under_both_digests(
    light: loader.Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOAPROOF_CACHE", str(tmp_path / "cache"))
    assert result(light) == 1.0
    (place,) = (tmp_path / "cache").iterdir()
    assert place.name == f"{light.sha256}-{loader.instructions.digest()[:16]}"
    assert (place / "kernel.py").read_bytes() == light.source
    (machine_code,) = place.rglob("*.nbc")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    before = machine_code.stat().st_mtime_ns
    assert result(light) == 1.0
    assert machine_code.stat().st_mtime_ns == before
    assert loader._compile(light).stats.cache_hits == {}  # not called yet
    function = loader._compile(light)
    function(np.zeros(1), 0.0)
    assert sum(function.stats.cache_hits.values()) == 1


def test_other_instructions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate is about the instructions that it names; an edited exp runs under none."""
    loader._load.cache_clear()
    monkeypatch.setattr(loader.instructions, "digest", lambda: "0" * 64)
    try:
        with pytest.raises(DigestMismatch, match="moaproof/instructions"):
            loader.load("attention-rows", "float64")
    finally:
        loader._load.cache_clear()


def test_other_instructions_have_another_place(
    light: loader.Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba itself would not notice a changed instruction."""
    monkeypatch.setenv("MOAPROOF_CACHE", str(tmp_path / "cache"))
    first = loader._cached_source(light)
    monkeypatch.setattr(loader.instructions, "digest", lambda: "0" * 64)
    assert loader._cached_source(light) != first


def test_an_altered_copy_in_the_cache_is_not_run(
    light: loader.Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOAPROOF_CACHE", str(tmp_path / "cache"))
    copy = loader._cached_source(light)
    assert copy is not None
    copy.write_bytes(light.source.replace(b"exp(x)", b"7.0"))
    assert result(light) == 1.0
    assert copy.read_bytes() == light.source


@pytest.mark.parametrize("spoil", ["off", "file", "others"])
def test_without_a_usable_folder_there_is_no_cache_and_the_kernel_runs(
    light: loader.Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    cache = tmp_path / "cache"
    if spoil == "file":
        cache.write_text("")
    if spoil == "others":  # somebody else could plant machine code there
        cache.mkdir()
        cache.chmod(0o777)
    monkeypatch.setenv("MOAPROOF_CACHE", "off" if spoil == "off" else str(cache))
    assert result(light) == 1.0
    assert loader._cached_source(light) is None
    assert not list(tmp_path.rglob("*.nbc"))


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOAPROOF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert loader.cache_folder() == tmp_path / "moaproof"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert loader.cache_folder() == tmp_path / ".cache" / "moaproof"


def test_many_threads_get_one_function(tree: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: open_(tree).function, range(32)))
    assert len({id(f) for f in found}) == 1


def test_another_process_finds_the_machine_code(
    light: loader.Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOAPROOF_CACHE", str(tmp_path / "cache"))
    assert result(light) == 1.0
    (tmp_path / "light.py").write_bytes(light.source)
    script = (
        "import pathlib, numpy as np; from moaproof.runtime import loader\n"
        f"source = pathlib.Path({str(tmp_path / 'light.py')!r}).read_bytes()\n"
        f"f = loader._compile(loader.Loaded(None, 'float64', 'x.py', {light.sha256!r}, source, ()))\n"
        "out = np.zeros(1); f(out, 0.0); print(out[0], sum(f.stats.cache_hits.values()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.split() == ["1.0", "1"]
