"""A UDP socket that says when datagrams left and came. docs/protocol.md R5; Linux, IPv4 and IPv6.

Only ROUND asks for a send stamp, by a control message of its own call; it is read off the error queue right after the
call and only if its number is that call's. So a stamp can never belong to a datagram sent later, which would make a
round look shorter than it was. Where the kernel gives no stamp the user-space reading stands alone.
"""

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass
from typing import Final

from landmark.clock import Stamp, read_clocks
from landmark.cookies import Peer
from landmark.datagrams import MAX_DATAGRAM_BYTES

# Linux, include/uapi/asm-generic/socket.h: with 64-bit times on every architecture. Python names none of these.
_SO_TIMESTAMPING_NEW: Final = 65
# include/uapi/linux/net_tstamp.h
_TX_SOFTWARE: Final = 1 << 1
_RX_SOFTWARE: Final = 1 << 3
_SOFTWARE: Final = 1 << 4
_OPT_ID: Final = 1 << 7
_OPT_TSONLY: Final = 1 << 11
_STAMPING: Final = _RX_SOFTWARE | _SOFTWARE | _OPT_ID | _OPT_TSONLY
# include/uapi/linux/in.h and in6.h. PROBE sets "do not fragment" and takes no path MTU from forged ICMP messages.
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
# include/uapi/linux/errqueue.h
_ORIGIN_TIMESTAMPING: Final = 4
_STAMP_SENT: Final = 0
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")
_TIMES: Final = struct.Struct("=6q")

_CONTROL_BYTES: Final = 256
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_NS_PER_S: Final = 1_000_000_000
_ASK_FOR_STAMP: Final = [(socket.SOL_SOCKET, _SO_TIMESTAMPING_NEW, struct.pack("=I", _TX_SOFTWARE))]
# One more than allowed, so that a longer datagram is seen to be too long.
_READ_BYTES: Final = MAX_DATAGRAM_BYTES + 1


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram, who sent it, and when it came."""

    data: bytes
    peer: Peer
    stamp: Stamp


class StampedSocket:
    """A bound, non-blocking UDP socket; `endpoint` goes into every `Peer` it names.

    `failed_sends` counts datagrams that the system would not take; they are lost, never repeated.
    """

    def __init__(self, host: str, port: int, endpoint: int, *, kernel_stamps: bool = True) -> None:
        """Bind to a numeric address; port 0 takes a free one. OSError when the system refuses."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        family, _, _, _, address = found[0]
        self.failed_sends = 0
        self._endpoint = endpoint
        self._next_stamp_id = 0
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(0)
            self._set_options(family)
            self._kernel_stamps = kernel_stamps and self._enable_stamps()
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise

    @property
    def kernel_stamps(self) -> bool:
        """The kernel took the request for stamps."""
        return self._kernel_stamps

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it is bound to."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def receive(self) -> Arrival | None:
        """Return the next datagram, or None when there is none."""
        try:
            data, control, _, address = self._socket.recvmsg(_READ_BYTES, _CONTROL_BYTES)
        except OSError:
            # Nothing to read, or an ICMP error about an earlier datagram, which is nobody's answer.
            return None
        reading = read_clocks()
        host, port, *rest = address
        peer = Peer(self._endpoint, host, port, rest[1] if rest else 0)
        return Arrival(data, peer, Stamp(reading, _software_time_ns(control)))

    def send(self, peer: Peer, datagram: bytes) -> None:
        """Send a datagram, or lose it."""
        try:
            self._socket.sendto(datagram, _address_of(peer))
        except OSError:
            self.failed_sends += 1

    def send_stamped(self, peer: Peer, datagram: bytes) -> Stamp:
        """Send a datagram, or lose it; return when it left."""
        control = _ASK_FOR_STAMP if self._kernel_stamps else []
        address = _address_of(peer)
        reading = read_clocks()
        try:
            self._socket.sendmsg([datagram], control, 0, address)
        except OSError:
            self.failed_sends += 1
            # The kernel may have counted the datagram or not: start its count anew.
            self._kernel_stamps = self._kernel_stamps and self._enable_stamps()
            return Stamp(reading, None)
        if not self._kernel_stamps:
            return Stamp(reading, None)
        stamp_id = self._next_stamp_id
        self._next_stamp_id = (stamp_id + 1) & 0xFFFFFFFF
        return Stamp(reading, self._sent_time_ns(stamp_id))

    def drain_errors(self) -> None:
        """Empty the error queue, so that a selector does not report it again and again."""
        with contextlib.suppress(OSError):
            while True:
                self._socket.recvmsg(0, _CONTROL_BYTES, socket.MSG_ERRQUEUE)

    def _set_options(self, family: socket.AddressFamily) -> None:
        with contextlib.suppress(OSError):  # a smaller buffer loses datagrams earlier, and is no reason not to serve
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        # docs/protocol.md, Datagrams: "do not fragment" where the system offers it.
        if family is socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)

    def _enable_stamps(self) -> bool:
        """Ask for stamps, counted from 0; say whether the kernel gives them."""
        try:
            # The count starts anew only when OPT_ID goes from off to on.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING_NEW, _STAMPING & ~_OPT_ID)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING_NEW, _STAMPING)
        except OSError as error:
            if error.errno not in {errno.ENOPROTOOPT, errno.EINVAL, errno.EPERM}:
                raise
            return False
        self.drain_errors()
        self._next_stamp_id = 0
        return True

    def _sent_time_ns(self, stamp_id: int) -> int | None:
        """Return the stamp of the datagram just sent, if it is there already; throw away all others."""
        found = None
        try:
            while found is None:
                control = self._socket.recvmsg(0, _CONTROL_BYTES, socket.MSG_ERRQUEUE)[1]
                if _stamp_id(control) == stamp_id:
                    found = _software_time_ns(control)
        except OSError:
            return None
        return found


def _address_of(peer: Peer) -> tuple[str, int] | tuple[str, int, int, int]:
    return (peer.host, peer.port, 0, peer.scope_id) if ":" in peer.host else (peer.host, peer.port)


def _software_time_ns(control: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING_NEW and len(data) >= _TIMES.size:
            seconds, nanoseconds = _TIMES.unpack_from(data)[:2]
            # The first of three times is the software one; zero when the kernel took none.
            return seconds * _NS_PER_S + nanoseconds or None
    return None


def _stamp_id(control: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in control:
        if (level, kind) in {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}:
            number, origin, _, _, _, info, stamp_id = _EXTENDED_ERROR.unpack_from(data)
            if number == errno.ENOMSG and origin == _ORIGIN_TIMESTAMPING and info == _STAMP_SENT:
                return int(stamp_id)
    return None
