"""Checks the contents of JSON files, which people edit, against Python types."""

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple


class Range(NamedTuple):
    """Bounds of a number, both included: `Annotated[float, Range(0, 1)]`."""

    least: float
    most: float


Count = Annotated[int, Range(0, 2**31)]
Seconds = Annotated[float, Range(0, 10**12)]

_NAMES = {int: "a whole number", float: "a number", str: "text"}
_NAMES |= {bool: "true or false", type(None): "null"}


def check(value: Any, form: Any, subject: str) -> None:
    """Raises a `ValueError` that begins with `subject` if a value has another form.

    Args:
        value: The content of a JSON file.
        form: Its type: `int`, `float` (NaN too), `str`, `bool`, `None`, `Any`, a
            union, `Literal`, `Sequence`, `list`, `tuple`, `Mapping` or `dict` of these;
            a `TypedDict` or dataclass; or a dict of field names and types, all
            optional. Unknown fields are allowed.
        subject: The file, and what it fails to be.

    >>> check({"rate": [1, True]}, {"rate": list[float]}, "best.json is damaged")
    Traceback (most recent call last):
    ValueError: best.json is damaged: rate[1] is true; expected a number.
    """
    fault = _fault(value, form, "")
    if fault:
        raise ValueError(f"{subject}: {fault}.")


def _fault(value: Any, form: Any, field: str) -> str | None:
    """The first difference between a value and its form."""
    origin, inner = typing.get_origin(form), typing.get_args(form)
    if origin in (typing.Required, typing.NotRequired):
        return _fault(value, inner[0], field)
    if origin in (typing.Union, types.UnionType):
        if any(_fault(value, one, field) is None for one in inner):
            return None
        # For a list or an object, report its wrong entry instead.
        alike = [one for one in inner if _container(one) is type(value)]
        if alike:
            return _fault(value, alike[0], field)
    elif container := _container(form):
        if isinstance(value, container):
            return next(_faults_within(value, form, field), None)
    elif _is_scalar(value, form):
        return None
    return f"{field or 'it'} is {_shown(value)}; expected {_describe(form)}"


def _container(form: Any) -> type | None:
    """`list` or `dict` for the forms that JSON writes as such."""
    origin = typing.get_origin(form)
    if origin in (list, tuple, Sequence):
        return list
    named = typing.is_typeddict(form) or dataclasses.is_dataclass(form)
    return (
        dict if named or isinstance(form, dict) or origin in (dict, Mapping) else None
    )


def _faults_within(value: Any, form: Any, field: str) -> Iterator[str]:
    inner = typing.get_args(form)
    if isinstance(value, list):
        fixed = typing.get_origin(form) is tuple and inner[-1] is not ...
        if fixed and len(value) != len(inner):
            yield f"{field or 'it'} has {len(value)} entries; expected {len(inner)}"
        entries = [
            (f"{field}[{index}]", one, inner[index if fixed else 0])
            for index, one in enumerate(value)
        ]
    elif inner:
        entries = [(_join(field, key), one, inner[1]) for key, one in value.items()]
    else:
        forms, required = _fields(form)
        for name in sorted(required - value.keys()):
            yield f"{_join(field, name)} is missing"
        entries = [
            (_join(field, key), one, forms[key])
            for key, one in value.items()
            if key in forms
        ]
    yield from filter(None, (_fault(one, f, name) for name, one, f in entries))


def _fields(form: Any) -> tuple[Mapping[str, Any], set[str]]:
    """The fields of an object with their types, and the names of those it must have."""
    if isinstance(form, dict):
        return form, set()
    hints = typing.get_type_hints(form, include_extras=True)
    if typing.is_typeddict(form):
        return hints, set(form.__required_keys__)
    missing = dataclasses.MISSING
    fields = dataclasses.fields(form)
    required = (f for f in fields if f.default is f.default_factory is missing)
    return hints, {f.name for f in required}


def _is_scalar(value: Any, form: Any) -> bool:
    origin, inner = typing.get_origin(form), typing.get_args(form)
    if form is Any:
        return True
    if origin is Literal:
        return value in inner
    if origin is Annotated:
        base, bounds = inner
        return _is_scalar(value, base) and bounds.least <= value <= bounds.most
    if form in (None, type(None)):
        return value is None
    if form is float:
        whole = type(value) is int and abs(value) < 2**1023  # else float() overflows
        return whole or type(value) is float
    return type(value) is form


def _describe(form: Any) -> str:
    """A form for people: `a number from 0 to 1`, `text or a list`."""
    origin, inner = typing.get_origin(form), typing.get_args(form)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_describe, inner)))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is Annotated:
        base, bounds = inner
        return f"{_describe(base)} from {bounds.least:,} to {bounds.most:,}"
    if container := _container(form):
        return "a list" if container is list else "an object"
    return _NAMES.get(form or type(None), str(form))


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
