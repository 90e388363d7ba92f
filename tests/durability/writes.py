"""Counts writes to a file as they happen (inotify), so that a kill can land between two of one transaction."""

import ctypes
import os
import struct

_IN_MODIFY = 0x2
_EVENT = struct.Struct("iIII")


def wait_for_writes(path: str, count: int) -> None:
    """Return after `count` writes to `path`, which may not be there yet. Writes that come at once may count as one."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init()
    try:
        folder, name = os.path.split(path)
        if libc.inotify_add_watch(descriptor, folder.encode(), _IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", folder)
        while count > 0:
            events = os.read(descriptor, 4096)
            at = 0
            while at < len(events):
                _, _, _, length = _EVENT.unpack_from(events, at)
                at += _EVENT.size
                count -= events[at : at + length].rstrip(b"\0") == name.encode()
                at += length
    finally:
        os.close(descriptor)
