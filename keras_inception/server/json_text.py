"""JSON text to Python values, as RapidJSON reads it for TF Serving.

ParseJson in tensorflow_serving/util/json_tensor.cc: NaN, Inf and Infinity are numbers,
with a minus or without; text after the first value is ignored; lists may be nested to
any depth; numbers beyond float64 are errors. Bodies must be UTF-8.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from keras_inception.server.limits import ServingError

_DEEPEST = 100  # more than an array can have dimensions
_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_CONSTANT = re.compile(rf"{_STRING}|-?(?:Inf(?:inity)?|NaN)", re.DOTALL)
_BRACKETS = re.compile(rf"{_STRING}|[\[{{]+|[\]}}]+", re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(?P<lone>u[dD][89a-fA-F])|.)", re.DOTALL
)
_SPACE = re.compile(r"[ \t\n\r]*")


class Constant(float):
    """NaN or an infinity that was written as one.

    A plain float is infinite if its digits exceed float64.
    """


class Repeated(dict):
    """An object that repeats a key: the first value counts, as FindMember finds it."""

    last: dict[str, Any]  # with the last values, which count in an example


def parse(body: bytes, most_lists: int = 2**22) -> Any:
    """The first JSON value in a body.

    A list or an object takes up to 20 times the memory of its text, so a body that has
    more than `most_lists` lists, or a quarter as many objects, is refused (413).
    """
    for bracket, most in ((b"[", most_lists), (b"{", most_lists // 4)):
        if body.count(bracket) > most:
            raise ServingError(
                f"The body has more than {most:,} times {bracket.decode()}", 413
            )
    try:
        text = body.decode("utf-8-sig")
        if not text:
            raise ValueError("The document is empty")
        if _SURROGATE.search(text) and any(m["lone"] for m in _ESCAPE.finditer(text)):
            raise ValueError("Half of a surrogate pair in a string")
        try:
            return _decode(text)
        except RecursionError:
            return _decode(_without_depths(text))
    except (ValueError, RecursionError) as error:
        raise ServingError(f"JSON Parse error: {error}") from None


def count_values(body: bytes) -> int:
    """The number of values in a body, roughly: what parsing it costs."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _decode(text: str) -> Any:
    start = _SPACE.match(text).end()  # type: ignore[union-attr]  # matches anything
    try:
        return _decoder.raw_decode(text, start)[0]
    except json.JSONDecodeError:
        named = _CONSTANT.sub(_full_name, text)
        if named == text:
            raise
        return _decoder.raw_decode(named, start)[0]


def _full_name(match: re.Match[str]) -> str:
    """The name of a constant that Python's parser knows; strings stay as they are."""
    token = match[0]
    if token.startswith('"'):
        return token
    return "NaN" if token.endswith("NaN") else token[: token.index("f") + 1] + "inity"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) == len(pairs):
        return content
    repeated = Repeated(reversed(pairs))
    repeated.last = content
    return repeated


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=Constant)


def _without_depths(text: str) -> str:
    """JSON with 0 for its deepest lists and objects, for a parser that recurses.

    RapidJSON uses a stack of its own. No request can use such a list, but one may lie
    under a key that is ignored.
    """

    def parts() -> Iterable[str]:
        depth = end = 0
        for match in _BRACKETS.finditer(text):
            if depth <= _DEEPEST:
                yield text[end : match.start()]
            end, token = match.end(), match[0]
            if token[0] in "[{":
                if depth <= _DEEPEST:
                    yield token[: _DEEPEST - depth]
                    yield "0" if depth + len(token) > _DEEPEST else ""
                depth += len(token)
            elif token[0] in "]}":
                yield token[max(0, depth - _DEEPEST) :]
                depth -= len(token)
            elif depth <= _DEEPEST:
                yield token
            if depth <= 0:
                return

    return "".join(parts())
