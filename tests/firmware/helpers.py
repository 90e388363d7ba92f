"""What the emulator's tests share: a reader of reports by the offsets of docs/protocol.md §4, and a tiny landmark (§7).

Written from the protocol alone; imports nothing of the emulator, so that it cannot repeat its mistakes.
"""

import hashlib
import hmac
import secrets
import select
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature


@dataclass(frozen=True)
class ParsedReport:
    nonce: bytes
    blocks: dict[int, bytes]
    tlvs: dict[int, bytes]
    tlv_order: list[int]
    signed: bytes
    signature: bytes

    @property
    def counters(self) -> tuple[int, int]:
        data = self.tlvs[0x5402]
        return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:16], "little")

    @property
    def log(self) -> list[tuple[bytes, bytes, bytes]]:
        data = self.tlvs[0x5401]
        assert len(data) % 96 == 0
        return [(data[p : p + 32], data[p + 32 : p + 64], data[p + 64 : p + 96]) for p in range(0, len(data), 96)]


def parse_report(data: bytes) -> ParsedReport:
    assert data[:4] == bytes.fromhex("11e001ff")
    assert data[36] == 0
    assert data[37:41] == bytes.fromhex("11600000")
    count = data[41]
    record_length = int.from_bytes(data[42:45], "little")
    assert record_length == 55 * count
    blocks: dict[int, bytes] = {}
    for position in range(45, 45 + record_length, 55):
        head = data[position : position + 7]
        assert head[1:] == bytes.fromhex("013300013000")
        assert head[0] not in blocks
        blocks[head[0]] = data[position + 7 : position + 55]
    start = 79 + record_length
    end = start + int.from_bytes(data[start - 2 : start], "little")
    assert len(data) == end + 96
    tlvs: dict[int, bytes] = {}
    position = start
    while position < end:
        kind = int.from_bytes(data[position : position + 2], "little")
        length = int.from_bytes(data[position + 2 : position + 4], "little")
        assert kind not in tlvs
        assert position + 4 + length <= end
        tlvs[kind] = data[position + 4 : position + 4 + length]
        position += 4 + length
    return ParsedReport(data[4:36], blocks, tlvs, list(tlvs), data[:end], data[end:])


def verified_report(data: bytes, chain: Sequence[bytes]) -> ParsedReport:
    """Parsed, once its signature holds under the chain's leaf."""
    parsed = parse_report(data)
    key = public_key(x509.load_der_x509_certificate(chain[0]))
    r, s = int.from_bytes(parsed.signature[:48], "big"), int.from_bytes(parsed.signature[48:], "big")
    key.verify(encode_dss_signature(r, s), parsed.signed, ec.ECDSA(hashes.SHA384()))
    return parsed


def public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"
    return key


def raw_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


def transcript(session: bytes, commitment: bytes, rounds: Sequence[tuple[int, bytes]]) -> bytes:
    """T of docs/protocol.md R4 over the rounds that were answered."""
    link = hashlib.sha256(b"trigpoint-log-v1\0" + session + commitment).digest()
    for index, challenge in rounds:
        link = hashlib.sha256(link + index.to_bytes(2, "big") + challenge).digest()
    return hashlib.sha256(b"trigpoint-close-v1\0" + link + len(rounds).to_bytes(2, "big")).digest()


@dataclass
class Ranged:
    """What one session looked like from the landmark."""

    session: bytes
    commitment: bytes
    ticket: bytes
    rtt_ns: dict[int, int] = field(default_factory=dict)
    challenges: dict[int, bytes] = field(default_factory=dict)
    answers: dict[int, bytes] = field(default_factory=dict)
    secret: bytes = b""
    reveals: int = 0

    @property
    def answered(self) -> list[tuple[int, bytes]]:
        return [(index, self.challenges[index]) for index in sorted(self.answers)]

    def right(self) -> set[int]:
        """Rounds whose answer is that of the revealed secret (R3, R6)."""
        assert hashlib.sha256(b"trigpoint-commit-v1\0" + self.session + self.secret).digest() == self.commitment
        good = set()
        for index, value in self.answers.items():
            message = b"trigpoint-round-v1\0" + self.session + index.to_bytes(2, "big") + self.challenges[index]
            if hmac.new(self.secret, message, hashlib.sha256).digest()[:16] == value:
                good.add(index)
        return good


class FakeLandmark:
    """A landmark for one session at a time, on loopback, in a thread. It checks sizes and headers as it goes.

    `ignore` is how many HELLO, COMMIT and REVEAL datagrams to lose, by type. `indices` are the rounds to send.
    """

    def __init__(
        self,
        *,
        family: int = socket.AF_INET,
        indices: Sequence[int] = tuple(range(16)),
        ignore: dict[int, int] | None = None,
        refuse: int | None = None,
        receipt: bytes = b"receipt",
    ) -> None:
        self.key_id = secrets.token_bytes(32)
        self.sessions: list[Ranged] = []
        self.heard: list[tuple[int, object]] = []
        self._indices = indices
        self._ignore = dict(ignore or {})
        self._refuse = refuse
        self._receipt = receipt
        self._ending = threading.Event()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._error: BaseException | None = None
        self._challenge = b""
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def endpoint(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self, challenge: bytes) -> None:
        self._challenge = challenge
        self._thread.start()

    def stop(self) -> None:
        """End, and raise what went wrong."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._session()
        except TimeoutError:
            pass
        except BaseException as error:  # noqa: BLE001 -- handed to the test by stop()
            self._error = error

    def _receive(self, kinds: dict[int, int], until_ns: int | None = None) -> tuple[bytes, tuple[object, ...], int]:
        """The next datagram of one of these types and sizes; TimeoutError when the test ends or time is up."""
        while True:
            if self._ending.is_set() or (until_ns is not None and raw_ns() >= until_ns):
                raise TimeoutError
            wait = 0.02 if until_ns is None else max(0.0, min(0.02, (until_ns - raw_ns()) / 1e9))
            if not select.select([self._socket], [], [], wait)[0]:
                continue
            data, source = self._socket.recvfrom(2048)
            now = raw_ns()
            assert data[:3] == b"TP\x01"
            assert len(data) == {1: 96, 3: 1200, 5: 64, 7: 1200}[data[3]]
            self.heard.append((data[3], source))
            if self._ignore.get(data[3], 0) > 0:
                self._ignore[data[3]] -= 1
            elif data[3] in kinds:
                assert len(data) == kinds[data[3]]
                return data, source, now

    def _session(self) -> None:
        tag, nonce, cookie = secrets.token_bytes(16), secrets.token_bytes(32), secrets.token_bytes(24)
        data, source, _ = self._receive({1: 96})
        assert data[20:52] == self.key_id
        self._send(2, tag + data[4:20] + nonce + cookie, 96, source)
        data, source, _ = self._receive({3: 1200})
        assert (data[4:20], data[20:52], data[52:76]) == (tag, nonce, cookie)
        size = int.from_bytes(data[108:110], "big")
        assert data[110 + size :] == bytes(1090 - size)
        session = hashlib.sha256(b"trigpoint-session-v1\0" + self._challenge + self.key_id + nonce).digest()
        ranged = Ranged(session, data[76:108], data[110 : 110 + size])
        self.sessions.append(ranged)
        if self._refuse is not None:
            self._send(9, tag + self._refuse.to_bytes(2, "big"), 64, source)
            return
        self._rounds(ranged, tag, source)
        self._send(6, tag + len(self._indices).to_bytes(2, "big"), 64, source)
        data, _, _ = self._receive({7: 1200})
        assert data[4:20] == tag
        ranged.secret = data[20:52]
        ranged.reveals += 1
        self._send(8, tag + len(self._receipt).to_bytes(2, "big") + self._receipt, None, source)

    def _rounds(self, ranged: Ranged, tag: bytes, source: tuple[object, ...]) -> None:
        sent_ns: dict[int, int] = {}
        for index in self._indices:
            challenge = secrets.token_bytes(16)
            ranged.challenges.setdefault(index, challenge)
            sent_ns.setdefault(index, raw_ns())
            self._send(4, tag + index.to_bytes(2, "big") + bytes(26) + challenge, 64, source)
            self._answers(ranged, tag, sent_ns, raw_ns() + 2_000_000)
        self._answers(ranged, tag, sent_ns, raw_ns() + 250_000_000)

    def _answers(self, ranged: Ranged, tag: bytes, sent_ns: dict[int, int], until_ns: int) -> None:
        while True:
            if len(ranged.answers) == len(set(self._indices)):
                return
            try:
                data, _, now = self._receive({5: 64}, until_ns)
            except TimeoutError:
                if self._ending.is_set():
                    raise
                return
            index = int.from_bytes(data[20:22], "big")
            assert data[4:20] == tag
            assert index not in ranged.answers, "a round is answered once (R4)"
            ranged.answers[index] = data[48:64]
            ranged.rtt_ns[index] = now - sent_ns[index]

    def _send(self, kind: int, content: bytes, size: int | None, target: tuple[object, ...]) -> None:
        data = b"TP\x01" + bytes([kind]) + content
        self._socket.sendto(data if size is None else data.ljust(size, b"\0"), target)
