"""The pytest plugin: certificates as tests, and a fixture that checks a kernel.

pytest loads this wherever moaproof is installed, so that it imports pytest and the standard library alone, adds nothing
to a run that does not ask for it but one line of header, and collects nothing by itself.

A certificate is a collector, and what its judges look at are its items, in their order: the trace, the inputs, the
hypotheses, the witness, the Spec, each step, the DNF, the ONF, its error bound, the random points, each kernel text,
the stand-alone checker, and the verdict as a whole.  It is judged once, in a fresh process as ``moaproof check`` does
it, when the first of its items runs.  The item that was refused fails with the reason; those after it were not reached,
and fail too.

It is collected only when asked for: ``pytest certs/causal-online.json``, or ``--moaproof-certs certs`` (repeatable).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from ..assess.verify import Outcome
    from ..kernel.certificate import Certificate
    from .check import Report

ALL_JUDGES: Final = ("replay", "source", "standalone", "cvc5")
PROFILE: Final = "moaproof-quick"
FAILURES: Final = ".moaproof"
SAID: Final = "moaproof"  # the property of a report whose text the summary prints
BEGINNING: Final = b'"schema":"moaproof/certificate/'
OF_KERNELS: Final = (
    "moaproof_kernel(profile=None, seed=None, max_examples=None): a test that checks a kernel; its arguments are the"
    " defaults of the fixture moaproof_check there, and every test that uses the fixture has this mark"
)
OF_CERTIFICATES: Final = "moaproof_certificate(name): an item of a certificate; each of them has it"


# --- options, markers, header ----------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("moaproof", "moaproof: kernels and certificates")
    add = group.addoption
    add("--moaproof-profile", metavar="NAME",
        help=f"Hypothesis profile of moaproof_check: quick, default, nightly, repro. Default: {PROFILE}.")  # fmt: skip
    add("--moaproof-seed", metavar="N", type=_natural, help="Seed of moaproof_check: the same cases on every run.")
    add("--moaproof-examples", metavar="N", type=_positive, help="Cases of moaproof_check, instead of the profile's.")
    add("--moaproof-failures", metavar="DIR", help=f"Folder of stored failures. Default: {FAILURES}, in the rootdir.")
    add("--moaproof-certs", metavar="PATH", action="append", default=[],
        help="Collect this certificate, or those of this folder; repeatable.")  # fmt: skip
    add("--moaproof-kernels", metavar="DIR",
        help="Folder of the certificates' kernel texts. Default: ../kernels of a certificate in a folder certs, "
             "else the installed ones.")  # fmt: skip
    add("--moaproof-judge", metavar="NAME", action="append", choices=ALL_JUDGES,
        help="replay, source, standalone or cvc5; repeatable. Default: the first three.")  # fmt: skip


def _natural(text: str) -> int:
    return _at_least(0, text)


def _positive(text: str) -> int:
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    import argparse

    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"a whole number of at least {least} is due, not {text!r}")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    for line in (OF_KERNELS, OF_CERTIFICATES):
        config.addinivalue_line("markers", line)
    for path in _asked(config):
        if path.is_dir() and not any(path.glob("*.json")):
            raise pytest.UsageError(f"--moaproof-certs {path}: no .json file in this folder")
        if not path.exists():
            raise pytest.UsageError(f"--moaproof-certs {path}: there is no such file or folder")
        config.args.append(str(path))
    kernels = config.getoption("--moaproof-kernels")
    if kernels and not _absolute(config, kernels).is_dir():
        raise pytest.UsageError(f"--moaproof-kernels {kernels}: there is no such folder")


def _asked(config: pytest.Config) -> list[Path]:
    return [_absolute(config, x) for x in config.getoption("--moaproof-certs")]


def _absolute(config: pytest.Config, path: str) -> Path:
    return (config.invocation_params.dir / path).resolve()


def pytest_report_header(config: pytest.Config) -> str:
    balls = _version("python-flint")
    oracles = f"PyTorch {_version('torch') or 'missing'} float64, python-flint {balls or 'missing'}"
    profile = config.getoption("--moaproof-profile")
    return f"moaproof: {_version('moaproof')}; oracles: {oracles}" + (f"; profile {profile}" if profile else "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pytest_itemcollected(item: pytest.Item) -> None:
    if "moaproof_check" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("moaproof_kernel"):
        item.add_marker(pytest.mark.moaproof_kernel())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What each certificate and each kernel came to; nothing where there were none."""
    said = [
        text
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, text in getattr(report, "user_properties", ())
        if name == SAID and report.when == "call"
    ]
    if said:
        terminalreporter.write_sep("=", "moaproof")
    for text in said:
        terminalreporter.write_line(text)


# --- a kernel --------------------------------------------------------------------------------------


@pytest.fixture
def moaproof_check(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """``moaproof.testing.check_attention`` with profile, seed, cases and folder from the command line or the mark.

    What the test passes itself is the last word.
    """
    from .check import check_attention

    config = request.config
    mark = request.node.get_closest_marker("moaproof_kernel")
    chosen = {"profile": PROFILE, **_of_mark(request.node.nodeid, mark)}
    for name, option in (("profile", "profile"), ("seed", "seed"), ("max_examples", "examples")):
        given = config.getoption(f"--moaproof-{option}")
        if given is not None:
            chosen[name] = given
    folder = config.getoption("--moaproof-failures")
    chosen["failures"] = _absolute(config, folder) if folder else config.rootpath / FAILURES
    chosen["command"] = f"python -m pytest {shlex.quote(request.node.nodeid)}"

    def check(kernel: Callable[..., Any], spec: Callable[..., Any], **options: Any) -> Report:
        __tracebackhide__ = True
        report = check_attention(kernel, spec, **(chosen | options))
        request.node.user_properties.append((SAID, f"{request.node.nodeid}: {report.line()}"))
        request.node.add_report_section("call", "moaproof", str(report))
        return report

    return check


def _of_mark(nodeid: str, mark: pytest.Mark | None) -> dict[str, Any]:
    if mark is None:
        return {}
    strange = sorted(set(mark.kwargs) - {"profile", "seed", "max_examples"})
    if mark.args or strange:
        raise pytest.UsageError(f"{nodeid}: moaproof_kernel takes profile, seed and max_examples, by name")
    return {name: value for name, value in mark.kwargs.items() if value is not None}


# --- certificates ----------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix != ".json":
        return None
    asked = _asked(parent.config)
    if file_path in asked or file_path.parent in asked or _named(file_path, parent):
        return CertificateFile.from_parent(parent, path=file_path)
    return None


def _named(path: Path, parent: pytest.Collector) -> bool:
    """Was this very file given as an argument, and does it say that it is a certificate?"""
    if not parent.session.isinitpath(path):
        return False
    try:
        return BEGINNING in path.read_bytes()
    except OSError:
        return False


class CertificateFile(pytest.File):
    """A certificate: collects an item for each thing that its judges look at."""

    judged: Outcome | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from ..assess.judges import JUDGES
        from ..assess.verify import read
        from ..errors import MoaproofError
        from ..kernel.certificate import parse

        asked = self.config.getoption("--moaproof-judge") or JUDGES
        wanted = {*asked, *(("replay",) if "cvc5" in asked else ())}  # whose questions cvc5 is asked
        self.judges = tuple(j for j in ALL_JUDGES if j in wanted)
        try:
            c = parse(read(self.path))
        except MoaproofError as e:
            raise self.CollectError(f"{self.path}: {e}") from None
        self.places = places_of(c, self.judges)
        # pytest-xdist's --dist loadgroup reads its group from the node's name, but 3.8 does not get it there from its
        # mark with pytest 9.2: one worker shall have all items, or each would judge the certificate for itself.
        group = f"@{self.path.stem}" if getattr(self.config.option, "loadgroup", False) else ""
        for at, (_, name, _) in enumerate(self.places):
            item = CertificateItem.from_parent(self, name=name + group, at=at)
            item.add_marker(pytest.mark.moaproof_certificate(c.name))
            yield item

    def outcome(self) -> Outcome:
        """What the judges say, asked once, in a process of their own that has loaded nothing of this one."""
        if self.judged is None:
            from ..assess.verify import Job, check, kernels_of

            given = self.config.getoption("--moaproof-kernels")
            kernels = _absolute(self.config, given) if given else kernels_of(self.path)
            (self.judged,) = check([Job(self.path, kernels, self.judges)], 1)
        return self.judged


Place = tuple[str, str, tuple[str, ...]]  # a judge, the name of an item, and what its errors begin with


def places_of(c: Certificate, judges: tuple[str, ...]) -> list[Place]:
    """What the judges look at, in the order in which they do."""
    found: list[Place] = []
    if "replay" in judges:
        before = [("trace", "trace"), ("inputs", "inputs"), ("hypotheses", "hypotheses"), ("witness", "witness")]
        found += [("replay", name, (f"{start}: ",)) for name, start in [*before, ("spec", "Spec")]]
        found += [("replay", f"step-{k}-{s.rule}", (f"step {k} (",)) for k, s in enumerate(c.steps)]
        found += [("replay", "dnf", ("dnf: ",)), ("replay", "onf", ("onf: ", "ONF: "))]
        found += [("replay", "rounding", ("rounding: ",)), ("replay", "points", ("random points: ",))]
    if "source" in judges:
        found += [("source", f"kernel-{Path(k.file).stem}", (f"kernels/{k.file}: ",)) for k in c.kernels]
    found += [(j, j, (f"{j}: ", f"judge {j}: ")) for j in judges if j in ("standalone", "cvc5")]
    return [*found, ("", "verdict", ("witnesses: ", "assumptions: "))]


def refused_at(places: list[Place], out: Outcome) -> int | None:
    """Which place was refused; None if none was.  An error that names none counts against the earliest it may be of."""
    if not out.code:
        return None
    if out.accepted and not out.judge:
        return len(places) - 1
    own = [at for at, (judge, _, _) in enumerate(places) if judge == out.judge and out.judge]
    if not own:
        return 0
    for at in own:
        if out.error.startswith(places[at][2]):
            return at
    steps = [at for at in own if places[at][1].startswith("step-")]
    return steps[0] + out.judged if out.judge == "replay" and out.judged else own[0]


class NotAccepted(Exception):
    """A place of a certificate that was refused, or not reached."""


class CertificateItem(pytest.Item):
    """One thing that the judges of a certificate look at."""

    parent: CertificateFile

    def __init__(self, *, at: int, **others: Any):
        super().__init__(**others)
        self.at = at

    def runtest(self) -> None:
        out, places = self.parent.outcome(), self.parent.places
        bad = refused_at(places, out)
        if bad is not None and self.at >= bad:
            raise NotAccepted(_refusal(out, places[bad][1], self.at > bad))
        for name, text in self.found(out):
            self.user_properties.append((name, text))
            self.add_report_section("call", "moaproof", f"{name.removeprefix('moaproof_')}: {text}")

    def found(self, out: Outcome) -> Iterator[tuple[str, str]]:
        """Of an accepted place, what the judges counted there."""
        judge, name, _ = self.parent.places[self.at]
        if name.startswith("step-"):
            k = int(name.split("-")[1])
            yield "moaproof_class", out.verdict.steps[k]["class"] if out.verdict else out.planned[k][1]
            if out.verdict:  # counts are known only of a derivation that was accepted as a whole
                for engine in ("z3", "sympy", "normaliser"):
                    trivial, repeated, substantive = out.verdict.steps[k][engine]
                    yield f"moaproof_{engine}", f"{substantive}+{repeated}+{trivial}"
        elif not judge and out.verdict:
            classes = "/".join(str(out.verdict.classes.get(c, 0)) for c in "ISRA")
            yield SAID, f"{out.name} ({out.core[:12]}): {out.verdict.sentence()}; steps I/S/R/A {classes}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, NotAccepted):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _refusal(out: Outcome, place: str, later: bool) -> str:
    from ..assess.verify import REMEDIES

    if later:
        return f"not reached: {place} was refused: {out.error}"
    return f"{place}: {out.word()}: {out.kind}: {out.error}. What to do: {REMEDIES[out.code]}."
