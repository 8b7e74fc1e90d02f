"""``moaproof check``: judge certificates in fresh processes, and print a table."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from ..assess.verify import Job, Outcome, Result

JUDGES = ("replay", "source", "standalone")  # by default
ALL = (*JUDGES, "cvc5")
WORDS = ("proved", "refuted", "unknown", "assumed")
COLUMNS = ("certificate", "claim", "steps\nI/S/R/A", "Z3", "SymPy", "ours", "verdict", "p/r/u/a", "digest")
LEFT_OUT = ("claim", "verdict")  # on a narrow terminal
KEPT_WHOLE = ("Z3", "SymPy", "ours", "verdict", "p/r/u/a", "digest")
NARROW = 120
WIDE = 160  # columns of a table that is not read on a terminal


def check(
    certificates: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CERT]...", help="Paths, or names of committed ones. Default: all that are committed."),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="replay or standalone (claim b), source (claim c), or cvc5 (Z3 and cvc5 on each integer "
                          "question); repeatable. Default: the first three."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Of the committed ones, only this name; repeatable.")] = None,
    kernels: Annotated[
        Path | None,
        typer.Option(help="Folder of the kernel texts. Default: ../kernels of a certificate in a folder certs, "
                          "else the installed ones."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout; text to stderr.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit file: a test case a step and a judge.")] = None,
    run: Annotated[Path | None, typer.Option(help="Write the record of the run: tools, limits, times.")] = None,
) -> None:  # fmt: skip
    """Re-check certificates in fresh processes: each derivation by two checkers, its kernels read back and run exactly.

    Exit code: 0 only if everything is accepted; over several certificates the first of 5, 4, 1, 2, 3 wins.
    """
    from rich.console import Console

    from ..assess.verify import Result
    from ..assess.verify import check as judge_all

    start = time.perf_counter()
    judges = _judges(judge)
    work, whole = _work(certificates or [], only or [], kernels, judges)
    result = Result(judges, [], [])
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    with _progress(errors, len(work)) as shown:

        def done(outcome: Outcome) -> None:
            result.certificates.append(outcome)
            shown(outcome)

        try:
            result.certificates = judge_all(work, jobs or os.cpu_count() or 1, done)
        except KeyboardInterrupt:
            result.interrupted = True  # what was done by then is kept
    if not certificates and not result.interrupted:
        result.files = _files(result, kernels, judges, whole)
    result.seconds = time.perf_counter() - start
    _print(result, errors if json else Console(highlight=False, width=None if sys.stdout.isatty() else WIDE))
    if json:
        _print_json(result)
    if junit:
        _write_junit(result, junit)
    if run:
        _write_run(result, run)
    raise typer.Exit(result.code())


def _judges(given: list[str] | None) -> tuple[str, ...]:
    for name in given or ():
        if name not in ALL:
            raise typer.BadParameter(f"{name!r} is no judge; there are {', '.join(ALL)}", param_hint="--judge")
    wanted = {*(given or JUDGES), *(("replay",) if "cvc5" in (given or ()) else ())}  # whose questions cvc5 is asked
    return tuple(j for j in ALL if j in wanted)


def _work(given: list[str], only: list[str], kernels: Path | None, judges: tuple[str, ...]) -> tuple[list[Job], bool]:
    """The jobs, and whether they are all that is committed."""
    from ..assess.verify import Job, committed, find, kernels_of
    from ..errors import CertificateInvalid

    if given and only:
        raise typer.BadParameter(
            "it chooses among the committed ones; give either it or certificates", param_hint="--only"
        )
    if kernels and not kernels.is_dir():
        raise CertificateInvalid(f"{kernels}: there is no such folder; --kernels names the one of the kernel texts")
    paths = [find(x) if x in {p.stem for p in committed()} else Path(x) for x in given] or committed()
    if only:
        names = {p.stem: p for p in paths}
        for name in only:
            if name not in names:
                raise CertificateInvalid(
                    f"--only {name}: no committed certificate has this name; there are {', '.join(names)}"
                )
        paths = [p for name, p in names.items() if name in only]
    if not paths:
        raise CertificateInvalid("certs: no certificate is installed; `make regen` in a checkout derives them")
    return [Job(p, kernels or kernels_of(p), judges) for p in dict.fromkeys(paths)], not only


def _files(result: Result, kernels: Path | None, judges: tuple[str, ...], whole: bool) -> list[Any]:
    """The generated files beside the committed certificates."""
    from ..assess.verify import check_assumptions, check_manifest, check_rulebook, folder

    found = []
    if "source" in judges:
        found.append(check_manifest(result.certificates, kernels or folder("kernels"), whole))
    if "replay" in judges:
        found.append(check_rulebook())
    if whole and set(JUDGES) <= set(judges):
        found.append(check_assumptions(result.certificates))
    return found


# --- text ------------------------------------------------------------------------------------------


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[Outcome], None]]:
    """On a terminal, a bar on stderr; elsewhere nothing."""
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    name = TextColumn("{task.description}")
    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), name, console=console, transient=True) as bar:
        task = bar.add_task("checking", total=total)
        yield lambda o: bar.update(task, advance=1, description=o.name or o.place)


def _print(result: Result, console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    wide = console.width >= NARROW
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in COLUMNS:
        if wide or title not in LEFT_OUT:
            table.add_column(title, overflow="fold", no_wrap=title in KEPT_WHOLE)
    for o in result.certificates:
        cells = zip(COLUMNS, _cells(o), strict=True)
        table.add_row(*(Text(cell) for title, cell in cells if wide or title not in LEFT_OUT))
    say = partial(console.print, markup=False, soft_wrap=True)
    console.print(table)
    say("Z3, SymPy, ours (the normaliser): substantive+repeated+trivial; p/r/u/a: proved/refuted/unknown/assumed")
    if good := ", ".join(f.place for f in result.files if not f.code):
        say(f"as recomputed: {good}")
    for line in _errors(result):
        say(line)
    t = result.totals()
    words = ", ".join(f"{t[w]} {w}" for w in WORDS)
    say(f"{words} in {result.seconds:.1f} s{'; interrupted, the others were not judged' * result.interrupted}")


def _cells(o: Outcome) -> list[str]:
    v = o.verdict
    classes = "/".join(str(v.classes.get(c, 0)) for c in "ISRA") if v and v.steps else f"{o.judged} of {len(o.planned)}"
    counts = [_compact(o.counts.get(e)) for e in ("z3", "sympy", "normaliser")]
    claim = (v.claim or "another specification" if "replay" in v.judges else "not asked") if v else "-"
    t = o.totals()
    tally = "/".join(str(t[w]) for w in WORDS)
    return [o.name or o.place, claim, classes, *counts, o.word(), tally, o.core[:12] or "-"]


def _compact(row: list[int] | None) -> str:
    return f"{row[2]}+{row[1]}+{row[0]}" if row and any(row) else "-"


def _errors(result: Result) -> Iterator[str]:
    from ..assess.verify import REMEDIES

    for o in result.certificates:
        if o.code:
            yield f"{o.place}: {o.kind}: {o.error}. What to do: {REMEDIES[o.code]}."
    for f in result.files:
        if f.code:
            yield f"{f.place}: {f.error}. What to do: {REMEDIES[f.code]}."


# --- for machines ------------------------------------------------------------------------------------


def _print_json(result: Result) -> None:
    import json

    typer.echo(json.dumps(result.document(), indent=1, ensure_ascii=False))


def _write_run(result: Result, path: Path) -> None:
    import json

    from ..assess.run import run_record
    from ..errors import CertificateInvalid

    record = run_record(result, [r for o in result.certificates for r in o.replies])
    try:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as e:
        raise CertificateInvalid(f"{path}: the record cannot be written: {e.strerror or e}") from None


def _write_junit(result: Result, path: Path) -> None:
    """One suite a certificate; one case a step (up to the one that failed) and one a judge; one suite of the files."""
    from xml.etree import ElementTree as ET

    from ..errors import CertificateInvalid

    root = ET.Element("testsuites", name="moaproof check")
    for o in result.certificates:
        _suite(ET, root, o.name or o.place, list(_cases(o, result.judges)), o.seconds)
    _suite(ET, root, "files", [(f.place, "failure" if f.code else "", f.error) for f in result.files], 0.0)
    try:
        ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as e:
        raise CertificateInvalid(f"{path}: the JUnit file cannot be written: {e.strerror or e}") from None


def _cases(o: Outcome, judges: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """(name, what became of it, message): nothing, failure, error or skipped."""
    bad = {1: "failure", 4: "failure", 5: "failure"}.get(o.code, "error")
    if "replay" in judges:
        failing = o.judged if o.judge == "replay" and o.error.startswith(f"step {o.judged} ") else None
        for k, (rule, kind) in enumerate(o.planned):
            what = "" if k < o.judged else bad if k == failing else "skipped"
            yield f"step {k} {rule} ({kind})", what, o.error if k == failing else "not judged" if what else ""
    for judge in judges:
        refused = bool(o.code) and o.judge in (judge, "")
        what = "" if judge in o.accepted and not refused else bad if refused else "skipped"
        yield f"judge {judge}", what, o.error if refused else "not asked" if what else ""


def _suite(ET: Any, root: Any, name: str, cases: list[tuple[str, str, str]], seconds: float) -> None:
    def count(word: str) -> str:
        return str(sum(what == word for _, what, _ in cases))

    numbers = {"failures": count("failure"), "errors": count("error"), "skipped": count("skipped")}
    suite = ET.SubElement(root, "testsuite", name=name, tests=str(len(cases)), time=f"{seconds:.3f}", **numbers)
    for title, what, message in cases:
        case = ET.SubElement(suite, "testcase", classname=name, name=title)
        if what:
            ET.SubElement(case, what, message=_printable(message))


def _printable(text: str) -> str:
    """XML has no control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)
