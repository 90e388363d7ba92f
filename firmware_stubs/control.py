"""The board's control socket: a Unix domain socket that takes requests and answers each.

A request is a frame (`framing`) with `op` and its arguments, a reply `{"ok": true, "result"}` or
`{"ok": false, "code", "message"}`. Requests of one connection are answered in their order. `client` is the other end.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from firmware_stubs.board import Board
from firmware_stubs.errors import BadRequestError, EmulatorError, StateError
from firmware_stubs.framing import LENGTH_BYTES, FramingError, Message, body_length, decode, encode
from firmware_stubs.geography import Place

Result = object
Handler = Callable[[Board, Message], Awaitable[Result]]


class ControlServer:
    """Serves one board on one socket."""

    def __init__(self, board: Board, path: Path) -> None:
        self._board = board
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen. A socket left by a board that is dead is replaced; StateError if the other one lives."""
        if self._path.exists():
            await self._remove_stale()
        previous = os.umask(0o177)  # whoever may talk to the board owns its devices
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        except OSError as error:
            raise StateError(f"cannot listen on {self._path}: {error}") from error
        finally:
            os.umask(previous)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and drop the connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _remove_stale(self) -> None:
        try:
            _, writer = await asyncio.open_unix_connection(self._path)
        except OSError:
            self._path.unlink()
            return
        writer.close()
        raise StateError(f"another board serves {self._path}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readexactly(LENGTH_BYTES)
                try:
                    request = decode(await reader.readexactly(body_length(head)))
                except FramingError as error:
                    writer.write(encode(_failure("BAD_REQUEST", str(error))))
                    await writer.drain()
                    break
                writer.write(encode(await self._answer(request)))
                await writer.drain()
        writer.close()

    async def _answer(self, request: Message) -> Message:
        try:
            handler = _HANDLERS.get(_text(request, "op"))
            if handler is None:
                raise BadRequestError(f"no operation is called {request['op']!r}")
            return {"ok": True, "result": await handler(self._board, request)}
        except EmulatorError as error:
            return _failure(error.code, str(error))


def _failure(code: str, message: str) -> Message:
    return {"ok": False, "code": code, "message": message}


async def _devices(board: Board, request: Message) -> Result:
    del request
    return [
        {"pdi": d.pdi, "kind": d.kind.value, "board": board.name, "slot": d.slot, "can_range": d.can_range}
        for d in board.devices()
    ]


async def _chain(board: Board, request: Message) -> Result:
    return board.chain(_bytes(request, "pdi"))


async def _report(board: Board, request: Message) -> Result:
    return board.report(_bytes(request, "pdi"), _bytes(request, "nonce"))


async def _range(board: Board, request: Message) -> Result:
    result = await board.range(
        _bytes(request, "pdi"),
        challenge=_bytes(request, "challenge"),
        landmark_key_id=_bytes(request, "landmark_key_id"),
        endpoints=_texts(request, "endpoints"),
        ticket=_bytes(request, "ticket"),
        timeout_s=_number(request, "timeout_s"),
    )
    return {"receipt": result.receipt, "answered_mask": result.answered_mask, "why": int(result.why)}


async def _move(board: Board, request: Message) -> Result:
    await board.move(Place(_number(request, "latitude"), _number(request, "longitude")))
    return None


async def _power_cycle(board: Board, request: Message) -> Result:
    del request
    await board.power_cycle()
    return None


async def _faults(board: Board, request: Message) -> Result:
    return list(await board.set_faults(tuple(_texts(request, "orders"))))


_HANDLERS: dict[str, Handler] = {
    "devices": _devices,
    "chain": _chain,
    "report": _report,
    "range": _range,
    "move": _move,
    "power_cycle": _power_cycle,
    "faults": _faults,
}


def _bytes(request: Message, key: str) -> bytes:
    value = request.get(key)
    if not isinstance(value, bytes):
        raise BadRequestError(f"{key} must be bytes")
    return value


def _text(request: Message, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise BadRequestError(f"{key} must be text")
    return value


def _texts(request: Message, key: str) -> list[str]:
    value = request.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRequestError(f"{key} must be a list of texts")
    return value


def _number(request: Message, key: str) -> float:
    value = request.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadRequestError(f"{key} must be a number")
    return float(value)
