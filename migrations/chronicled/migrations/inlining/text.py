"""The text of a function, where it is certain that the function was made of it."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Final

__all__ = ["function_text"]

OTHER_FLAGS: Final = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


def function_text(function: FunctionType) -> ast.FunctionDef | None:
    """Return the definition of a function of one argument; None where it is another one, or its text cannot be had.

    A file may have changed since it was imported: so the text is compiled anew, and must give the very same code. That
    file is what the interpreter itself has read the function from, and all that migrations read: when units are loaded,
    and once more where the first event of such a version is met; not with each event.
    """
    code = function.__code__
    if code.co_freevars or code.co_argcount != 1 or code.co_kwonlyargcount or code.co_flags & OTHER_FLAGS:
        return None
    if function.__defaults__:
        return None
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    try:
        module = ast.parse(text)
        again = compile(text, code.co_filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    if code not in _codes(again):
        return None
    for each in ast.walk(module):
        if isinstance(each, ast.FunctionDef) and (each.name, each.lineno) == (code.co_name, code.co_firstlineno):
            return each
    return None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield all codes in that one. They equal others only where lines, names and constants do, with their types."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)
