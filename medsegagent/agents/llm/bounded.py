"""An endpoint's answer, cut off where it grows beyond what any answer needs, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from typing import cast

import httpx

from medsegagent.errors import EndpointError

ANSWER_LIMIT = 16 * 2**20
"""Bytes after decompression; a long answer, streamed word by word with all that surrounds each, has a tenth."""

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_IDENTITY, _COMPRESSED = {"", "identity"}, {"gzip", "x-gzip", "deflate"}

ASK_PLAIN = {"Accept-Encoding": "identity"}
"""Headers that ask for an answer as it is; some servers compress in spite of it."""


async def bound(response: httpx.Response) -> None:
    """Hook for httpx: put a limit on the answer before its body is read.

    Raises:
        EndpointError: While it is read, if it is longer than `ANSWER_LIMIT`; at once, if it is compressed in another
            way than gzip or deflate, or says to be longer.
    """
    where = response.request.url.host
    encoding = response.headers.pop("Content-Encoding", "").strip().casefold()
    if encoding not in _IDENTITY | _COMPRESSED:
        what = f"the endpoint compresses its answer in a way that nobody asked for ({encoding[:20]!r})"
        raise EndpointError(what, "Have it answer uncompressed, as it is asked to.", where)
    stream = cast(httpx.AsyncByteStream, response.stream)
    response.stream = _Bounded(stream, encoding in _COMPRESSED, where)


class _Bounded(httpx.AsyncByteStream):
    """A body, decompressed, that ends in an error beyond the limit."""

    def __init__(self, inner: httpx.AsyncByteStream, compressed: bool, where: str) -> None:
        self._inner, self._compressed, self._where = inner, compressed, where

    async def __aiter__(self) -> AsyncIterator[bytes]:
        expand = _inflater() if self._compressed else lambda chunk, _: chunk
        left = ANSWER_LIMIT
        async for chunk in self._inner:
            try:
                plain = expand(chunk, left + 1)
            except zlib.error as error:
                what = f"the endpoint's answer is not compressed as it says ({error})"
                raise EndpointError(what, "Try again later.", self._where) from error
            left -= len(plain)
            if left < 0:
                what = f"the endpoint's answer has more than {ANSWER_LIMIT >> 20} MiB; it was cut off"
                raise EndpointError(what, "Is base_url a chat endpoint? No answer is that long.", self._where)
            yield plain

    async def aclose(self) -> None:
        await self._inner.aclose()


def _inflater() -> Callable[[bytes, int], bytes]:
    """Decompress chunk by chunk, giving no more than asked for: what is beyond is never made."""
    machine = zlib.decompressobj(_GZIP_OR_ZLIB)
    return lambda chunk, most: machine.decompress(machine.unconsumed_tail + chunk, most)
