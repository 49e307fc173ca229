"""What a followed function has in hand at one point of it, and its expressions, over variables instead of entries."""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final

__all__ = ["PREFIX", "Hand", "Names", "Untold", "constant_name", "read"]

PREFIX: Final = "chronicled_"
FRAME_NAMES: Final = frozenset({"dir", "eval", "exec", "globals", "locals", "super", "vars"})
LITERALS: Final = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Load, ast.UnaryOp, ast.USub)


class Untold(Exception):
    """A function does something that is not followed."""


class Names:
    """Names that nobody else has, and what stands behind those that are global.

    Attributes:
        scope: Values of the global ones.
        computed: Variables that something looks into, or that something has made.
    """

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.computed: set[str] = set()
        self._count = 0

    def variable(self) -> str:
        """Return a new name."""
        self._count += 1
        return f"{PREFIX}{self._count}"

    def constant(self, value: Any) -> str:
        """Return a new name that stands for the value."""
        name = self.variable()
        self.scope[name] = value
        return name

    def assigned(self, value: ast.expr) -> tuple[str, ast.stmt]:
        """Return a new variable, and the statement that gives it that value."""
        name = self.variable()
        self.computed.add(name)
        return name, ast.Assign([ast.Name(name, ast.Store())], value)


class Hand:
    """Which variable holds each entry of the payload, and each local name of the function.

    Args:
        names: Of the whole path.
        function: Whose expressions they are; it has one argument, the payload.
        holds: Variables by entry.
    """

    def __init__(self, names: Names, function: FunctionType, holds: dict[str, str]) -> None:
        self.names = names
        self.payload = function.__code__.co_varnames[0]
        self.known: Mapping[str, Any] = function.__globals__
        self._function = function
        self._own = frozenset((*function.__code__.co_varnames, *function.__code__.co_cellvars))
        self.holds = holds
        self.local: dict[str, str] = {}

    def split(self) -> Hand:
        """Return another one that holds the same, for another way through the function."""
        other = Hand(self.names, self._function, dict(self.holds))
        other.local = dict(self.local)
        return other

    def expression(self, node: ast.expr, *, sole: bool = False) -> ast.expr:
        """Return the expression over variables. One that is nothing but a variable moves it; any other computes.

        Args:
            node: As it stands in the function. It is not changed.
            sole: A variable alone is looked into, too.

        Raises:
            Untold: it cannot be followed.
        """
        rewriter = _Rewriter(self, node)
        written: ast.expr = rewriter.visit(copy.deepcopy(node))
        if sole or not isinstance(written, ast.Name):
            self.names.computed |= rewriter.variables
        return written

    def entry(self, target: ast.expr) -> str:
        """Return which entry of the payload is meant. Raises `Untold`: it is something else."""
        match target:
            case ast.Subscript(ast.Name(name), key) if name == self.payload:
                return constant_name(key)
            case _:
                raise Untold("it is no entry of the payload")

    def method(self, call: ast.Call) -> str | None:
        """Return which method of the payload is called; None: none."""
        match call.func:
            case ast.Attribute(ast.Name(name), method) if name == self.payload:
                return method
            case _:
                return None

    def look(self, entry: str) -> str:
        """Return the variable that holds the entry. Raises `Untold`: there is none."""
        if entry not in self.holds:
            raise Untold(f"{entry!r} is not there")
        return self.holds[entry]

    def take(self, entry: str) -> str:
        """Return the variable that held the entry, which is gone then. Raises `Untold`: there is none."""
        variable = self.look(entry)
        del self.holds[entry]
        return variable

    def find_global(self, name: str) -> Any:
        """Return what stands behind the name. Raises `Untold`: nothing, or it depends on where it is used."""
        if name in self._own:
            raise Untold(f"{name} has no value yet")
        if name in FRAME_NAMES or name.startswith("__"):
            raise Untold(f"{name} depends on where it is called")
        for known in (self.known, vars(builtins)):
            if name in known:
                return known[name]
        raise Untold(f"{name} is not known")


class _Rewriter(ast.NodeTransformer):
    """Goes through one expression in the order in which it is computed."""

    def __init__(self, hand: Hand, node: ast.expr) -> None:
        self._hand = hand
        self._certain = True
        self.variables: set[str] = set()
        stored = (each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
        self._bound = frozenset(stored)
        taken = (hand.payload, *hand.local, *hand.known, *vars(builtins))
        if self._bound.intersection(taken) or any(name.startswith(PREFIX) for name in self._bound):
            raise Untold("a name stands for two things")

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._bound:
            return node
        if node.id == self._hand.payload:
            raise Untold("the payload itself goes elsewhere")
        if node.id in self._hand.local:
            return self._variable(self._hand.local[node.id])
        return read(self._hand.names.constant(self._hand.find_global(node.id)))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == self._hand.payload:
            return self._variable(self._hand.look(self._hand.entry(node)))
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        match node:
            case ast.Compare(left, [ast.In() | ast.NotIn() as operator], [ast.Name(name)]) if (
                name == self._hand.payload
            ):
                return ast.Constant((constant_name(left) in self._hand.holds) is isinstance(operator, ast.In))
            case _:
                return self.generic_visit(node) if len(node.ops) == 1 else self._uncertain(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        method = self._hand.method(node)
        if method is None:
            return self.generic_visit(node)
        if method not in ("get", "pop") or node.keywords or not 1 <= len(node.args) <= 2:
            raise Untold(f"{method} of the payload is not followed")
        name, default = constant_name(node.args[0]), node.args[1:]
        if default and not all(isinstance(each, LITERALS) for each in ast.walk(default[0])):
            raise Untold("a default is computed")
        if name not in self._hand.holds and (default or method == "get"):
            return default[0] if default else ast.Constant(None)
        if method == "get":
            return self._variable(self._hand.look(name))
        if not self._certain:
            raise Untold("whether it takes an entry depends")
        return self._variable(self._hand.take(name))

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._uncertain(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        return self._uncertain(node)

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._uncertain(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._uncertain(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._uncertain(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        return self._uncertain(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.NamedExpr | ast.Lambda | ast.Await | ast.Yield | ast.YieldFrom):
            raise Untold(f"{type(node).__name__} is not followed")
        return super().generic_visit(node)

    def _uncertain(self, node: ast.expr) -> ast.AST:
        before, self._certain = self._certain, False
        written = self.generic_visit(node)
        self._certain = before
        return written

    def _variable(self, name: str) -> ast.expr:
        self.variables.add(name)
        return read(name)


def read(name: str) -> ast.Name:
    """Return the expression that reads a variable."""
    return ast.Name(name, ast.Load())


def constant_name(key: ast.expr) -> str:
    """Return the name that stands there in the text. Raises `Untold`: there is none."""
    match key:
        case ast.Constant(str(name)):
            return name
        case _:
            raise Untold("a name is computed")
