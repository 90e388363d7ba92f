"""The board's end of the socket to its ranging responder: starts the process, gives orders, passes results on.

Ends the process by closing the socket. What the responder does is in `responder`.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Self, TypeVar

from firmware_stubs.errors import ResponderError
from firmware_stubs.framing import FrameReader, FramingError, Message, encode
from firmware_stubs.geography import Place, World
from firmware_stubs.session import Order, Result, Why

_READ_BYTES = 1 << 16
_END_TIMEOUT_S = 5
_IMPORT_ROOT = str(Path(__file__).resolve().parent.parent)

EntrySink = Callable[[bytes, bytes], None]


class ResponderLink:
    """A running responder. `on_entry(pdi, entry)` is called for each closed session before its result is known."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_entry: EntrySink,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._on_entry = on_entry
        self._results: dict[int, asyncio.Future[Result]] = {}
        self._done: list[asyncio.Future[None]] = []
        self._next_number = 0
        self.ended = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, world: World, place: Place, on_entry: EntrySink) -> Self:
        """Start the process and tell it the world and its place in it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            command = [sys.executable, "-m", "firmware_stubs.responder", "--control", str(theirs.fileno())]
            path = os.pathsep.join(filter(None, (_IMPORT_ROOT, os.environ.get("PYTHONPATH"))))
            process = subprocess.Popen(  # noqa: ASYNC220, S603 -- a few ms at start; our own module
                command,
                process_group=0,  # out of reach of Ctrl-C: it ends when the board does
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        link = cls(process, reader, writer, on_entry)
        landmarks = {key_id: (at.latitude, at.longitude) for key_id, at in world.landmarks.items()}
        await link._order({"op": "world", "landmarks": landmarks, "path_factor": world.path_factor})
        await link.move(place)
        return link

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def move(self, place: Place) -> None:
        """Put the board elsewhere; holds for every datagram that comes after this returns."""
        await self._order({"op": "place", "latitude": place.latitude, "longitude": place.longitude})

    async def relay(self, pdi: bytes, place: Place | None) -> None:
        """Put one device elsewhere than its board; None brings it back."""
        at = None if place is None else [place.latitude, place.longitude]
        await self._order({"op": "relay", "pdi": pdi, "place": at})

    async def reset(self) -> None:
        """Take the power from all devices: open sessions and logs are gone."""
        await self._order({"op": "reset"})

    async def range(self, pdi: bytes, order: Order) -> Result:
        """Hold one session."""
        number = self._next_number
        self._next_number += 1
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._results[number] = future
        try:
            await self._order(
                {
                    "op": "range",
                    "number": number,
                    "pdi": pdi,
                    "challenge": order.challenge,
                    "landmark_key_id": order.landmark_key_id,
                    "addresses": [list(address) for address in order.addresses],
                    "ticket": order.ticket,
                    "timeout_ns": order.timeout_ns,
                    "tricks": asdict(order.tricks),
                },
            )
            return await future
        finally:
            self._results.pop(number, None)

    async def close(self) -> None:
        """End the process and wait for it."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await self._task
        try:
            await asyncio.to_thread(self._process.wait, _END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def _order(self, message: Message) -> None:
        """Send an order and wait until it is carried out. Orders are answered in their order."""
        if self.ended.is_set():
            raise ResponderError("the ranging responder has ended")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.append(future)
        self._writer.write(encode(message))
        await future

    async def _read(self) -> None:
        frames = FrameReader()
        try:
            while data := await self._reader.read(_READ_BYTES):
                for message in frames.feed(data):
                    self._take(message)
        except (OSError, FramingError):
            pass  # the same as its end
        finally:
            self.ended.set()
            _fail(self._done)
            _fail(self._results.values())
            self._done.clear()

    def _take(self, message: Message) -> None:
        match message["event"]:
            case "done":
                future = self._done.pop(0)
                if not future.done():
                    future.set_result(None)
            case "closed":
                self._on_entry(message["pdi"], message["entry"])
            case "result":
                waiting = self._results.get(message["number"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(Result(message["receipt"], message["mask"], Why(message["why"])))


_T = TypeVar("_T")


def _fail(futures: Iterable[asyncio.Future[_T]]) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(ResponderError("the ranging responder has ended"))
