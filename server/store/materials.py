"""Files that verdicts are made with, kept once by their hash, so that a verdict can be made again."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select

from server.store.schema import MATERIALS
from server.times import micros
from verifier.setting import Material


def keep_materials(connection: Connection, files: Sequence[Material], now: datetime) -> int:
    """Keep these files, but those that are kept already; returns how many were new."""
    by_hash = {each.sha256: each for each in files}
    known = set(connection.scalars(select(MATERIALS.c.sha256).where(MATERIALS.c.sha256.in_(by_hash))))
    rows = [
        {"sha256": digest, "kind": each.kind, "name": each.name, "data": each.data, "since": micros(now)}
        for digest, each in sorted(by_hash.items())
        if digest not in known
    ]
    if rows:
        connection.execute(insert(MATERIALS), rows)
    return len(rows)
