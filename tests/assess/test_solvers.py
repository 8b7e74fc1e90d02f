"""Two solvers on the same text: only the literal ``unsat`` of both is a proof."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from moaproof.rewrite_rules import lookup

from moaproof.assess.solvers import SOLVERS, Solver, ask_all, cvc5_answer, demand_unsat, summary, z3_answer
from moaproof.assess.verify import committed
from moaproof.errors import BackendMissing, JudgesDisagree, Unknown
from moaproof.kernel import integers as kernel_integers
from moaproof.kernel.bits import Deciders
from moaproof.kernel.certificate import parse
from moaproof.kernel.checker import replay
from moaproof.kernel.integers import Integers, decide
from moaproof.kernel.question import question
from moaproof.term import Add, Int, Le, Lt, Mul, Size

Z3, CVC5 = SOLVERS
A, B = Size("a"), Size("b")
TRUE = question(frozenset({Lt(A, B)}), Lt(A, Add(B, Int(1))))
FALSE = question(frozenset({Lt(A, B)}), Lt(A, Int(5)))
# True, and no solver finds it under a small limit: a^3 + b^3 is no c^3 of positive numbers.
SIDES = [Add(Int(1), Size(x)) for x in "abc"]
CUBES = [Mul(x, Mul(x, x)) for x in SIDES]
SUM = Add(CUBES[0], CUBES[1])
HARD = question(frozenset({Le(SUM, CUBES[2])}), Lt(SUM, CUBES[2]))


def says(solver: Solver, word: str) -> Solver:
    """The solver, which answers everything with this word."""
    return replace(solver, answer=lambda text, options: word)


def judge(questions, solvers=SOLVERS):
    demand_unsat(questions, ask_all(questions, solvers), solvers)


# --- what both confirm ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attention-rows", "one-head-online"])
def test_both_confirm_every_question_of_a_replay(name):
    c = parse((committed()[0].parent / f"{name}.json").read_bytes())
    deciders = Deciders()
    replay(c, lookup, deciders)
    questions = list(deciders.integers.proved.values())
    assert len(questions) >= 9
    replies = ask_all(questions)
    demand_unsat(questions, replies)
    rows = {row["solver"]: row for row in summary(replies)}
    assert [rows[s]["unsat"] for s in ("z3", "cvc5")] == [rows[s]["questions"] for s in ("z3", "cvc5")]
    assert rows["z3"]["questions"] == len(questions)
    assert rows["cvc5"]["slowest"]["key"] in {q.key for q in questions}


def test_no_question_is_asked_twice_in_a_process():
    asked = []
    counting = replace(Z3, answer=lambda text, options: asked.append(text) or "unsat")
    known = {}
    for _ in range(2):
        replies = ask_all([TRUE, TRUE], (counting,), known)
        demand_unsat([TRUE], replies, (counting,))
    assert asked == [TRUE.text]


# --- wrong answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solvers", "who"),
    [((says(Z3, "unsat"), CVC5), "cvc5"), ((Z3, says(CVC5, "unsat")), "z3")],
    ids=["z3 lies", "cvc5 lies"],
)
def test_a_solver_that_always_says_unsat_is_contradicted_by_the_other(solvers, who):
    judge([TRUE], solvers)
    with pytest.raises(JudgesDisagree, match=f"{FALSE.key}.*{who} answers sat") as e:
        judge([TRUE, FALSE], solvers)
    assert e.value.exit_code == 5


@pytest.mark.parametrize("liar", ["decide", "closes"])
def test_a_replay_that_was_deceived_is_contradicted(monkeypatch, liar):
    """By a Z3 that always says unsat, or by a witness checker that accepts every tree and a Z3 that gives up."""
    integers = Integers()
    monkeypatch.setattr(kernel_integers, "decide", lambda q: ("unsat" if liar == "decide" else "unknown", {}))
    if liar == "closes":
        monkeypatch.setattr(kernel_integers, "closes", lambda q, tree: True)
        integers.witnesses = {question(frozenset(), Lt(A, Int(5))).key: []}
    integers.prove([], Lt(A, Int(5)), "a is below 5")
    (q,) = integers.proved.values()
    with pytest.raises(JudgesDisagree, match=q.key):
        judge([q])


NO_PROOF = [
    "", "unknown", "unknown (RESOURCEOUT)", "timeout", "error: out of memory", '(error "line 1")', "UNSAT", "unsat.",
    "unsat\nunsat", "sat\nunsat", "unsat\nsat", '(error "line 1")\nunsat', "unsatisfiable", "not unsat",
]  # fmt: skip


@pytest.mark.parametrize("word", NO_PROOF)
@pytest.mark.parametrize("k", [0, 1], ids=["z3", "cvc5"])
def test_nothing_but_unsat_is_a_proof(word, k):
    solvers = tuple(says(s, word if i == k else "unsat") for i, s in enumerate(SOLVERS))
    with pytest.raises(Unknown, match=TRUE.key) as e:
        judge([TRUE], solvers)
    assert e.value.exit_code == 3
    assert "moaproof export --smt" in str(e.value)


def test_a_reply_that_is_missing_is_no_proof():
    replies = ask_all([TRUE, HARD], tuple(says(s, "unsat") for s in SOLVERS))
    demand_unsat([TRUE, HARD], replies)
    for k in range(len(replies)):
        with pytest.raises(Unknown, match="nothing"):
            demand_unsat([TRUE, HARD], replies[:k] + replies[k + 1 :])


def test_an_exception_leaves_no_verdict():
    def crash(text, options):
        raise MemoryError

    with pytest.raises(MemoryError):
        ask_all([TRUE], (Z3, replace(CVC5, answer=crash)))


def test_a_disagreement_wins_over_an_open_question():
    wild = replace(CVC5, answer=lambda text, options: "unknown" if text == HARD.text else "sat")
    with pytest.raises(JudgesDisagree, match=TRUE.key):
        judge([HARD, TRUE], (says(Z3, "unsat"), wild))


# --- the solvers themselves ------------------------------------------------------------------------------

BAD_TEXTS = {
    "empty": "",
    "no question": TRUE.text.replace("(check-sat)\n", ""),
    "unbalanced": TRUE.text[:-3],
    "undeclared": TRUE.text.replace("(declare-const s.a Int)\n", ""),
    "no such sort": TRUE.text.replace("Int)", "Integer)"),
    "no such command": "(foo)\n" + TRUE.text,
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_text_that_cannot_be_read_is_not_proved(text, capfd):
    """z3 takes the assertions out of a script, so each solver has its own complaint, and one is enough."""
    words = [s.answer(text, s.options).strip() for s in SOLVERS]
    assert words != ["unsat", "unsat"]
    assert words[1] != "unsat"
    capfd.readouterr()  # z3 also complains on stderr


@pytest.mark.parametrize("text", [BAD_TEXTS[k] for k in ("unbalanced", "undeclared", "no such sort")])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.name)
def test_a_syntax_error_is_an_error(solver, text):
    if text == BAD_TEXTS["unbalanced"] and solver is Z3:
        text = text.replace("(check-sa", "(assert")
    assert solver.answer(text, solver.options).startswith("error: ")


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.name)
def test_a_solver_out_of_resources_leaves_the_question_open(solver):
    assert set(solver.options) == {"rlimit"}  # no limit of time, which would make the verdict depend on the machine
    poor = replace(solver, options={"rlimit": "1000"})
    assert poor.answer(HARD.text, poor.options).startswith("unknown")
    with pytest.raises(Unknown, match=HARD.key):
        judge([HARD], (poor,))
    judge([TRUE], (solver,))  # the small limit binds no later question, here
    assert decide(TRUE)[0] == "unsat"  # and in the kernel


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.name)
def test_a_false_goal_is_sat(solver):
    assert solver.answer(FALSE.text, solver.options).strip() == "sat"
    assert solver.answer(TRUE.text, solver.options).strip() == "unsat"


@pytest.mark.parametrize(("module", "package"), [("cvc5", "cvc5"), ("z3", "z3-solver")])
def test_without_a_solver_nothing_is_asked(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    asked = []
    solvers = tuple(replace(s, answer=lambda text, options: asked.append(text) or "unsat") for s in SOLVERS)
    with pytest.raises(BackendMissing, match=f"pip install {package}") as e:
        ask_all([TRUE], solvers)
    assert (e.value.exit_code, asked) == (3, [])
    with pytest.raises(BackendMissing):
        {"cvc5": cvc5_answer, "z3": z3_answer}[module](TRUE.text, {})


def test_versions_are_the_solvers_own():
    import cvc5
    import z3

    assert Z3.version() == z3.get_full_version()
    assert CVC5.version().startswith(cvc5.__version__)
