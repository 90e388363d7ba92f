"""A revocation by one server process reaches another one on the same store, by its poll of the records number."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from server.intake.fleet import POLL_EVERY_S, Fleet
from server.records.values import RecordWrite
from server.store import Store
from tests.server.helpers import NOW, deployment, pdi
from verifier.license import LicenseState


async def test_revocation_reaches_the_other_process(tmp_path: Path) -> None:
    """docs/protocol.md RC6: within 2 s, since a process looks every second and reads nothing older from then on."""
    path = tmp_path / "store.sqlite"
    here, there = await Store.open(path), await Store.open(path)
    fleet = Fleet(there)
    following = asyncio.create_task(fleet.follow_records())
    try:
        await here.import_deployments([deployment(pdi(1))], NOW, by="ann", reason="test", state=LicenseState.ACTIVE)
        before = (await fleet.current()).number
        stored = await here.records.get("licenses/L-1")
        assert stored is not None
        record: Any = stored.record
        revoked = replace(record, terms=replace(record.terms, state=LicenseState.REVOKED))
        outcome = await here.records.write([RecordWrite("licenses/L-1", revoked, None)], "ann", "diverted", NOW)
        assert outcome.change is not None
        await here.records.approve(outcome.change.change_id, "bob", "seen", NOW + timedelta(seconds=1))
        async with asyncio.timeout(30):
            number = await fleet.wait_for_records(beyond=before)
        loaded = await there.load_inputs([pdi(1)], number)
        assert loaded.deployments[pdi(1)].license.state is LicenseState.REVOKED
        # A challenge that was issued before is still answered under what stood then.
        earlier = await there.load_inputs([pdi(1)], before)
        assert earlier.deployments[pdi(1)].license.state is LicenseState.ACTIVE
        assert POLL_EVERY_S <= 1
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await here.close()
        await there.close()
