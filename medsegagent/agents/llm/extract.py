"""Find the answer in what a model wrote: bare, fenced, wrapped in prose, after its thoughts, as a tool call in text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

_LONGEST = 200_000
_MOST_STARTS = 400
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_WRAPPERS = ("arguments", "parameters", "answer", "final_answer", "result", "output", "response")
"""Keys under which tool calls and chatty models put the answer."""


def find_answer(text: str, schema: type[BaseModel]) -> str | None:
    """The last JSON value in the text that fits the schema, as JSON; None if there is none.

    The last one, because models quote the template, or a first thought, before they answer.
    """
    found = None
    for value in _values(_THOUGHT.sub(" ", text[:_LONGEST])):
        for candidate in _unwrapped(value, schema):
            try:
                found = schema.model_validate(candidate).model_dump_json()
            except ValidationError:
                continue
            break
    return found


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


def _unwrapped(value: Any, schema: type[BaseModel], depth: int = 3) -> Iterator[Any]:
    yield value
    if isinstance(value, list) and len(schema.model_fields) == 1 and not issubclass(schema, RootModel):
        yield {next(iter(schema.model_fields)): value}
    if isinstance(value, dict) and depth:
        for key in _WRAPPERS:
            inner = value.get(key)
            if isinstance(inner, str):
                try:
                    inner = json.loads(inner)
                except (ValueError, RecursionError):
                    continue
            if isinstance(inner, dict | list):
                yield from _unwrapped(inner, schema, depth - 1)
