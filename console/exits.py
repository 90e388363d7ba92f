"""Exit codes of `trigpoint`, and how a failure becomes one clear line on stderr.

| code | meaning |
|---|---|
| 0 | done |
| 1 | the server refused it, rows failed, or what was asked for is not there |
| 2 | unusable input or usage |
| 3 | the server cannot be reached, or could not decide |
| 4 | not permitted |
"""

import enum
import re
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import typer

from console.text import clean


@enum.unique
class ExitCode(enum.IntEnum):
    """What a script may rely on."""

    OK = 0
    REFUSED = 1
    UNUSABLE = 2
    UNREACHABLE = 3
    FORBIDDEN = 4


class CommandError(Exception):
    """The command cannot go on: one line for a person, and the exit code."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_BY_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.UNUSABLE,
    grpc.StatusCode.NOT_FOUND: ExitCode.REFUSED,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.REFUSED,
    grpc.StatusCode.FAILED_PRECONDITION: ExitCode.REFUSED,
    grpc.StatusCode.ABORTED: ExitCode.REFUSED,  # something else stands than what the write was based on
    grpc.StatusCode.OUT_OF_RANGE: ExitCode.REFUSED,
    grpc.StatusCode.PERMISSION_DENIED: ExitCode.FORBIDDEN,
    grpc.StatusCode.UNAUTHENTICATED: ExitCode.FORBIDDEN,
}
# gRPC's words for a certificate that is good and names another host.
_NAME_SIGNS = ("hostname verification", "peer name")
_TLS_SIGNS = ("verification", "ssl", "tls", "certificate", "handshake", "peer did not")
_CLOSED = "socket closed"
_ADDRESS = re.compile(r"^failed to connect to all addresses; last error: \w+: (?:ipv[46]|unix):\S+ ?")


def from_rpc(error: grpc.RpcError, target: str, *, plaintext: bool = False) -> CommandError:
    """Return what a failed call means for the caller. `target` is the server as HOST:PORT."""
    if not isinstance(error, grpc.Call):
        return CommandError(ExitCode.UNREACHABLE, f"{target}: the call failed")
    status = error.code()
    details = clean(error.details() or status.name)
    code = _BY_STATUS.get(status, ExitCode.UNREACHABLE)
    if code is ExitCode.FORBIDDEN:
        return CommandError(code, f"not permitted: {details}")
    if code is not ExitCode.UNREACHABLE:
        return CommandError(code, details)
    hint = "; does it expect TLS?" if plaintext and _CLOSED in details.lower() else ""
    return CommandError(code, f"{target}: {_undecided(status, details, target)}{hint}")


def _undecided(status: grpc.StatusCode, details: str, target: str) -> str:
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time; what was asked may still have been done"
    if status is not grpc.StatusCode.UNAVAILABLE:
        return f"the server could not decide: {status.name}: {details}"
    cause = _ADDRESS.sub("", details).strip()
    if any(sign in details.lower() for sign in _NAME_SIGNS):
        host = target.rpartition(":")[0]
        return f"TLS failed: the server's certificate does not name the host {host}: {cause}"
    if any(sign in details.lower() for sign in _TLS_SIGNS):
        return f"TLS failed, check --ca, --cert and --key: {cause}"
    return f"the server cannot be reached: {cause}"


@contextmanager
def reported(target: str, *, plaintext: bool = False) -> Iterator[None]:
    """Turn every failure inside into one line on stderr and its exit code."""
    try:
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc(error, target, plaintext=plaintext) from error
    except CommandError as error:
        typer.echo(f"trigpoint: {error.message}", err=True)
        raise typer.Exit(error.code) from error
