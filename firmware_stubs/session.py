"""One ranging session from the side of device and host: which datagram follows which, and when it may leave.

Spec: docs/protocol.md §7, D3, D4, and §3 for `why`. Pure: datagrams, their arrival and the time come in as arguments,
datagrams with the time before which they must not leave come out. The device's part is in `ranging`; what the host does
between device and network is here, its tricks (`tricks`) included.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from firmware_stubs import datagrams, ranging
from firmware_stubs.ranging import Closed, RangingFirmware
from firmware_stubs.tricks import NO_TRICKS, Tricks

MS = 1_000_000
RETRY_NS = 500 * MS
HELLO_TRIES = 4  # for each endpoint
REVEAL_TRIES = 6
SILENCE_NS = 5_000 * MS  # D4
ROUNDS_NEEDED = 8  # R5
_TOO_FEW_ROUNDS_CODE = 5  # D6

Address = tuple[str, int]


class Why(IntEnum):
    """docs/protocol.md §3; 0 where there is a receipt."""

    NONE = 0
    NO_REPLY = 1
    REFUSED = 2
    TOO_FEW_ROUNDS = 3
    NO_RECEIPT = 4
    CANNOT_RANGE = 5
    TOO_LATE = 6


@dataclass(frozen=True, slots=True)
class Order:
    """What the host was asked for. Addresses are numeric, best first."""

    challenge: bytes
    landmark_key_id: bytes
    addresses: tuple[Address, ...]
    ticket: bytes
    timeout_ns: int
    tricks: Tricks = NO_TRICKS


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A datagram that must not leave before `due_ns`; `elsewhere`: from another address than the session's."""

    due_ns: int
    address: Address
    data: bytes
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How a session ended. Bit i of the mask: round i was answered."""

    receipt: bytes | None
    answered_mask: int
    why: Why


class _Phase(Enum):
    HELLO = auto()
    COMMIT = auto()
    ROUNDS = auto()
    REVEAL = auto()
    DONE = auto()


class RangingSession:
    """State of one session. The caller takes `outbox`, `closed` and `result` after each call."""

    def __init__(self, order: Order, firmware: RangingFirmware, delay_ns: Callable[[], int], now_ns: int) -> None:
        self.outbox: list[Outgoing] = []
        self.closed: Closed | None = None
        self.result: Result | None = None
        self._order = order
        self._firmware = firmware
        # An accomplice stands beside the landmark: nothing that it sends is under way for long.
        self._delay_ns: Callable[[], int] = (lambda: 0) if order.tricks.early_reveal else delay_ns
        self._phase = _Phase.HELLO
        self._hello_id = secrets.token_bytes(datagrams.HELLO_ID_BYTES)
        self._endpoint = 0
        self._address = order.addresses[0]
        self._nonce: datagrams.Nonce | None = None
        self._session = b""
        self._mask = 0
        self._held: datagrams.Round | None = None
        self._last_sent = b""
        self._tries = 0
        self._retry_at_ns = 0
        self._heard_ns = now_ns
        self._deadline_ns = now_ns + order.timeout_ns
        self._send(datagrams.hello(self._hello_id, order.landmark_key_id), now_ns)

    def receive(self, source: Address, data: bytes, arrived_ns: int) -> None:
        """Take one datagram that came at `arrived_ns`; anything unexpected is dropped silently."""
        if self._phase is _Phase.DONE:
            return
        message = datagrams.parse(data)
        if isinstance(message, datagrams.Nonce):
            if self._phase is _Phase.HELLO and message.hello_id == self._hello_id and source in self._order.addresses:
                self._commit(source, message, arrived_ns)
            return
        if message is None or self._nonce is None or message.tag != self._nonce.tag or source != self._address:
            return
        self._heard_ns = arrived_ns
        if isinstance(message, datagrams.Round):
            for delivered in self._reordered(message):
                self._round(delivered, arrived_ns)
        elif isinstance(message, datagrams.Stop):
            self._reveal(arrived_ns)
        elif isinstance(message, datagrams.Receipt):
            if self._phase is _Phase.REVEAL:
                self._finish(message.receipt, Why.NONE, arrived_ns)
        else:
            too_few = message.code == _TOO_FEW_ROUNDS_CODE
            self._finish(None, Why.TOO_FEW_ROUNDS if too_few else Why.REFUSED, arrived_ns)

    def tick(self, now_ns: int) -> None:
        """Do what is due by the clock: repeat, change the endpoint, close or give up."""
        if self._phase is _Phase.DONE:
            return
        if now_ns >= self._deadline_ns:
            self._finish(None, self._why_without_receipt(), now_ns)
        elif self._phase in (_Phase.COMMIT, _Phase.ROUNDS) and now_ns >= self._heard_ns + SILENCE_NS:
            if self._mask:
                self._reveal(now_ns)  # D4
            else:
                self._finish(None, Why.NO_REPLY, now_ns)
        elif self._phase is not _Phase.ROUNDS and now_ns >= self._retry_at_ns:
            self._retry(now_ns)

    def _retry(self, now_ns: int) -> None:
        if self._phase is _Phase.HELLO and self._tries >= HELLO_TRIES:
            self._endpoint += 1
            if self._endpoint >= len(self._order.addresses):
                self._finish(None, Why.NO_REPLY, now_ns)
                return
            self._address, self._tries = self._order.addresses[self._endpoint], 0
        if self._phase is _Phase.REVEAL and self._tries >= REVEAL_TRIES:
            self._finish(None, self._why_without_receipt(), now_ns)
            return
        self._send(self._last_sent, now_ns)  # D3: the same bytes

    def _commit(self, source: Address, nonce: datagrams.Nonce, arrived_ns: int) -> None:
        order = self._order
        session = ranging.session_of(order.challenge, order.landmark_key_id, nonce.landmark_nonce)  # R1
        commitment = self._firmware.open(session, arrived_ns)
        if commitment is None:
            return  # a nonce that came before: no honest landmark draws one twice
        self._address, self._nonce, self._session = source, nonce, session
        self._phase, self._tries = _Phase.COMMIT, 0
        self._heard_ns = arrived_ns + self._delay_ns()  # silence counts from when the COMMIT leaves
        if order.tricks.early_reveal:
            # The host forges a STOP, which nothing authenticates: the device closes with no round and gives s away.
            self._close(arrived_ns)
        self._send(datagrams.commit(nonce, commitment, order.ticket), arrived_ns)

    def _reordered(self, message: datagrams.Round) -> tuple[datagrams.Round, ...]:
        """The rounds that the device gets now: where the host swaps two, none at the first and both at the second."""
        if message.index >= self._order.tricks.reordered_rounds:
            return (message,)
        if self._held is None:
            self._held = message
            return ()
        held, self._held = self._held, None
        return message, held

    def _round(self, message: datagrams.Round, arrived_ns: int) -> None:
        if self._phase not in (_Phase.COMMIT, _Phase.ROUNDS):
            return
        self._phase = _Phase.ROUNDS
        tricks = self._order.tricks
        if tricks.early_reveal and self.closed is not None:
            # The accomplice answers with the early secret; the device never sees the round, so it logs nothing.
            value: bytes | None = ranging.answer_of(self.closed.secret, self._session, message.index, message.challenge)
        else:
            value = self._firmware.answer(self._session, message.index, message.challenge, arrived_ns)
        if value is None:
            return
        self._mask |= 1 << message.index
        if message.index < tricks.garbage_rounds:
            garbage = secrets.token_bytes(len(value))
            self._queue(datagrams.answer(message.tag, message.index, garbage), arrived_ns)
        data = datagrams.answer(message.tag, message.index, value) + bytes(tricks.padded_answers)
        self._queue(data, arrived_ns, elsewhere=tricks.answers_from_elsewhere)

    def _reveal(self, now_ns: int) -> None:
        if self._phase is _Phase.REVEAL:
            self._queue(self._last_sent, now_ns)  # a repeated STOP is answered again (D2)
            return
        if self._phase not in (_Phase.COMMIT, _Phase.ROUNDS) or self._nonce is None:
            return
        self._close(now_ns)
        if self.closed is None:  # the secret was 60 s old (R2)
            self._finish(None, Why.NO_RECEIPT, now_ns)
            return
        self._phase, self._tries = _Phase.REVEAL, 0
        self._send(datagrams.reveal(self._nonce.tag, self.closed.secret), now_ns)

    def _close(self, now_ns: int) -> None:
        if self.closed is None:
            self.closed = self._firmware.close(self._session, now_ns)

    def _finish(self, receipt: bytes | None, why: Why, now_ns: int) -> None:
        if self._session:
            self._close(now_ns)
        self._phase = _Phase.DONE
        self.result = Result(receipt, self._mask, why)

    def _why_without_receipt(self) -> Why:
        if self._phase is _Phase.HELLO or not self._mask:
            return Why.NO_REPLY
        return Why.TOO_FEW_ROUNDS if self._mask.bit_count() < ROUNDS_NEEDED else Why.NO_RECEIPT

    def _send(self, data: bytes, now_ns: int) -> None:
        """Queue a datagram that is repeated until a reply comes."""
        self._last_sent = data
        self._tries += 1
        self._retry_at_ns = self._queue(data, now_ns) + RETRY_NS

    def _queue(self, data: bytes, now_ns: int, *, elsewhere: bool = False) -> int:
        due_ns = now_ns + self._delay_ns()
        self.outbox.append(Outgoing(due_ns, self._address, data, elsewhere))
        return due_ns
