"""A PyTorch function as a graph of operators, symbolic in every size.  Untrusted; torch is loaded when it is called.

The function is traced once with ``torch.export`` (not strict, nothing decomposed) on float64 examples whose sizes are
distinct primes.  What a trace may hide is looked for and refused by name, file and line:

- a size that became a constant, or that decides a branch (``if q.shape[0] == 4``).  A branch on an order of sizes
  (``assert m > n``) becomes a hypothesis instead;
- a branch on data, an in-place operator, a constant tensor, more than one result;
- another sequence of torch calls at other sizes (each size 1 in turn, all sizes in the opposite order).
"""

from __future__ import annotations

import inspect
import io
import logging
import math
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import BackendMissing, NotCovered
from .declare import Parameter, parameters
from .graph import SCHEMA

if TYPE_CHECKING:
    pass

PRIMES: Final = (11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)
STAND_INS: Final = tuple(1.0 + (k + 1) * math.pi / 1000 for k in range(16))  # for numbers that must be Python floats
RAISED: Final = (RuntimeError, ValueError, IndexError, TypeError)  # what torch raises where shapes do not fit
COPIES: Final = ("aten.lift_fresh_copy.default", "aten.detach_.default", "aten.detach.default")  # of a constant
SYM_NAMES: Final = {"sym_float": "sym.float", "_sym_sqrt": "sym.sqrt", "sym_not": "sym.not"}


def capture(
    fn: Callable[..., Any],
    *,
    fixed: Mapping[str, Any] | None = None,
    name: str | None = None,
    file: str | None = None,
) -> dict[str, Any]:
    """The graph of ``fn`` as a JSON document (``graph.py`` has its form).

    ``fixed`` gives parameters a literal value; ``declare.py`` says how the others are declared.  Raises ``NotCovered``
    where the function is outside what can be traced for all sizes, ``BackendMissing`` without torch.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise BackendMissing("capture: PyTorch is not installed; pip install torch") from None
    readings = parameters(fn, fixed or {})
    for at, params in enumerate(readings):
        try:
            return _Capture(fn, params, name or fn.__name__, file or _file(fn)).graph()
        except _ShapesDisagree as e:
            if at == len(readings) - 1:
                raise NotCovered(str(e)) from None
    raise NotCovered(f"{fn.__name__}: no reading of its parameters")


class _ShapesDisagree(Exception):
    """The example shapes do not fit the function; the next reading may."""


def _file(fn: Callable[..., Any]) -> str:
    """The source file's path, from the working directory if it is below, else its name alone."""
    path = Path(inspect.getsourcefile(fn) or "unknown").resolve()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.name


class _Capture:
    """One attempt: the example, the export, what happened on the way, and the graph."""

    def __init__(self, fn: Callable[..., Any], params: Sequence[Parameter], name: str, file: str):
        self.fn, self.params, self.name, self.file = fn, params, name, file
        self.path = inspect.getsourcefile(fn) or ""
        self.values: Sequence[int] = ()  # the example's value of each free size
        self.decisions: list[tuple[str, Any, int]] = []  # how, what was asked, line
        self.stand_ins: dict[float, str] = {}
        self.equations = {a.size: a.factors for p in params for a in p.axes if a.factors}
        names = dict.fromkeys(f for p in params for a in p.axes for f in (a.factors or (a.size,)) if isinstance(f, str))
        self.free = [n for n in names if n not in self.equations]

    def refuse(self, why: str, line: int = 0) -> NotCovered:
        return NotCovered(f"{self.file}:{line or self._first_line()}: {self.name}: {why}")

    def _first_line(self) -> int:
        return int(self.fn.__code__.co_firstlineno)

    # --- examples --------------------------------------------------------------------------------

    def sizes(self, values: Sequence[int]) -> dict[str, int]:
        found = dict(zip(self.free, values, strict=False))
        for size, factors in self.equations.items():
            found[size] = math.prod(found[f] if isinstance(f, str) else f for f in factors)
        return found

    def example(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """A tensor for each tensor, a number for each number."""
        import torch

        made: dict[str, Any] = {}
        for p in self.params:
            shape = [sizes[a.size] for a in p.axes]
            match p.kind:
                case "real":
                    made[p.name] = torch.linspace(-1, 1, math.prod(shape), dtype=torch.float64).reshape(shape)
                case "bool":
                    made[p.name] = torch.ones(shape, dtype=torch.bool)
                case "scalar":
                    made[p.name] = 0.75
                case _:
                    made[p.name] = p.value
        return made

    def calls(self, values: Sequence[int]) -> list[tuple[str, int]]:
        """The torch calls that the function makes at some sizes, with their lines."""
        mode = _watch(self)
        with mode:
            self.fn(**self.example(self.sizes(values)))
        return list(mode.log)

    # --- the trace -------------------------------------------------------------------------------

    def graph(self) -> dict[str, Any]:
        if len(self.free) > len(PRIMES):
            raise self.refuse(f"more than {len(PRIMES)} sizes")
        self.values, eager = self.first_calls()
        program, scalars = self.export()
        rename = self.symbols(program)
        hypotheses = self.judge_decisions(rename)
        self.same_calls(eager)
        return self.document(program, scalars, rename, hypotheses)

    def first_calls(self) -> tuple[Sequence[int], list[tuple[str, int]]]:
        """The calls at the first example, or where an assertion fails there, with the sizes in opposite order."""
        n = len(self.free)
        for values in (PRIMES[:n], PRIMES[:n][::-1]):
            try:
                return values, self.calls(values)
            except AssertionError as e:
                why = f"an assertion fails {e}".rstrip()
            except RAISED as e:
                why = str(e).splitlines()[0] if str(e) else type(e).__name__
                break
        raise _ShapesDisagree(
            f"{self.file}:{self._first_line()}: {self.name}: it raises at the shapes {self._shapes()}: {why};"
            " declare the extents in the docstring, as in 'k: (b, g, m, dk)', and equal extents by one name"
        )

    def _shapes(self) -> str:
        return ", ".join(f"{p.name} ({', '.join(a.size for a in p.axes)})" for p in self.params if p.axes)

    def same_calls(self, eager: list[tuple[str, int]]) -> None:
        """The same calls with each size 1 in turn, with all sizes 1, and with the sizes in opposite order."""
        n = len(self.free)
        first = tuple(self.values)
        trials = [(f"{size} = 1", (*first[:k], 1, *first[k + 1 :])) for k, size in enumerate(self.free)]
        trials += [("sizes in another order", first[::-1]), ("all sizes 1", (1,) * n)]
        for what, values in trials:
            try:
                found = self.calls(values)
            except (*RAISED, AssertionError):
                continue  # a slice out of range or an assertion: a hypothesis of the Spec excludes these sizes
            if found != eager:
                other = next((x for x, y in zip(found, eager, strict=False) if x != y), found[-1] if found else ("", 0))
                raise self.refuse(
                    f"it takes another path at {what} ({other[0]}); one path for all sizes is covered", other[1]
                )

    def export(self) -> tuple[Any, dict[str, str]]:
        """The exported program, and for each of its numbers the parameter that it is."""
        import torch
        from torch.export import Dim, export
        from torch.fx import traceback

        traced = [p for p in self.params if p.kind != "literal"]
        literals = {p.name: p.value for p in self.params if p.kind == "literal"}
        example = self.example(self.sizes(self.values))
        args = [torch.tensor(x, dtype=torch.float64) if isinstance(x := example[p.name], float) else x for p in traced]
        outer = self

        class Traced(torch.nn.Module):
            def forward(self, *given: Any) -> Any:
                values = {p.name: x.item() if p.kind == "scalar" else x for p, x in zip(traced, given, strict=True)}
                numbers.update({str(values[p.name].node.expr): p.name for p in traced if p.kind == "scalar"})
                with _watch(outer, numbers):
                    return outer.fn(**values, **literals)

        numbers: dict[str, str] = {}
        dynamic = tuple(dict.fromkeys(range(x.ndim), Dim.AUTO) for x in args)
        with _symbolic(self), traceback.preserve_node_meta(), _quiet():
            try:
                return export(Traced(), tuple(args), dynamic_shapes=(dynamic,), strict=False), numbers
            except NotCovered:
                raise
            except Exception as e:  # noqa: BLE001 - export raises its own and Python's; which, is no interface
                raise self.not_exported(e) from None

    def not_exported(self, e: Exception) -> NotCovered:
        line, tb = 0, e.__traceback__
        while tb is not None:
            if tb.tb_frame.f_code.co_filename == self.path:
                line = tb.tb_lineno
            tb = tb.tb_next
        reason = str(e).strip().splitlines()[0] if str(e).strip() else ""
        if "data-dependent" in reason or "GuardOnDataDependent" in type(e).__name__:
            return self.refuse("a value decides a branch or becomes a Python number; covered are functions whose"
                               " operators do not depend on data", line)  # fmt: skip
        return self.refuse(f"torch.export refuses it: {type(e).__name__}: {reason}", line)

    # --- sizes -----------------------------------------------------------------------------------

    def placeholders(self, program: Any) -> dict[str, Any]:
        """The example value of each traced parameter, by its placeholder's name in the graph."""
        names = [s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
        nodes = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
        traced = [p for p in self.params if p.kind != "literal"]
        return {node: (p, nodes[node]) for node, p in zip(names, traced, strict=True)}

    def symbols(self, program: Any) -> dict[Any, Any]:
        """torch's symbols as the names of sizes: the first name that uses the symbol."""
        import sympy

        rename: dict[Any, Any] = {}
        bound: dict[Any, str] = {}
        for p, node in self.placeholders(program).values():
            for axis, extent in zip(p.axes, node.meta["val"].shape if p.axes else (), strict=True):
                if isinstance(extent, int):
                    line = next((ln for how, _, ln in self.decisions if how == "number"), 0)
                    raise self.refuse(
                        f"size {axis.size} of {p.name} became the constant {extent}; every size stays symbolic:"
                        " no loop, literal extent or comparison may fix one",
                        line,
                    )
                bound.setdefault(extent.node.expr, axis.size)
        for expr, size in bound.items():
            if expr.is_Symbol:
                factors = self.equations.get(size, (size,))
                rename[expr] = math.prod(
                    sympy.Symbol(f, positive=True, integer=True) if isinstance(f, str) else f for f in factors
                )
        self.bound = bound
        return rename

    def judge_decisions(self, rename: Mapping[Any, Any]) -> list[Any]:
        """Branches that the function took on sizes: equalities that hold of the names, or hypotheses."""
        import sympy

        held: list[Any] = []
        for how, expr, line in self.decisions:
            taken = expr
            if how == "number":
                raise self.refuse(f"a size becomes a Python number here ({expr}); sizes stay symbolic", line)
            if taken in (True, False, sympy.true, sympy.false):  # decided for all positive sizes
                held += [["lt", ["int", 0], ["size", size]] for size in dict.fromkeys(self.bound.values())]
                continue
            taken = taken.func(*[a.xreplace(dict(rename)) for a in taken.args])
            taken = sympy.simplify(taken) if isinstance(taken, (sympy.Eq, sympy.Ne)) else taken
            if taken == sympy.true:
                continue
            match taken:
                case sympy.StrictLessThan():
                    held.append(["lt", _polynomial(taken.lhs), _polynomial(taken.rhs)])
                case sympy.LessThan():
                    held.append(["lt", _polynomial(taken.lhs), ["add", _polynomial(taken.rhs), ["int", 1]]])
                case sympy.StrictGreaterThan():
                    held.append(["lt", _polynomial(taken.rhs), _polynomial(taken.lhs)])
                case sympy.GreaterThan():
                    held.append(["lt", _polynomial(taken.rhs), ["add", _polynomial(taken.lhs), ["int", 1]]])
            if (
                not isinstance(taken, sympy.core.relational.Relational)
                or isinstance(taken, (sympy.Eq, sympy.Ne))
                or None in held
            ):
                raise self.refuse(f"a branch on sizes ({taken}); one path for all sizes is covered, and assertions"
                                  " on the order of sizes", line)  # fmt: skip
        return [h for n, h in enumerate(held) if h not in held[:n]]

    # --- the document ----------------------------------------------------------------------------

    def document(
        self, program: Any, scalars: Mapping[str, str], rename: Mapping[Any, Any], held: list[Any]
    ) -> dict[str, Any]:
        translate = _Translate(self, program)
        nodes, output = translate.nodes()
        return {
            "schema": SCHEMA,
            "function": self.name,
            "file": self.file,
            "line": self._first_line(),
            "source": textwrap.dedent(inspect.getsource(self.fn)),
            "inputs": [self.input(p, program) for p in self.params],
            "equations": [{"size": s, "factors": list(f)} for s, f in self.equations.items()],
            "hypotheses": held,
            "nodes": nodes,
            "output": output,
        }

    def input(self, p: Parameter, program: Any) -> dict[str, Any]:
        if p.kind == "scalar":
            return {"name": p.name, "kind": "scalar"}
        if p.kind == "literal":
            return {"name": p.name, "kind": "literal", "value": self.literal(p.value)}
        node = next(n for q, n in self.placeholders(program).values() if q is p)
        sizes = [self.bound[e.node.expr] for e in node.meta["val"].shape]
        if not any(a.broadcasts for a in p.axes):
            return {"name": p.name, "kind": p.kind, "extents": sizes}
        if p.kind != "bool":
            raise self.refuse(f"{p.name}: only a boolean mask may broadcast")
        own = _own_names(p, self.params)
        pairs = list(zip(p.axes, sizes, strict=True))
        return {
            "name": p.name,
            "kind": "mask",
            "extents": [f"{own[0]}{s}" if a.broadcasts else s for a, s in pairs],
            "steps": [f"{own[1]}{s}" if a.broadcasts else None for a, s in pairs],
            "over": sizes,
        }

    def literal(self, x: Any, line: int = 0) -> list[Any]:
        import torch

        match x:
            case None:
                return ["none"]
            case bool():
                return ["bool", x]
            case int() if abs(x) < 2**53:
                return ["int", x]
            case float() if math.isfinite(x) or x == -math.inf:
                return ["float", x.hex()]
            case str():
                return ["str", x]
            case torch.dtype() | torch.device() | torch.layout() | torch.memory_format():
                return ["str", str(x).removeprefix("torch.")]
        raise self.refuse(f"{x!r:.60} of type {type(x).__name__} is no literal that is covered", line)


def _own_names(p: Parameter, params: Sequence[Parameter]) -> tuple[str, str]:
    """Prefixes of a mask's own extents and steps: m and s as in mb, sb; a second mask's are longer."""
    masks = [q.name for q in params if any(a.broadcasts for a in q.axes)]
    taken = {a.size for q in params for a in q.axes} | {q.name for q in params}
    clash = any(f"{x}{a.size}" in taken for a in p.axes for x in "ms")
    return ("m", "s") if p.name == masks[0] and not clash else (f"{p.name}_m", f"{p.name}_s")


def _polynomial(e: Any) -> Any:
    """A sympy polynomial with integer coefficients as a JSON tree; None for anything else."""
    if e.is_Integer:
        return ["int", int(e)]
    if e.is_Symbol:
        return ["size", e.name]
    parts = (
        [e.base] * int(e.exp)
        if e.is_Pow and e.exp.is_Integer and 0 < e.exp < 8
        else e.args
        if e.is_Add or e.is_Mul
        else ()
    )
    trees = [_polynomial(a) for a in parts]
    if not trees or None in trees:
        return None
    total = trees[0]
    for t in trees[1:]:
        total = ["add" if e.is_Add else "mul", total, t]
    return total


class _Translate:
    """torch's nodes as the document's: those that the result needs, in order."""

    def __init__(self, of: _Capture, program: Any):
        self.of, self.program = of, program
        self.params = {node: p.name for node, (p, _) in of.placeholders(program).items()}
        self.number: dict[Any, int] = {}
        self.constants: dict[Any, Any] = {}
        self.line = 0

    def nodes(self) -> tuple[list[Any], list[Any]]:
        graph = self.program.graph
        *body, last = graph.nodes
        results = last.args[0]
        if len(results) != 1 or not hasattr(results[0], "op"):
            raise self.of.refuse("it returns something else than one tensor")
        self.find_constants(body)
        needed = self.needed(results[0])
        rows: list[Any] = []
        for node in body:
            self.line = (node.meta.get("custom") or {}).get("line", self.line)
            if self.mutates(node):
                raise self.of.refuse(f"{node.target}: an in-place operator; write the result to a new name", self.line)
            if node not in needed or node.op != "call_function" or self.known(node):
                continue
            row = {"id": len(rows), "op": self.name(node), "args": [self.value(a) for a in node.args],
                   "kwargs": {k: self.value(v) for k, v in node.kwargs.items()}, "line": self.line}  # fmt: skip
            self.number[node] = len(rows)
            rows.append(row)
        return rows, self.value(results[0])

    def find_constants(self, body: Sequence[Any]) -> None:
        """Tensors of rank 0 that the function makes from Python numbers."""
        specs = {s.arg.name: s.target for s in self.program.graph_signature.input_specs if s.kind.name != "USER_INPUT"}
        for node in body:
            if node.op == "placeholder" and node.name in specs:
                self.constants[node] = self.program.constants.get(specs[node.name])
            elif str(node.target) in COPIES and node.args[0] in self.constants:
                self.constants[node] = self.constants[node.args[0]]

    def known(self, node: Any) -> bool:
        """Nodes that are an input or a constant: item() of a number's tensor."""
        return node in self.constants or (str(node.target) == "aten.item.default" and node.args[0].name in self.params)

    def mutates(self, node: Any) -> bool:
        schema = getattr(node.target, "_schema", None)
        return bool(schema is not None and schema.is_mutable and node not in self.constants)

    def needed(self, result: Any) -> set[Any]:
        found: set[Any] = set()
        todo = [result]
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo += node.all_input_nodes
        return found

    def name(self, node: Any) -> str:
        if hasattr(node.target, "_schema"):
            return str(node.target)
        name = node.target.__name__
        return str(SYM_NAMES.get(name, f"operator.{name}"))

    def value(self, x: Any) -> list[Any]:
        if isinstance(x, (list, tuple)):
            return ["list", [self.value(y) for y in x]]
        if isinstance(x, int) and x == sys.maxsize:
            return ["none"]  # the end of an open slice
        if isinstance(x, float) and x in self.of.stand_ins:
            return ["input", self.of.stand_ins[x]]
        if not hasattr(x, "all_input_nodes"):
            return self.of.literal(x, self.line)
        if x in self.constants:
            tensor = self.constants[x]
            if tensor is None or tensor.ndim:
                raise self.of.refuse("a constant tensor; make it a parameter", self.line)
            return self.of.literal(tensor.item(), self.line)
        if x.op == "placeholder":
            return ["input", self.params[x.name]]
        if self.known(x):
            return ["input", self.params[x.args[0].name]]
        return ["node", self.number[x]]


# --- what is watched while the function runs -----------------------------------------------------


def _watch(of: _Capture, numbers: Mapping[str, str] | None = None) -> Any:
    """A torch function mode that logs each call with the function's line, and marks the traced nodes with it.

    A symbolic number as the scale of scaled_dot_product_attention, which must be a float, is replaced by a float that
    stands for it.
    """
    import torch
    from torch.fx import traceback
    from torch.overrides import TorchFunctionMode, resolve_name

    class Watch(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.log: list[tuple[str, int]] = []

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            line, kwargs = of_line(of), dict(kwargs or {})
            self.log.append((resolve_name(func) or str(func), line))
            scale = kwargs.get("scale")
            if (
                numbers
                and func is torch.nn.functional.scaled_dot_product_attention
                and isinstance(scale, torch.SymFloat)
            ):
                name = numbers.get(str(scale.node.expr))
                if name is None:
                    raise of.refuse(
                        "the scale of scaled_dot_product_attention is a parameter as it stands, a literal or None", line
                    )
                kwargs["scale"] = STAND_INS[list(numbers.values()).index(name)]
                of.stand_ins[kwargs["scale"]] = name
            with traceback.annotate({"line": line}):
                return func(*args, **kwargs)

    return Watch()


def of_line(of: _Capture) -> int:
    """The line of the function's file that is running, innermost."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename != of.path:
        frame = frame.f_back
    return frame.f_lineno if frame is not None else 0


def _outside_torch() -> bool:
    """Was this asked by code outside torch: the function, or a helper of it?"""
    frame = inspect.currentframe()
    for _ in range(2):  # this function, and the method that asks
        frame = frame.f_back if frame is not None else None
    asking = frame.f_back if frame is not None else None
    return asking is not None and not asking.f_globals.get("__name__", "").startswith("torch")


@contextmanager
def _symbolic(of: _Capture) -> Iterator[None]:
    """Note every truth value and Python number that the function makes of a size.

    ``math.sqrt`` of a size stays symbolic.
    """
    import torch

    kept = [
        (torch.SymBool, "__bool__"),
        (torch.SymInt, "__bool__"),
        (torch.SymInt, "__int__"),
        (torch.SymInt, "__index__"),
    ]
    old = [(cls, name, getattr(cls, name)) for cls, name in kept if hasattr(cls, name)]

    def noting(cls: Any, name: str, f: Any) -> Any:
        def noted(self: Any) -> Any:
            asked, answer = self.node.expr, f(self)
            if _outside_torch():
                import sympy

                if cls is torch.SymBool:
                    of.decisions.append(("branch", asked if answer else sympy.Not(asked), of_line(of)))
                elif name == "__bool__":
                    of.decisions.append(("branch", asked > 0, of_line(of)))
                else:
                    of.decisions.append(("number", asked, of_line(of)))
            return answer

        return noted

    def root(x: Any) -> Any:
        return torch.sym_sqrt(x) if isinstance(x, (torch.SymInt, torch.SymFloat)) else plain_root(x)

    plain_root = math.sqrt
    shared = [k for k, v in of.fn.__globals__.items() if v is plain_root]
    try:
        for cls, name, f in old:
            setattr(cls, name, noting(cls, name, f))
        math.sqrt = root
        of.fn.__globals__.update(dict.fromkeys(shared, root))
        yield
    finally:
        for cls, name, f in old:
            setattr(cls, name, f)
        math.sqrt = plain_root
        of.fn.__globals__.update(dict.fromkeys(shared, plain_root))


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch logs, warns and prints of a trace is not shown: the refusal says what it says."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
