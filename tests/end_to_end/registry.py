"""The landmark registry as an officer changes it, and landmarks that lie."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from demo.processes import run
from demo.stage import Stage
from landmark.config import Config, build_config
from landmark.daemon import Daemon
from landmark.keys import LandmarkKey, load_key
from landmark.ranger import Ranger
from landmark.statements import Receipt, sign_receipt

SignedLie = Callable[[Receipt], Receipt]


def signs_zero_ms(receipt: Receipt) -> Receipt:
    """Say that the device stands on the landmark, whatever was measured."""
    return replace(receipt, least_round_trip_ns=0)


class _LyingRanger(Ranger):
    lie: SignedLie

    def _sign(self, receipt: Receipt) -> bytes:
        return sign_receipt(self.lie(receipt), self._key)


class _LyingDaemon(Daemon):
    """A landmark that keeps the protocol and signs something else than it saw."""

    def __init__(self, config: Config, key: LandmarkKey, lie: SignedLie) -> None:
        super().__init__(config, key)
        ranger = _LyingRanger(key, config.verify_keys, config.policy, secrets.token_bytes, self._sockets)
        ranger.lie = lie
        self._ranger = ranger


@asynccontextmanager
async def lying_landmark(stage: Stage, name: str, lie: SignedLie) -> AsyncIterator[None]:
    """Have the operator of a registered landmark run one that lies, under the same key, in place of the honest one."""
    ticket_key = (await run("trigpoint-server", "ticket-key", stage.folder / "pki")).strip()
    key_file = stage.folder / f"landmark-{name}.key"
    content = {
        "listen": ["127.0.0.1:0"],
        "key_file": key_file,
        "ticket_keys": [ticket_key],
        "position_revision": 1,
        "virtual_machine": False,
    }
    daemon = _LyingDaemon(build_config(content, "test"), load_key(key_file), lie)
    daemon.start()
    try:
        async with registered_otherwise(stage, {name: {"endpoints": list(daemon.endpoints)}}):
            yield
    finally:
        daemon.close()


@asynccontextmanager
async def registered_otherwise(stage: Stage, changes: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[None]:
    """Change fields of landmark records, by landmark, and put them back at the end."""
    before = [r for r in json.loads((stage.folder / "landmarks.json").read_text()) if _id(r) in changes]
    assert len(before) == len(changes)
    await _import(stage, [{**record, **changes[_id(record)]} for record in before])
    try:
        yield
    finally:
        await _import(stage, before)


async def _import(stage: Stage, records: list[dict[str, Any]]) -> None:
    ca, certificate, key = (path.read_bytes() for path in stage.officer_files)
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    async with grpc.aio.secure_channel(stage.address, credentials) as channel:
        landmarks = [landmark_pb2.Landmark(**{**r, "public_key": bytes.fromhex(r["public_key"])}) for r in records]
        request = landmark_pb2.ImportLandmarksRequest(landmarks=landmarks)
        response = await landmark_pb2_grpc.LandmarkServiceStub(channel).ImportLandmarks(request)
    assert response.updated_count == len(records)
    await stage.approve_all()


def _id(record: Mapping[str, Any]) -> str:
    return str(record["name"]).removeprefix("landmarks/")
