"""Asks a witness to cosign: C2SP tlog-witness, the log's side (docs/protocol.md J7).

What comes back is the witness's word and counts only when its signature holds. `GET /checkpoint` is an addition of our
own witness; others answer it with 404 or the like.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path

import httpx

from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import MAX_NOTE_BYTES, Note, NoteError, NoteKey, NoteSignature, parse_lines

Consistency = Callable[[int, int], Awaitable[tuple[tuple[bytes, ...], bytes, bytes]]]
"""Returns the proof between two sizes of our log, with both roots."""

_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_TRIES = 2
"""The first may learn that the witness is at another size than we thought."""


class Why(StrEnum):
    """Why a witness did not cosign; labels of a metric."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNKNOWN_LOG = "unknown_log"
    REFUSED = "refused"
    CONFLICT = "conflict"
    BAD_REPLY = "bad_reply"


class WitnessError(Exception):
    """A witness did not cosign.

    Attributes:
        why: For the metric.
        contradicts: It says that our log does not extend what it signed.
    """

    def __init__(self, why: Why, message: str, *, contradicts: bool = False) -> None:
        super().__init__(message)
        self.why = why
        self.contradicts = contradicts

    @property
    def is_silence(self) -> bool:
        """Whether nothing was heard at all."""
        return self.why in {Why.TIMEOUT, Why.UNREACHABLE}


def open_http(ca: Path | None) -> httpx.AsyncClient:
    """Return a client for all witnesses, to be closed at the end; raises `OSError` when `ca` cannot be read."""
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(ca)
    # Nothing is read from the environment, no redirect leads a submission elsewhere. Calls have deadlines.
    return httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=httpx.Timeout(60.0))


class WitnessClient:
    """One witness.

    Args:
        url: Its submission prefix.
        key: Its public key.
        http: Shared by all.
        timeout_s: For one cosignature, from the first byte to the last.
    """

    def __init__(self, url: str, key: NoteKey, http: httpx.AsyncClient, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self.key = key
        self._http = http
        self._timeout_s = timeout_s
        self._last = 0  # what it cosigned last, as far as we know

    async def cosign(self, note: Note, consistency: Consistency) -> NoteSignature:
        """Have our checkpoint cosigned.

        Args:
            note: The checkpoint, signed by us.
            consistency: Proofs of our log.

        Raises:
            WitnessError: It did not.
            StoreError: The proof could not be read.
        """
        checkpoint = Checkpoint.parse(note.text)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._cosign(note, checkpoint, consistency)
        except TimeoutError as error:
            raise WitnessError(Why.TIMEOUT, f"no answer in {self._timeout_s} s") from error

    async def _cosign(self, note: Note, checkpoint: Checkpoint, consistency: Consistency) -> NoteSignature:
        old = min(self._last, checkpoint.size)
        for _ in range(_TRIES):
            proof = (await consistency(old, checkpoint.size))[0] if 0 < old < checkpoint.size else ()
            status, body = await self._post(old, proof, note)
            if status == httpx.codes.OK:
                signature = self._verified(note, body)
                self._last = checkpoint.size
                return signature
            if status != httpx.codes.CONFLICT:
                raise _refusal(status)
            found = _SIZE.fullmatch(body)
            if found is None:
                raise WitnessError(Why.BAD_REPLY, "a conflict without a size")
            at = int(found[1])
            if at > checkpoint.size or at == old:
                raise WitnessError(
                    Why.CONFLICT,
                    f"it signed {at} entries already, and not these {checkpoint.size}",
                    contradicts=True,
                )
            old = self._last = at
        raise WitnessError(Why.CONFLICT, "others have it cosign the same journal at the same time")

    async def newest(self, origin: str) -> Note | None:
        """Return what it cosigned last for a log, None when it does not say; raises `WitnessError`.

        No signature is checked: ours on it is what counts, and the caller's to check.
        """
        status, body = await self._timely("GET", "/checkpoint", params={"origin": origin})
        if status != httpx.codes.OK:
            return None
        try:
            return Note.parse(body)
        except NoteError as error:
            raise WitnessError(Why.BAD_REPLY, str(error)) from error

    async def probe(self, empty: Note) -> int:
        """Return how many entries of our log it cosigned, learned by submitting an empty one; raises `WitnessError`."""
        status, body = await self._timely("POST", "/add-checkpoint", content=_body(0, (), empty))
        if status == httpx.codes.OK:
            return 0
        found = _SIZE.fullmatch(body)
        if status != httpx.codes.CONFLICT or found is None:
            raise _refusal(status)
        self._last = int(found[1])
        return self._last

    def _verified(self, note: Note, body: bytes) -> NoteSignature:
        try:
            lines = parse_lines(body)
        except NoteError as error:
            raise WitnessError(Why.BAD_REPLY, str(error)) from error
        for line in lines:
            if Note(note.text, (line,)).cosigned_by(self.key) is not None:
                return line
        raise WitnessError(Why.BAD_REPLY, "no cosignature of its key holds")

    async def _timely(
        self, method: str, path: str, *, params: dict[str, str] | None = None, content: bytes | None = None
    ) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(method, path, params=params, content=content)
        except TimeoutError as error:
            raise WitnessError(Why.TIMEOUT, f"no answer in {self._timeout_s} s") from error

    async def _post(self, old: int, proof: tuple[bytes, ...], note: Note) -> tuple[int, bytes]:
        return await self._ask("POST", "/add-checkpoint", content=_body(old, proof, note))

    async def _ask(
        self, method: str, path: str, *, params: dict[str, str] | None = None, content: bytes | None = None
    ) -> tuple[int, bytes]:
        body = bytearray()
        try:
            async with self._http.stream(method, self._url + path, params=params, content=content) as response:
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MAX_NOTE_BYTES:
                        raise WitnessError(Why.BAD_REPLY, f"more than {MAX_NOTE_BYTES} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise WitnessError(Why.UNREACHABLE, f"{type(error).__name__}: {error}") from error
        return response.status_code, bytes(body)


def _body(old: int, proof: tuple[bytes, ...], note: Note) -> bytes:
    lines = [f"old {old}", *(base64.b64encode(step).decode() for step in proof), "", ""]
    return "\n".join(lines).encode() + bytes(note)


def _refusal(status: int) -> WitnessError:
    match status:
        case httpx.codes.NOT_FOUND:
            return WitnessError(Why.UNKNOWN_LOG, "it does not know this journal; give it the vkey")
        case httpx.codes.UNPROCESSABLE_ENTITY:
            return WitnessError(Why.CONFLICT, "it says that the journal was rewritten", contradicts=True)
        case _:
            return WitnessError(Why.REFUSED, f"it answers {status}")
