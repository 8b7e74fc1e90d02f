"""The record of a run: tools, options, limits, times; nothing of the machine's owner."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

from moaproof.assess.run import run_record
from moaproof.assess.solvers import Reply
from moaproof.assess.verify import Outcome, Result

PLACE = "/home/somebody/work/certs/causal-online.json"
KEYS = {
    "schema", "moaproof", "python", "tools", "platform", "replay", "solvers", "judges", "certificates", "exit",
    "interrupted", "seconds",
}  # fmt: skip


def _record():
    outcomes = [
        Outcome(PLACE, name="causal-online", core="0" * 64, seconds=1.23456),
        Outcome(PLACE, code=2, error=f"{PLACE}: the file is empty"),
    ]
    replies = [Reply("z3", "k" * 64, "unsat", 0.25), Reply("cvc5", "k" * 64, "unknown", 0.5)]
    return run_record(Result(("replay", "cvc5"), outcomes, []), [*replies, *replies])


def _strings(x):
    if isinstance(x, dict):
        for key, value in x.items():
            yield key
            yield from _strings(value)
    elif isinstance(x, list):
        for value in x:
            yield from _strings(value)
    elif isinstance(x, str):
        yield x


def test_it_names_tools_options_limits_and_times():
    record = _record()
    assert set(record) == KEYS
    assert record["tools"]["z3-solver"].startswith("5.")
    assert record["tools"]["cvc5"].startswith("1.")
    assert record["python"]["version"] == platform.python_version()
    assert int(record["replay"]["options"]["rlimit"]) > 0
    z3, cvc5 = record["solvers"]
    assert (z3["questions"], z3["unsat"], z3["seconds"]) == (1, 1, 0.25)  # each reply once, though two had it
    assert (cvc5["questions"], cvc5["unsat"], cvc5["slowest"]["seconds"]) == (1, 0, 0.5)
    assert int(cvc5["options"]["rlimit"]) > 0
    assert record["certificates"][0] == {"name": "causal-online", "core": "0" * 64, "exit": 0, "seconds": 1.235}
    assert record["certificates"][1]["name"] is None
    assert record["exit"] == 2


def test_it_names_no_path_host_or_user():
    record = _record()
    assert set(record["platform"]) == {"system", "machine"}
    words = [w for w in _strings(record) if w != record["schema"]]
    assert not any("/" in w or "\\" in w for w in words)
    assert not {platform.node(), getpass.getuser(), str(Path.home()), str(Path.cwd())} & set(words)
    assert "somebody" not in json.dumps(record)


def test_a_tool_that_is_not_installed_is_named_as_missing(monkeypatch):
    from moaproof.assess import run

    monkeypatch.setattr(run, "TOOLS", ("no-such-distribution",))
    assert _record()["tools"] == {"no-such-distribution": None}
