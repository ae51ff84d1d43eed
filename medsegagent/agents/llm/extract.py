"""Find the answer in what a model wrote: bare, fenced, wrapped in prose, after its thoughts, as a tool call in text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

LONGEST = 200_000
"""Characters of an answer; what is beyond them is cut off."""

_MOST_STARTS = 400
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_WRAPPERS = ("arguments", "parameters", "answer", "final_answer", "result", "output", "response")
"""Keys under which tool calls and chatty models put the answer."""


def find_answer(text: str, schema: type[BaseModel]) -> str | None:
    """The last JSON value in the text that fits the schema, as JSON; None if there is none.

    The last one, because models quote the template, or a first thought, before they answer. Where the schema has a
    single field, a bare list may stand for it if nothing better is there.
    """
    found = bare = None
    for value in _values(_THOUGHT.sub(" ", text[:LONGEST])):
        found = next((fit for item in _unwrapped(value) if (fit := _fitting(item, schema))), found)
        if isinstance(value, list) and len(schema.model_fields) == 1 and not issubclass(schema, RootModel):
            bare = _fitting({next(iter(schema.model_fields)): value}, schema) or bare
    return found or bare


def _fitting(value: Any, schema: type[BaseModel]) -> str | None:
    try:
        return schema.model_validate(value).model_dump_json()
    except ValidationError:
        return None


def _values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MOST_STARTS):
        start = min((at for at in (text.find("{", position), text.find("[", position)) if at >= 0), default=-1)
        if start < 0:
            return
        try:
            value, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        yield value


def _unwrapped(value: Any, depth: int = 3) -> Iterator[Any]:
    yield value
    if not isinstance(value, dict) or not depth:
        return
    for key in _WRAPPERS:
        inner = value.get(key)
        if isinstance(inner, str):
            try:
                inner = json.loads(inner)
            except (ValueError, RecursionError):
                continue
        if isinstance(inner, dict | list):
            yield from _unwrapped(inner, depth - 1)
