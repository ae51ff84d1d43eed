"""JSON that is nearly right: honest documents with nodes replaced, renamed, repeated or nested, then spoilt as text."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from harness import spoil

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 65535, 65536, 2**31, 2**53, 10**17, 10**400, -(10**30)),
    *(0.0, -0.0, 0.5, 1.5, 1e-300, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", " ", "0", "1", "-1", "9" * 5000, "1e400", "nan", "\0", "\ud800", "\u202e", "\x1b[2J", "..", "../..", "/"),
    *(
        "a" * 300,
        "liver",
        "left left kidney",
        "kidney " * 200,
        "os.system",
        "a/b",
        "ä",
        "𒀀",
        "٣",
        "²",
        "CT",
        "background",
    ),
    *([], [[]], {}, {"": {}}, [0, 1, 2], [2, 1, 0], [0, 0, 0], [1.0, 1.0], [10**9, 0, 1], list(range(3000)), ["CT"]),
    *({"0": "CT"}, {"1": "CT"}, {"9" * 5000: 1}, {str(i): i for i in range(2000)}, {"background": 0, "liver": 1}),
)
_LONGEST_REPEATED = 200
"""Characters: what is repeated thousands of times must stay a file, and not become the bomb itself."""
_TOKENS = (
    b"NaN",
    b"Infinity",
    b"1e400",
    b"9" * 400,
    b'"\\ud800"',
    b"[" * 3000,
    b'{"a":' * 3000,
    b"\0",
    b"\xef\xbb\xbf",
)


def spoilt_json(random: Random, honest: Any, *, clean: float = 0.6) -> bytes:
    """An honest document, spoilt; a share `clean` of them stays well-formed JSON."""
    content = json.loads(json.dumps(honest))
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        content = _changed(random, content)
    data = json.dumps(content).encode()
    if random.random() < clean:
        return data
    if random.random() < 0.3:
        place = random.randrange(len(data) + 1)
        return data[:place] + random.choice(_TOKENS) + data[place:]
    if random.random() < 0.1:
        return json.dumps(content).encode(random.choice(("utf-16", "utf-32", "utf-8-sig")), "surrogatepass")
    return spoil(data, random)


def _changed(random: Random, node: Any) -> Any:
    """The document with one node changed, somewhere."""
    deeper = isinstance(node, dict | list) and node and random.random() < 0.85
    if not deeper:
        return _replaced(random, node)
    if isinstance(node, list):
        place = random.randrange(len(node))
        return [_changed(random, item) if index == place else item for index, item in enumerate(node)]
    key = random.choice(list(node))
    match random.randrange(10):
        case 0:
            return {name: value for name, value in node.items() if name != key}
        case 1:
            return {(str(random.choice(NASTY)) if name == key else name): value for name, value in node.items()}
        case 2:
            return node | {str(random.choice(NASTY)): random.choice(NASTY)}
        case _:
            return node | {key: _changed(random, node[key])}


def _replaced(random: Random, node: Any) -> Any:
    match random.randrange(8):
        case 0:
            return [node] * (random.choice((0, 1, 2, 4, 3000)) if len(json.dumps(node)) < _LONGEST_REPEATED else 2)
        case 1:
            return {"a": node}
        case 2 if isinstance(node, int | float):
            return node * random.choice((-1, 0, 0.5, 2, 10, 10**6))
        case 3 if isinstance(node, str):
            return spoil(node.encode("utf-8", "replace"), random, 2).decode("utf-8", "replace")
        case 4:
            return str(node)
        case _:
            return random.choice(NASTY)
