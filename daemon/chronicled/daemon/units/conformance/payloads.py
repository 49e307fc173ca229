"""Random payloads of a struct, as the JSON values that its decoder takes: for properties of upcasters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

__all__ = ["payloads"]

ITEMS_MAX = 4
TEXT_MAX = 12


def payloads(payload: type[msgspec.Struct], *, required: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of payloads that fit: every field filled in, as stored payloads have them.

    Args:
        payload: The struct.
        required: Fill in only those fields that have no default.

    Raises:
        NotImplementedError: the struct has a type that JSON payloads should not have.
    """
    info: Any = inspect.type_info(payload)
    if required:
        return st.fixed_dictionaries({each.encode_name: _of(each.type) for each in info.fields if each.required})
    strategy: st.SearchStrategy[dict[str, Any]] = _of(info)
    return strategy


def _of(info: Any) -> st.SearchStrategy[Any]:
    kind: Any = info.__class__
    if kind is inspect.Metadata:
        return _of(info.type)
    make = _MAKERS.get(kind)
    if make is None:
        raise NotImplementedError(f"no random values of {kind.__name__} are made here")
    return make(info)


def _integers(info: inspect.IntType) -> st.SearchStrategy[int]:
    low = info.ge if info.ge is not None else None if info.gt is None else info.gt + 1
    high = info.le if info.le is not None else None if info.lt is None else info.lt - 1
    step = info.multiple_of or 1
    low, high = (-(2**53) if low is None else low), (2**53 if high is None else high)
    return st.integers(-(-low // step), high // step).map(lambda each: each * step)


def _floats(info: inspect.FloatType) -> st.SearchStrategy[float]:
    low, high = (info.ge if info.ge is not None else info.gt), (info.le if info.le is not None else info.lt)
    return st.floats(
        min_value=low,
        max_value=high,
        exclude_min=low is not None and info.ge is None,
        exclude_max=high is not None and info.le is None,
        allow_nan=False,
        allow_infinity=False,
    )


def _text(info: inspect.StrType) -> st.SearchStrategy[str]:
    least, most = info.min_length or 0, info.max_length
    if info.pattern is not None:
        found = st.from_regex(info.pattern)
        return found.filter(lambda each: len(each) >= least and (most is None or len(each) <= most))
    letters = st.characters(codec="utf-8")
    return st.text(letters, min_size=least, max_size=max(least, TEXT_MAX) if most is None else min(most, TEXT_MAX))


def _list(info: Any) -> st.SearchStrategy[list[Any]]:
    least, most = info.min_length or 0, info.max_length
    most = max(least, ITEMS_MAX) if most is None else min(most, max(least, ITEMS_MAX))
    return st.lists(_of(info.item_type), min_size=least, max_size=most)


def _dict(info: inspect.DictType) -> st.SearchStrategy[dict[Any, Any]]:
    return st.dictionaries(_of(info.key_type), _of(info.value_type), max_size=ITEMS_MAX)


def _struct(info: inspect.StructType) -> st.SearchStrategy[Any]:
    if info.array_like:
        return st.tuples(*(_of(field.type) for field in info.fields)).map(list)
    filled = {field.encode_name: _of(field.type) for field in info.fields}
    if info.tag is not None and info.tag_field is not None:
        filled[info.tag_field] = st.just(info.tag)
    return st.fixed_dictionaries(filled)


def _enum(info: inspect.EnumType) -> st.SearchStrategy[Any]:
    return st.sampled_from([member.value for member in info.cls])


def _json() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=TEXT_MAX)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=ITEMS_MAX) | st.dictionaries(st.text(max_size=TEXT_MAX), inner, max_size=ITEMS_MAX)
        ),
        max_leaves=8,
    )


_MAKERS: dict[type[Any], Callable[[Any], st.SearchStrategy[Any]]] = {
    inspect.AnyType: lambda _: _json(),
    inspect.RawType: lambda _: _json(),
    inspect.NoneType: lambda _: st.none(),
    inspect.BoolType: lambda _: st.booleans(),
    inspect.IntType: _integers,
    inspect.FloatType: _floats,
    inspect.StrType: _text,
    inspect.EnumType: _enum,
    inspect.LiteralType: lambda info: st.sampled_from(list(info.values)),
    inspect.UnionType: lambda info: st.one_of(*(_of(each) for each in info.types)),
    inspect.ListType: _list,
    inspect.VarTupleType: _list,
    inspect.SetType: _list,
    inspect.FrozenSetType: _list,
    inspect.TupleType: lambda info: st.tuples(*(_of(each) for each in info.item_types)).map(list),
    inspect.DictType: _dict,
    inspect.StructType: _struct,
}
