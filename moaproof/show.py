"""Terms as a reader sees them: text, LaTeX, an indented form, marked subterms.  Not trusted: never read back.

Glossary.  A *doc* is a term laid out: strings, places where a line may break, and smaller docs.  Its
*level* says how tightly its outermost operator binds.  A *scope* holds the names of the enclosing
variables, outermost first.  The *focus* is the path (argument numbers from the root) of the subterm to mark.

The notation::

    A[i, k]   <i k>ψ⍉A         psi of a named array; of any other
    rav(q)[i*dk + j]           a flat read
    [i<n] e   [i<n: lane] e    build; its axis, unless seq; nested [i<n][c<dv] e
    [I<b of t over n] e        tiles: b tiles of at most t rows cover n
    Σ_{k<m | k ≤ i} e          fold of add, with its guard; Π of mul, max of max, ⊕ of softmax
    (m, l, o)   quot(w)        a softmax state; its o/l, or 0 if Empty
    ⍉A   <1 2 0>⍉A             transpose, of all axes reversed; by another permutation
    (+ red) A   (+ red_1) A    reduce along axis 0; along axis 1
    A +.× B   A ×∘ B           inner product; outer product
    (A | V) +.× B              the left argument only where V lets it be seen
    A -Ω<1 0> B                Omega; also (max red)Ω<1> A and (λx, y. e)Ω<1 0>(A, B)
    <b t> ρ̂ A   lift_0(b, t) A  reshape; lift; likewise take, drop, broadcast, Θ (rotate), Φ(A) (reverse)

Scalar product and quotient are ``·`` and ``/``, those of arrays ``×`` and ``÷``; ``*`` and ``div`` are of
indices.  A Σ reaches over the product behind it and ends before + and -.  The association of real
operations is always shown (it decides bits); that of index sums and products never.  Elided parts are
``…``; a variable with no binder in sight is ``#k``, a free symbol of the judge ``@k``.  ``a < b + 1`` is
written ``a ≤ b``, and ``a + -1*b`` is ``a - b``.

Names of bound variables come from the extent (n i, m k, dk j, dv c, tiles I J) or from the value of a
``let``, get primes where an enclosing variable has the name, and are never the name of a size, an input or
a metavariable of the same text (an index k beside an input k is kk).  A size or input called like a word
of the notation gets backticks.

Limits: nothing printed is meant to be parsed; terms nested more than 150 deep are elided off the focus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from .errors import IllFormed
from .operators import INDEX_SORTED, Context, Index, Value
from .term import MAX_DEPTH, ONE, TRUE, Int, Mul, Term, Var

Path = tuple[int, ...]

OPEN, AND, REL, ADD, BIG, DIV, MUL, PREFIX, ATOM = range(9)  # levels; BIG is open to its right, DIV does not associate
LIMIT: Final = 2000  # nodes printed
DEEPEST: Final = 150
_CAP: Final = 10**9
_MARKS: Final = ("\ue000", "\ue001")  # private characters, which no name contains


# --- names ---------------------------------------------------------------------------------------

INDEX_NAMES: Final = {
    "n": "i", "m": "k", "dk": "j", "d": "j", "dv": "c", "bq": "I", "bk": "J", "bu": "U", "tq": "r", "tk": "u",
}  # fmt: skip
TILE_NAMES: Final = {"i": "I", "k": "J", "c": "U"}  # of the index that the tiles cover
ROW_NAMES: Final = {"i": "r", "k": "u", "c": "w"}  # within one tile
OTHER_NAMES: Final = ("x", "y", "z")
WORDS: Final = frozenset({
    "and", "broadcast", "core", "delta", "div", "drop", "exp", "in", "iota", "lambda", "lane", "let",
    "lift", "max", "merge", "min", "not", "of", "omega", "over", "prod", "psi", "quot", "rav", "real",
    "red", "reshape", "reverse", "rho", "rotate", "sqrt", "sum", "take", "tau", "transpose", "true",
    "where",
})  # fmt: skip


def _extent_hint(extent: Term, depth: int = 8) -> str | None:
    """The usual letter of an index below ``extent``; looks only so deep."""
    match extent.op:
        case "size" | "meta":
            return INDEX_NAMES.get(extent.data)
        case "imin" if depth:
            rest = extent.args[1]
            covered = _extent_hint(rest.args[0], depth - 1) if rest.op == "iadd" else None
            return ROW_NAMES.get(covered or "", "r")
    return None


def _value_hint(t: Term, depth: int = 8) -> str | None:
    """The usual letter of what a ``let`` names: scores S, maximum M, row sum l, weights E, accumulator o."""
    if not depth:
        return None
    match t.op:
        case "fold" if t.data == "add":
            return "o" if t.args[2].op == "build" else "S" if _extent_hint(t.args[0]) == "j" else "l"
        case "fold":
            return {"max": "M", "softmax": "w"}.get(t.data)
        case "reduce":
            return {"add": "l", "max": "M"}.get(t.data[0])
        case "build" | "tiles":
            return {"l": "o"}.get(hint := _value_hint(t.args[-1], depth - 1) or "", hint) or None
        case "omega":
            return _value_hint(t.args[-1], depth - 1)
        case "inner":
            return "S"
        case "quotient":
            return "y"
        case "pointwise" | "f" | "map" if t.data in ("exp", "div"):
            return {"exp": "E", "div": "P"}[t.data]
        case "pointwise" | "f" | "map":
            return next(filter(None, (_value_hint(a, depth - 1) for a in t.args)), None)
    return None


def _reachable(roots: Sequence[Term]) -> Iterator[Term]:
    """Every distinct node, in no order of interest; without recursion, whatever the depth."""
    seen, todo = set(roots), list(roots)
    while todo:
        t = todo.pop()
        yield t
        fresh = [a for a in t.args if a not in seen]
        seen.update(fresh)
        todo.extend(fresh)


def _reserved(roots: Sequence[Term]) -> frozenset[str]:
    """Names that stand for themselves: of sizes, inputs and metavariables."""
    named = (t for t in _reachable(roots) if t.op in ("size", "in", "meta"))
    return frozenset(t.data[0] if t.op == "in" else t.data for t in named)


def _fresh(hint: str | None, scope: Sequence[str], reserved: frozenset[str]) -> str:
    """A name that is neither reserved nor in scope: the hint, doubled if it is reserved, then with primes."""
    wanted = (hint, hint * 2) if hint else OTHER_NAMES
    bases = [x for x in (*wanted, *OTHER_NAMES) if x not in reserved and x not in WORDS]
    bases = bases[:1] if hint and bases else bases
    for primes in count(0 if bases else 1):
        for base in bases or OTHER_NAMES[:1]:
            if (name := base + "'" * primes) not in scope:
                return name
    raise AssertionError("there is always one more prime")


# --- styles: the spelling of every token -----------------------------------------------------------

UNICODE: Final = {
    "add": "+", "sub": "-", "mul": "×", "div": "÷", "max": "max", "dot": "·", "over": "/", "times": "*",
    "idiv": "div", "lt": "<", "le": "≤", "and": "∧", "not": "¬", "true": "true",
    "sum": "Σ", "prod": "Π", "most": "max", "merge": "⊕", "bar": " | ",
    "exp": "exp", "sqrt": "sqrt", "min": "min", "real": "real", "where": "where", "let": "let ", "in": " in",
    "rav": "rav", "quot": "quot", "psi": "ψ", "rho": "ρ", "delta": "δ", "tau": "τ", "iota": "ι",
    "reshape": "ρ̂", "take": "take", "drop": "drop", "cat": "++", "reverse": "Φ", "rotate": "Θ",
    "transpose": "⍉",
    "lift": "lift", "broadcast": "broadcast", "omega": "Ω", "lambda": "λ", "red": " red", "outer": "∘",
    "of": " of ", "cover": " over ", "axis": ": ",
    "(": "(", ")": ")", "<": "<", ">": ">", "space": " ", "dots": "…", "mark": "⟦", "unmark": "⟧",
}  # fmt: skip
ASCII: Final = UNICODE | {
    "mul": "*", "div": "/", "dot": "*", "le": "<=", "and": "and", "not": "not ", "sum": "sum", "prod": "prod",
    "merge": "merge", "psi": " psi ", "rho": "rho", "delta": "delta", "tau": "tau", "iota": "iota",
    "reshape": "reshape", "reverse": "reverse", "rotate": "rotate", "transpose": "transpose ",
    "omega": "omega", "lambda": "lambda ", "outer": ".outer", "dots": "...", "mark": "{{", "unmark": "}}",
}  # fmt: skip
_TEX_WORDS = {x: rf"\operatorname{{{x}}}" for x in ("rav", "quot", "take", "drop", "lift", "broadcast", "real", "max")}
LATEX: Final = UNICODE | _TEX_WORDS | {
    "mul": r"\times", "div": r"\div", "dot": r" \cdot ", "times": r"\,", "idiv": r"\mathbin{\mathrm{div}}",
    "le": r"\le", "and": r"\land", "not": r"\lnot ", "true": r"\mathrm{true}",
    "sum": r"\sum", "prod": r"\prod", "most": r"\max", "merge": r"\bigoplus", "bar": r" \mid ",
    "exp": r"\exp", "sqrt": r"\sqrt", "min": r"\min", "let": r"\mathbf{let}\; ", "in": r" \;\mathbf{in}\;",
    "psi": r" \psi ", "rho": r"\rho", "delta": r"\delta", "tau": r"\tau", "iota": r"\iota",
    "reshape": r"\hat\rho", "cat": r"\mathbin{+\!\!+}", "reverse": r"\Phi", "rotate": r"\mathbin{\Theta}",
    "transpose": r"\mathop{\bigcirc\mkern-15mu\backslash} ", "omega": r"\Omega", "lambda": r"\lambda ",
    "red": r"\;\mathrm{red}", "outer": r"\!\circ", "of": r" \text{ of } ", "cover": r" \text{ over } ",
    "axis": " : ", "(": r"\left(", ")": r"\right)", "<": r"\langle ", ">": r"\rangle", "space": r"\; ",
    "dots": r"\dots ",
    "mark": r"\boxed{", "unmark": "}",
}  # fmt: skip


# --- docs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A place where a broken doc starts a new line, ``nest`` columns in; ``flat`` elsewhere."""

    nest: int
    flat: str = " "


@dataclass(frozen=True, slots=True)
class Indent:
    """What follows, if it breaks, is indented ``by`` columns."""

    by: int


@dataclass(frozen=True, slots=True)
class Doc:
    """A term laid out.  ``width``: its length on one line; ``hard``: it holds a ``let``, which breaks."""

    level: int
    parts: tuple[str | Line | Indent | Doc, ...]
    width: int
    hard: bool


Part = str | Line | Indent | Doc


def _width(part: Part) -> int:
    match part:
        case str():
            return len(part)
        case Line():
            return len(part.flat)
        case Doc():
            return part.width
    return 0


def _doc(level: int, *parts: Part, hard: bool = False) -> Doc:
    return Doc(level, parts, sum(map(_width, parts)), hard or any(isinstance(p, Doc) and p.hard for p in parts))


def _render(doc: Doc, width: int | None) -> str:
    """One line if ``width`` is None; otherwise a doc that does not fit breaks at all of its lines."""
    out: list[str] = []
    column = 0
    todo: list[tuple[Part, int, int, bool]] = [(doc, 0, 0, width is None)]  # part, indent, width behind it, flat
    while todo:
        part, indent, behind, flat = todo.pop()
        match part:
            case Doc():
                fits = width is None or (not part.hard and column + part.width + behind <= width)
                todo.extend(reversed(_laid(part, indent, behind, flat or fits)))
                continue
            case Line():
                piece = part.flat if flat else "\n" + " " * indent
            case _:
                piece = part if isinstance(part, str) else ""
        out.append(piece)
        column = len(piece) - 1 if piece.startswith("\n") else column + len(piece)
    return "".join(out)


def _laid(doc: Doc, indent: int, behind: int, flat: bool) -> list[tuple[Part, int, int, bool]]:
    """The parts of a doc with their indents, and how much text must follow each on its line."""
    rows: list[tuple[Part, int, int, bool]] = []
    now = indent + 2
    for p in doc.parts:
        if isinstance(p, Line | Indent):
            now = indent + (p.nest if isinstance(p, Line) else p.by)
        rows.append((p, now, 0, flat))
    for at in reversed(range(len(rows))):
        part, now, _, _ = rows[at]
        rows[at] = (part, now, behind, flat)
        behind = 0 if isinstance(part, Line) else behind + _width(part)
    return rows


# --- the printer ---------------------------------------------------------------------------------


class _Printer:
    """What one call prints with: the spelling, the names that are taken, the focus, the sizes of subterms."""

    def __init__(self, roots: Sequence[Term], words: dict[str, str], focus: Path | None):
        self.words, self.focus = words, focus
        self.latex = words is LATEX
        self.reserved = _reserved(roots)
        self.sizes: dict[Term, int] = {}

    def size(self, t: Term) -> int:
        """Nodes of the tree, capped; once for each shared node, without recursion."""
        todo = [t]
        while todo:
            u = todo[-1]
            due = [a for a in u.args if a not in self.sizes] if u.op != "in" else []
            if due:
                todo.extend(due)
                continue
            self.sizes[todo.pop()] = min(_CAP, 1 + sum(self.sizes[a] for a in u.args if u.op != "in"))
        return self.sizes[t]

    def rest(self, path: Path) -> int | None:
        """How many steps below ``path`` the focus is; None where it is elsewhere."""
        if self.focus is None or self.focus[: len(path)] != path:
            return None
        return len(self.focus) - len(path)

    def doc(self, t: Term, path: Path, scope: tuple[str, ...], budget: int) -> Doc:
        rest = self.rest(path)
        if (budget < 1 and not rest) or (len(path) > DEEPEST and rest is None):
            made = _doc(ATOM, self.words["dots"])
        else:
            made = FORMS[t.op](_Node(self, t, path, scope, budget))
        return _doc(made.level, self.words["mark"], Indent(0), made, self.words["unmark"]) if rest == 0 else made

    def spell(self, name: str) -> str:
        """A name as this style writes it."""
        if not self.latex:
            return f"`{name}`" if name in WORDS else name
        base = name.rstrip("'")
        primes = name[len(base) :]
        if base.startswith("#"):
            return rf"\#{base[1:]}"
        if len(base) == 2 and base[0] == "d":
            return f"d_{base[1]}{primes}"
        return (base if len(base) == 1 and base != "_" else rf"\mathit{{{base.replace('_', chr(92) + '_')}}}") + primes


class _Node:
    """One node being printed, and the help that the forms below need."""

    def __init__(self, printer: _Printer, t: Term, path: Path, scope: tuple[str, ...], budget: int):
        self.printer, self.t, self.path, self.scope = printer, t, path, scope
        self.w = printer.words
        self.budget = budget
        self.shares = self._share()

    def _share(self) -> list[int]:
        """The budget of each argument: small ones get what they need, most goes to the path of the focus."""
        args, left = self.t.args, self.budget - 1
        need = [self.printer.size(a) for a in args]
        shares = [0] * len(args)
        focus = next((k for k in range(len(args)) if self.printer.rest((*self.path, k)) is not None), None)
        if focus is not None:
            below = self.printer.rest((*self.path, focus)) or 0
            others = sum(need) - need[focus]
            for_others = min(others, max(left - need[focus], left // (2 * below + 4)))
            shares[focus], left = left - for_others, for_others
        order = sorted((k for k in range(len(args)) if k != focus), key=lambda k: (need[k], k))
        for done, k in enumerate(order):
            shares[k] = min(need[k], -(-left // (len(order) - done)))
            left -= shares[k]
        return shares

    def focused(self, *steps: int) -> bool:
        """Is the focus at or below the descendant at ``steps``?  Then no form may leave that one out."""
        return self.printer.rest((*self.path, *steps)) is not None

    def arg(self, k: int, level: int = OPEN, names: tuple[str, ...] = (), big: bool = False) -> Doc:
        """Argument ``k``, in parentheses if it binds less tightly than ``level`` (``big``: Σ needs none)."""
        made = self.printer.doc(self.t.args[k], (*self.path, k), self.scope + names, self.shares[k])
        return made if made.level >= level or (big and made.level == BIG) else self.paren(made)

    def paren(self, *parts: Part) -> Doc:
        return _doc(ATOM, self.w["("], Indent(1), *parts, self.w[")"])

    def fresh(self, hint: str | None, also: tuple[str, ...] = ()) -> str:
        return _fresh(hint, self.scope + also, self.printer.reserved)

    def spell(self, name: str) -> str:
        return self.printer.spell(name)

    def call(self, word: str, *args: Doc) -> Doc:
        parts: list[Part] = [self.w.get(word, word), self.w["("]]
        for k, a in enumerate(args):
            parts += [",", Line(2), a] if k else [a]
        return _doc(ATOM, *parts, self.w[")"])

    def vector(self, *items: Part) -> Doc:
        """<i k>: items that bind tightly, with spaces between."""
        parts: list[Part] = []
        for k, item in enumerate(items):
            parts += [self.w["space"], item] if k else [item]
        return _doc(ATOM, self.w["<"], *parts, self.w[">"])

    def args(self, first: int, level: int = OPEN) -> list[Doc]:
        made: list[Doc] = []
        for k in range(first, len(self.t.args)):
            made.append(self.arg(k, level))  # noqa: PERF401  a comprehension is one more frame of the stack a level
        return made

    def infix(self, level: int, left: Doc, sign: str, right: Doc, gap: str = " ") -> Doc:
        return _doc(level, Indent(0), left, Line(0, gap), sign + gap, right)

    def dyadic(self, left: Part, word: str) -> Doc:
        """A MoA operator with a left argument of its own and the array, argument 0, on its right."""
        return _doc(DIV, left, " ", self.w[word] + " ", self.arg(0, PREFIX))

    def ranks(self, numbers: Sequence[int]) -> Doc:
        return self.vector(*map(str, numbers))


Form = Callable[[_Node], Doc]


def _name(n: _Node) -> Doc:
    name = n.t.data[0] if n.t.op == "in" else n.t.data
    made = _doc(ATOM, n.spell(name))
    if n.t.op == "in" and any(n.focused(k) for k in range(len(n.t.args))):
        return _doc(ATOM, made, ":", n.vector(*n.args(0, PREFIX)))
    return n.call(n.spell(name), *n.args(0)) if n.t.op == "meta" and n.t.args else made


def _var(n: _Node) -> Doc:
    k, depth = n.t.data, len(n.scope)
    return _doc(ATOM, n.spell(n.scope[-1 - k] if k < depth else f"#{k - depth}"))


# indices


def _int(n: _Node) -> Doc:
    return _doc(ATOM if n.t.data >= 0 else ADD, str(n.t.data))


def _leftmost(t: Term, op: str) -> Term:
    """The first operand of a chain of ``op``; of a chain longer than 64, what is left of it."""
    for _ in range(64):
        if t.op != op:
            break
        t = t.args[0]
    return t


def _is_negative(t: Term) -> bool:
    first = _leftmost(t, "imul")
    return bool(first.op == "int" and first.data < 0)


def _positive(t: Term) -> Term:
    """Minus a product whose first factor is a negative number."""
    if t.op == "int":
        return Int(-t.data)
    first, other = t.args
    return other if first is Int(-1) else Mul(_positive(first), other)


def _minus(n: _Node, t: Term, steps: Path, budget: int) -> Doc | None:
    """What follows the sign of a negative product; None if it is none, or if the sign is to be marked."""
    plain = t.op == "imul" and t.args[0] is Int(-1)
    if not _is_negative(t) or (n.focused(*steps) and not (plain and n.focused(*steps, 1))):
        return None
    where = (*n.path, *steps, 1) if plain else (*n.path, *steps)
    made = n.printer.doc(_positive(t), where, n.scope, budget)
    return made if made.level >= MUL else n.paren(made)


def _iadd(n: _Node) -> Doc:
    a, b = n.t.args
    if (less := _minus(n, b, (1,), n.shares[1])) is not None:
        return n.infix(ADD, n.arg(0, ADD), n.w["sub"], less)
    signed = b is not a and _is_negative(_leftmost(b, "iadd"))
    return n.infix(ADD, n.arg(0, ADD), n.w["add"], n.arg(1, BIG if signed else ADD))


def _imul(n: _Node) -> Doc:
    if (less := _minus(n, n.t, (), n.budget)) is not None:
        return _doc(ADD, n.w["sub"], less)
    return n.infix(MUL, n.arg(0, MUL), n.w["times"], n.arg(1, MUL), "")


def _idiv(n: _Node) -> Doc:
    return n.infix(DIV, n.arg(0, PREFIX), n.w["idiv"], n.arg(1, PREFIX))


# truth values


def _lt(n: _Node) -> Doc:
    b = n.t.args[1]
    if b.op == "iadd" and b.args[1] is ONE and b.args[0] is not ONE and not (n.focused(1) and not n.focused(1, 0)):
        low = n.printer.doc(b.args[0], (*n.path, 1, 0), n.scope, n.shares[1] - 1)
        return n.infix(REL, n.arg(0, ADD), n.w["le"], low)
    return n.infix(REL, n.arg(0, ADD), n.w["lt"], n.arg(1, ADD))


def _and(n: _Node) -> Doc:
    return n.infix(AND, n.arg(0, AND), n.w["and"], n.arg(1, REL))


# reals


def _digits(n: _Node, text: str) -> str:
    return text if len(text) <= 24 else f"{text[:12]}{n.w['dots']}({len(text.lstrip('-'))} digits)"


def _real(n: _Node) -> Doc:
    above, below = (_digits(n, x) for x in n.t.data)
    negative = above.startswith("-")
    if below == "1":
        return _doc(ADD if negative else ATOM, above)
    if n.printer.latex:
        return _doc(ADD if negative else ATOM, rf"{'-' * negative}\tfrac{{{above.lstrip('-')}}}{{{below}}}")
    return _doc(ADD if negative else DIV, f"{above}/{below}")


def _function(n: _Node) -> Doc:
    """A scalar function, or its extension to arrays: only the signs of product and quotient differ."""
    arrays = n.t.op == "pointwise"
    match n.t.data:
        case "add" | "sub":
            return n.infix(ADD, n.arg(0, ADD), n.w[n.t.data], n.arg(1, BIG))
        case "mul":
            right = n.arg(1, PREFIX, big=True)
            level = BIG if right.level == BIG else MUL
            return n.infix(level, n.arg(0, MUL), n.w["mul" if arrays else "dot"], right, " " if arrays else "")
        case "div" if n.printer.latex and not arrays:
            return _doc(ATOM, r"\frac{", n.arg(0), "}{", n.arg(1), "}")
        case "div":
            right = n.arg(1, PREFIX, big=True)
            level = BIG if right.level == BIG else DIV
            return n.infix(level, n.arg(0, PREFIX), n.w["div" if arrays else "over"], right)
        case "neg":
            return _doc(ADD, n.w["sub"], n.arg(0, PREFIX))
        case "sqrt" if n.printer.latex:
            return _doc(ATOM, r"\sqrt{", n.arg(0), "}")
    return n.call("most" if n.t.data == "max" else n.t.data, *n.args(0))


# any sort


def _where(n: _Node) -> Doc:
    if n.printer.latex:
        yes, no = n.arg(1), n.arg(2)
        cases = (yes, r" & \text{if } ", n.arg(0), r" \\ ", no, r" & \text{otherwise}")
        return _doc(ATOM, r"\begin{cases} ", *cases, r" \end{cases}")
    return n.call("where", *n.args(0))


def _let(n: _Node) -> Doc:
    name = n.fresh(_value_hint(n.t.args[0]))
    value, body = n.arg(0), n.arg(1, names=(name,))
    return _doc(OPEN, n.w["let"], n.spell(name), " = ", Indent(4), value, n.w["in"], Line(0), body, hard=True)


def _psi(n: _Node) -> Doc:
    array = n.arg(0)
    if array.level == ATOM:
        parts: list[Part] = []
        for k, i in enumerate(n.args(1)):
            parts += [", ", i] if k else [i]
        return _doc(ATOM, array, "[", *parts, "]")
    operand = array if array.level >= PREFIX else n.paren(array)
    return _doc(PREFIX, n.vector(*n.args(1, PREFIX)), n.w["psi"], operand)


def _flat(n: _Node) -> Doc:
    return _doc(ATOM, n.call("rav", n.arg(0)), "[", n.arg(1), "]")


def _axis(n: _Node) -> str:
    if n.t.data == "seq":
        return ""
    return n.w["axis"] + (rf"\mathrm{{{n.t.data}}}" if n.printer.latex else str(n.t.data))


def _build(n: _Node) -> Doc:
    name = n.fresh(_extent_hint(n.t.args[0]))
    head = _doc(ATOM, "[", n.spell(name), n.w["lt"], n.arg(0, ADD), _axis(n), "]")
    nested = n.t.args[1].op in ("build", "tiles")
    return _doc(OPEN, head, Indent(0) if nested else Line(2), n.arg(1, names=(name,)))


def _tiles(n: _Node) -> Doc:
    name = n.fresh(TILE_NAMES.get(_extent_hint(n.t.args[0]) or "", "T"))
    below = _doc(ATOM, n.spell(name), n.w["lt"], n.arg(1, ADD))
    head = _doc(ATOM, "[", below, n.w["of"], n.arg(2), n.w["cover"], n.arg(0), _axis(n), "]")
    nested = n.t.args[3].op in ("build", "tiles")
    return _doc(OPEN, head, Indent(0) if nested else Line(2), n.arg(3, names=(name,)))


_BIG = {"add": "sum", "mul": "prod", "max": "most", "softmax": "merge"}


def _fold(n: _Node) -> Doc:
    name = n.fresh(_extent_hint(n.t.args[0]))
    guarded = n.t.args[1] is not TRUE or n.focused(1)
    guard = (n.w["bar"], n.arg(1, names=(name,))) if guarded else ()
    head = _doc(ATOM, n.w[_BIG[n.t.data]], "_{", n.spell(name), n.w["lt"], n.arg(0, ADD), *guard, "}")
    return _doc(BIG, head, Line(2), n.arg(2, MUL, (name,), big=True))


# the MoA operators


def _transpose(n: _Node) -> Doc:
    backwards = n.t.data == tuple(reversed(range(len(n.t.data))))
    return _doc(PREFIX, *(() if backwards else (n.ranks(n.t.data),)), n.w["transpose"], n.arg(0, PREFIX))


def _shaped(n: _Node) -> Doc:
    return n.dyadic(n.vector(*n.args(1, PREFIX)), n.t.op)


def _section(n: _Node) -> Doc:
    counts = [_doc(ATOM, "-" * (s < 0), x) for s, x in zip(n.t.data, n.args(1, PREFIX), strict=True)]
    return n.dyadic(n.vector(*counts), n.t.op)


def _monadic(n: _Node) -> Doc:
    return n.call({"ravel": "rav"}.get(n.t.op, n.t.op), n.arg(0))


def _iota(n: _Node) -> Doc:
    return n.call("iota", n.arg(0)) if len(n.t.args) == 1 else _doc(ATOM, n.w["iota"], n.vector(*n.args(0, PREFIX)))


def _lift(n: _Node) -> Doc:
    return _doc(PREFIX, n.call(f"{n.w['lift']}_{n.t.data}", n.arg(1), n.arg(2)), " ", n.arg(0, PREFIX))


def _red(n: _Node, data: tuple[str, int]) -> str:
    """(+ red), or (+ red_1) along another axis than the first."""
    monoid, axis = data
    subscript = f"_{{{axis}}}" if n.printer.latex else f"_{axis}"
    return f"({n.w[monoid]}{n.w['red']}{subscript if axis else ''})"


def _seen(n: _Node, array: int, visibility: int) -> Doc:
    return n.paren(n.arg(array), n.w["bar"], n.arg(visibility))


def _reduce(n: _Node) -> Doc:
    array = _seen(n, 0, 1) if len(n.t.args) == 2 else n.arg(0, PREFIX)
    return _doc(PREFIX, _red(n, n.t.data), " ", array)


def _product_sign(n: _Node, t: Term) -> str:
    """+.× of an inner product, ×∘ of an outer one."""
    sign = f"{n.w[t.data[0]]}.{n.w[t.data[1]]}" if t.op == "inner" else f"{n.w[t.data]}{n.w['outer']}"
    return rf"\mathbin{{{sign}}}" if n.printer.latex else sign


def _product(n: _Node) -> Doc:
    left = _seen(n, 0, 2) if len(n.t.args) == 3 else n.arg(0, ATOM)
    return n.infix(DIV, left, _product_sign(n, n.t), n.arg(1, PREFIX))


def _operator(n: _Node, t: Term, arrays: int) -> tuple[str, bool] | None:
    """A function of cells that is one operator of all of them in order, and whether it stands between two."""
    if t.args != tuple(Var(k) for k in reversed(range(arrays))):
        return None
    match t.op:
        case "f" | "pointwise" if arrays == 2:
            return f"({n.w[t.data]})" if t.data == "max" else n.w[t.data], True
        case "f" | "map":
            return f"({n.w['sub'] if t.data == 'neg' else n.w[t.data]})", False
        case "reduce":
            return _red(n, t.data), False
        case "inner" | "outer" if arrays == 2:
            return _product_sign(n, t), True
        case "transpose" if t.data == tuple(reversed(range(len(t.data)))):
            return f"({n.w['transpose'].strip()})", False
    return None


def _omega(n: _Node) -> Doc:
    arrays = len(n.t.args) - 1
    omega = _doc(ATOM, n.w["omega"], n.ranks(n.t.data))
    short = None if n.focused(arrays) else _operator(n, n.t.args[-1], arrays)
    if short and short[1]:
        return _doc(DIV, Indent(0), n.arg(0, ATOM), Line(0), short[0], omega, " ", n.arg(1, PREFIX))
    function = _doc(ATOM, short[0]) if short else _lambda(n, arrays)
    if arrays == 1:
        return _doc(PREFIX, function, omega, " ", n.arg(0, PREFIX))
    return _doc(PREFIX, function, omega, n.call("", *(n.arg(k) for k in range(arrays))))


def _lambda(n: _Node, arrays: int) -> Doc:
    names: tuple[str, ...] = ()
    for _ in range(arrays):
        names += (n.fresh(None, names),)
    return n.paren(n.w["lambda"], ", ".join(map(n.spell, names)), ". ", n.arg(arrays, names=names))


def _dim(n: _Node) -> Doc:
    return _doc(ATOM, n.call("rho", n.arg(0)), f"[{n.t.data}]")


FORMS: Final[dict[str, Form]] = {
    "var": _var, "int": _int, "size": _name, "iadd": _iadd, "imul": _imul, "idiv": _idiv,
    "imin": lambda n: n.call("min", *n.args(0)),
    "true": lambda n: _doc(ATOM, n.w["true"]), "lt": _lt, "and": _and,
    "not": lambda n: _doc(REL, n.w["not"], n.arg(0, PREFIX)),
    "real": _real, "cast": lambda n: n.call("real", n.arg(0)), "f": _function,
    "where": _where, "let": _let, "psi": _psi, "flat": _flat, "in": _name, "build": _build, "tiles": _tiles,
    "fold": _fold, "state": lambda n: n.call("", *n.args(0)), "quotient": lambda n: n.call("quot", n.arg(0)),
    "transpose": _transpose, "reshape": _shaped, "ravel": _monadic, "take": _section, "drop": _section,
    "cat": lambda n: n.infix(DIV, n.arg(0, ATOM), n.w["cat"], n.arg(1, PREFIX)), "reverse": _monadic,
    "rotate": lambda n: n.dyadic(n.arg(1, PREFIX), "rotate"), "iota": _iota,
    "rho": _monadic, "delta": _monadic, "tau": _monadic, "lift": _lift, "broadcast": _shaped,
    "map": _function, "pointwise": _function, "omega": _omega, "reduce": _reduce,
    "outer": _product, "inner": _product, "meta": _name, "dim": _dim,
    "x": lambda n: _doc(ATOM, rf"\xi_{{{n.t.data}}}" if n.printer.latex else f"@{n.t.data}"),
}  # fmt: skip


# --- what others call ----------------------------------------------------------------------------


def _check_path(t: Term, path: Path) -> None:
    if len(path) > MAX_DEPTH:
        raise IllFormed(f"path of {len(path)} steps: at most {MAX_DEPTH} can be shown")
    for k, step in enumerate(path):
        if not 0 <= step < len(t.args):
            raise IllFormed(f"path {path}: step {k}: {t.op} has no argument {step}; it has {len(t.args)}")
        t = t.args[step]


def _scope(ctx: Context, names: Sequence[str] | None, reserved: frozenset[str]) -> tuple[str, ...]:
    """Names of the context's variables: the given ones (from the outermost), then by extent or value."""
    given = tuple(names or ())
    scope: tuple[str, ...] = ()
    for k in range(max(len(ctx), len(given))):
        entry = ctx[k] if k < len(ctx) else None
        hint = _extent_hint(entry.extent) if isinstance(entry, Index) else _value_hint(entry.term) if entry else None
        scope += (_fresh(given[k] if k < len(given) else hint, scope, reserved),)
    return scope


def _show(
    t: Term, ctx: Context, names: Sequence[str] | None, words: dict[str, str], limit: int, focus: Path | None,
    width: int | None = None,
) -> str:  # fmt: skip
    if focus is not None:
        _check_path(t, focus)
    extra = [entry.term if isinstance(entry, Value) else entry.extent for entry in ctx]
    printer = _Printer([t, *extra], words, focus)
    scope = _scope(ctx, names, printer.reserved)
    return _render(printer.doc(t, (), scope, limit), width)


def text(
    term: Term, ctx: Context = (), names: Sequence[str] | None = None, *,
    unicode: bool = True, limit: int = LIMIT, focus: Path | None = None,
) -> str:  # fmt: skip
    """``term`` on one line, in the notation of this module.

    ``ctx`` types the free variables and ``names`` are wishes for their names, both outermost first (a
    wish that is taken is doubled or primed).  At most ``limit`` nodes are printed, besides those on the way
    to the focus; the others are ``…``.  The subterm at ``focus`` is marked; a path that leaves the term is
    ``IllFormed``.
    """
    return _show(term, ctx, names, UNICODE if unicode else ASCII, limit, focus)


def latex(
    term: Term, ctx: Context = (), names: Sequence[str] | None = None, *,
    limit: int = LIMIT, focus: Path | None = None,
) -> str:  # fmt: skip
    """``term`` as LaTeX for math mode (amsmath), in ASCII; arguments as in ``text``."""
    return _show(term, ctx, names, LATEX, limit, focus)


def pretty(
    term: Term, width: int = 100, ctx: Context = (), names: Sequence[str] | None = None, *,
    unicode: bool = True, limit: int = LIMIT, focus: Path | None = None,
) -> str:  # fmt: skip
    """``term`` over indented lines, of ``width`` columns where it can; each ``let`` on its own line."""
    return _show(term, ctx, names, UNICODE if unicode else ASCII, limit, focus, width)


def index(
    term: Term,
    ctx: Context = (),
    names: Sequence[str] | None = None,
    *,
    unicode: bool = True,
    limit: int = LIMIT,
) -> str:
    """An index expression with as few parentheses as integers need; anything else is ``IllFormed``."""
    if term.op not in INDEX_SORTED | {"var", "meta", "dim", "psi", "flat", "where", "let", "delta", "tau"}:
        raise IllFormed(f"index: {term.op} is no index expression; use text")
    return text(term, ctx, names, unicode=unicode, limit=limit)


def highlight(
    term: Term, path: Sequence[int], ctx: Context = (), names: Sequence[str] | None = None, *,
    unicode: bool = True, limit: int = LIMIT,
) -> str:  # fmt: skip
    """``text`` with the subterm at ``path`` between ⟦ and ⟧ (``{{`` and ``}}`` in ASCII)."""
    return text(term, ctx, names, unicode=unicode, limit=limit, focus=tuple(path))


def span(
    term: Term, path: Sequence[int], ctx: Context = (), names: Sequence[str] | None = None, *,
    unicode: bool = True, limit: int = LIMIT,
) -> tuple[str, int, int]:  # fmt: skip
    """The text without marks, and where in it the subterm at ``path`` starts and stops."""
    words = (UNICODE if unicode else ASCII) | {"mark": _MARKS[0], "unmark": _MARKS[1]}
    marked = _show(term, ctx, names, words, limit, tuple(path))
    start, stop = map(marked.index, _MARKS)
    return marked.replace(_MARKS[0], "").replace(_MARKS[1], ""), start, stop - 1


def signature(term: Term) -> list[str]:
    """The inputs of a term, by name: ``q: real <n dk>``."""
    rows = set()
    for t in _reachable([term]):
        if t.op == "in":
            extents = " ".join(index(x) if x.depth == 1 else f"({index(x)})" for x in t.args)
            rows.add(f"{t.data[0]}: {t.data[1]} <{extents}>")
    return sorted(rows)
