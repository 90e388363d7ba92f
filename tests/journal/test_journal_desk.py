"""The journal of a server that runs, with certificates, at the people's command line."""

import sqlite3
from contextlib import closing
from pathlib import Path

from server import pki
from server.config import load_config
from tests.console.real_desk import LICENSE, ONE, deployed, real_desk
from verifier.journal.notes import NoteKey


async def test_a_day_of_the_journal(tmp_path: Path) -> None:
    async with real_desk(tmp_path) as people:
        section = load_config(tmp_path / "server.toml").journal
        keyed = "--journal-key", NoteKey.of(section.origin, pki.load_ed25519_key(section.key)).vkey
        # Somebody without rights on records keeps a checkpoint of the morning.
        morning = tmp_path / "morning.note"
        await people.does("eve", "journal", "checkpoint", "-o", morning, *keyed)
        # The desk works; the proof of what it wrote seals it.
        await deployed(people)
        proven = await people.told("ann", "journal", "prove", f"licenses/{LICENSE}", *keyed)
        tables = [row["table"] for row in proven["rows"]]
        assert tables[0] == "licenses"
        assert tables.count("revisions") >= 2
        device = await people.does("ann", "journal", "prove", f"deployments/{ONE}", *keyed)
        assert "deployments" in device
        evening = tmp_path / "evening.note"
        await people.does("bob", "journal", "checkpoint", "-o", evening, *keyed)
        assert "(proof checked here)" in await people.does("eve", "journal", "compare", morning, evening, *keyed)
        # Who may audit, and who may not.
        assert "that you kept" in await people.does("bob", "journal", "audit", "--checkpoint", morning, *keyed)
        assert (await people.says("eve", "journal", "audit")).code == 4
        assert (await people.says("ann", "journal", "reads")).code == 4
        assert (await people.says("ann", "journal", "retention", "--dry-run")).code == 4
        # Another hand lengthens a license in the file.
        with closing(sqlite3.connect(load_config(tmp_path / "server.toml").store.path)) as database:
            database.execute("UPDATE licenses SET valid_until = valid_until + 86400000000")
            database.commit()
        said = await people.says("bob", "journal", "audit", "--checkpoint", evening, *keyed)
        assert said.code == 1
        assert "1 FAULT " in said.out
        assert LICENSE in said.out
        refused = await people.says("ann", "journal", "prove", f"licenses/{LICENSE}", *keyed)
        assert refused.code == 1
        assert "never journaled" in refused.err
