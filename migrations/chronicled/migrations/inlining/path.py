"""A path of steps, followed statement by statement."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, Final

from chronicled.migrations.fields import Fields
from chronicled.migrations.inlining.expression import Hand, Names, Untold, constant_name, read
from chronicled.migrations.inlining.text import function_text

__all__ = ["Path", "Untold"]

STATEMENTS_MAX: Final = 400
"""Statements that are looked at for a path: each `if` has what comes behind it twice."""


class Path:
    """What the steps do with a payload that has every one of these entries.

    Args:
        entries: Names in the JSON.

    Attributes:
        sources: The variable that stands for each entry at first.
        holds: The variable that holds each entry at the end.
        body: Statements that make these of those.
        names: What the statements call things.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self.names = Names()
        self.sources = {entry: self.names.variable() for entry in entries}
        self.holds = dict(self.sources)
        self.body: list[ast.stmt] = []
        self._statements = 0

    def follow(self, step: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Go on with that step.

        Raises:
            Untold: it cannot be followed.
        """
        if isinstance(step, Fields):
            self._fields(step)
            return
        if not isinstance(step, FunctionType) or (text := function_text(step)) is None:
            raise Untold("there is no text of it")
        self.holds, body = self._block(Hand(self.names, step, self.holds), text.body)
        self.body += body

    def _fields(self, step: Fields) -> None:
        for name, change in step.changed.items():
            if name in self.holds:
                called = ast.Call(read(self.names.constant(change)), [read(self.holds[name])], [])
                self.names.computed.add(self.holds[name])
                self.holds[name], statement = self.names.assigned(called)
                self.body.append(statement)
        for name in step.removed:
            self.holds.pop(name, None)
        moved = [(new, self.holds.pop(old)) for old, new in step.renamed.items() if old in self.holds]
        self.holds.update(moved)
        for name, value in step.added.items():
            self.holds[name], statement = self.names.assigned(read(self.names.constant(value)))
            self.body.append(statement)

    def _block(self, hand: Hand, statements: Sequence[ast.stmt]) -> tuple[dict[str, str], list[ast.stmt]]:
        """Return what the entries hold that the function returns, and the statements up to there."""
        body: list[ast.stmt] = []
        for number, statement in enumerate(statements):
            self._statements += 1
            if self._statements > STATEMENTS_MAX:
                raise Untold("it is too long")
            if isinstance(statement, ast.Return):
                return _returned(hand, statement.value, body), body
            if isinstance(statement, ast.If):
                holds, rest = self._if(hand, statement, statements[number + 1 :])
                return holds, [*body, *rest]
            body += _simple(hand, statement)
        raise Untold("it ends without a payload")

    def _if(self, hand: Hand, statement: ast.If, rest: Sequence[ast.stmt]) -> tuple[dict[str, str], list[ast.stmt]]:
        test = hand.expression(statement.test, sole=True)
        ways = ([*statement.body, *rest], [*statement.orelse, *rest])
        if isinstance(test, ast.Constant):
            return self._block(hand, ways[0] if test.value else ways[1])
        other = hand.split()
        holds, then = self._block(hand, ways[0])
        others, otherwise = self._block(other, ways[1])
        if holds.keys() != others.keys():
            raise Untold("what it returns has not always the same entries")
        for entry, variable in holds.items():
            if variable != others[entry]:
                self.names.computed |= {variable, others[entry]}
                holds[entry], joined = self.names.assigned(read(variable))
                then.append(joined)
                otherwise.append(ast.Assign([ast.Name(holds[entry], ast.Store())], read(others[entry])))
        return holds, [ast.If(test, then or [ast.Pass()], otherwise)]


def _simple(hand: Hand, statement: ast.stmt) -> list[ast.stmt]:
    match statement:
        case ast.Pass() | ast.Expr(ast.Constant()):
            return []
        case ast.Expr(ast.Call() as call) if hand.method(call) == "pop":
            hand.expression(call)
            return []
        case ast.Assign([target], value) | ast.AnnAssign(ast.Name() as target, _, ast.expr() as value):
            return _put(hand, target, hand.expression(value))
        case ast.AugAssign(target, operator, value):
            # As itself, and not as a sum: a list that is added to stays the same list.
            name, copied = hand.names.assigned(hand.expression(_reading(target), sole=True))
            added = ast.AugAssign(ast.Name(name, ast.Store()), operator, hand.expression(value, sole=True))
            return [copied, added, *_put(hand, target, read(name))]
        case ast.Delete(targets):
            for target in targets:
                hand.take(hand.entry(target))
            return []
        case _:
            raise Untold(f"{type(statement).__name__} is not followed")


def _put(hand: Hand, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
    variable, statements = _kept(hand, value)
    match target:
        case ast.Name(name) if name != hand.payload:
            hand.local[name] = variable
        case _:
            hand.holds[hand.entry(target)] = variable
    return statements


def _kept(hand: Hand, value: ast.expr) -> tuple[str, list[ast.stmt]]:
    """Return the variable that holds the value, and what gives it to it."""
    if isinstance(value, ast.Name) and value.id not in hand.names.scope:
        return value.id, []
    variable, statement = hand.names.assigned(value)
    return variable, [statement]


def _returned(hand: Hand, value: ast.expr | None, body: list[ast.stmt]) -> dict[str, str]:
    """Return what the entries hold that are returned; what they are made by is added to the body."""
    if isinstance(value, ast.Name) and value.id == hand.payload:
        return hand.holds
    if not isinstance(value, ast.Dict):
        raise Untold("it returns something else")
    holds: dict[str, str] = {}
    for key, entry in zip(value.keys, value.values, strict=True):
        if key is not None:
            holds[constant_name(key)], statements = _kept(hand, hand.expression(entry))
            body += statements
        elif isinstance(entry, ast.Name) and entry.id == hand.payload:
            holds |= hand.holds
        else:
            raise Untold("it takes entries from elsewhere")
    return holds


def _reading(target: ast.expr) -> ast.expr:
    """Return the same place, to be read."""
    match target:
        case ast.Name(name):
            return read(name)
        case ast.Subscript(value, key):
            return ast.Subscript(value, key, ast.Load())
        case _:
            raise Untold("it changes something else")
