"""An operator signs records with the landmark's own command, an officer imports them into a real server."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from console.cli import app as console
from landmark.main import app as landmark
from server import pki
from server.spiffe import Peer, Role
from tests.server.helpers import OFFICER, Running, running_server

IDS = ("fra-1", "fra-2")


def by_operator(*arguments: str) -> Result:
    result = CliRunner().invoke(landmark, arguments)
    assert result.exit_code == 0, result.output
    return result


def sign(folder: Path, name: str, operator_key: str = "operator.key", **changes: str) -> Path:
    """Make a landmark's key and its record, as docs/landmarks.md says."""
    by_operator("keygen", str(folder / f"{name}.key"))
    options = {
        "id": name,
        "operator": "Müller & Co",
        "hoster": f"Hoster of {name}",
        "latitude": "50.11017384",
        "longitude": "-8.68212",
        "uncertainty-km": "0.0203",
        "survey-method": "GNSS, 24 h",
        "country": "DE",
        "endpoint": "192.0.2.1:7400",
        "valid-from": "2026-01-01",
        "valid-until": "2099-12-31",
        "key": str(folder / f"{name}.key"),
        "operator-key": str(folder / operator_key),
        "out": str(folder / f"{name}.json"),
    } | changes
    given = [part for option, value in options.items() for part in (f"--{option}", value)]
    by_operator("record", *given, "--endpoint", "[2001:db8::1]:7400", "--virtual-machine")
    return folder / f"{name}.json"


def only(file: Path) -> dict[str, object]:
    """The one object of a record's file."""
    (entry,) = json.loads(file.read_text())
    assert isinstance(entry, dict)
    return entry


class Desk:
    """An officer's command line, and an approver's."""

    def __init__(self, running: Running) -> None:
        self._options: dict[Role, list[str]] = {}
        for peer in (OFFICER, Peer(Role.APPROVER, "bob")):
            certificate, key = pki.issue(running.folder, peer, peer.role)
            pairs = {"server": running.bound.address, "ca": running.folder / "ca.pem", "cert": certificate, "key": key}
            self._options[peer.role] = [part for name, value in pairs.items() for part in (f"--{name}", str(value))]

    async def run(self, *arguments: str, by: Role = Role.OFFICER) -> Result:
        """Run `trigpoint` beside the server's event loop."""
        return await asyncio.to_thread(CliRunner().invoke, console, [*arguments, *self._options[by]])

    async def register(self, *files: str) -> str:
        """Import landmarks and have that approved; returns what the import said first."""
        imported = await self.run("landmark", "import", *files)
        assert imported.exit_code == 0, imported.output
        said, *_, waiting = imported.stdout.splitlines()
        approve = waiting.partition("trigpoint ")[2].split()
        assert approve[:2] == ["change", "approve"]
        assert (await self.run(*approve, by=Role.APPROVER)).exit_code == 0
        return said


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


async def test_signed_records_from_the_operators_desk_to_the_officers_list(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    for name in ("operator", "thief"):
        by_operator("keygen", str(folder / f"{name}.key"))
    files = [sign(folder, name) for name in IDS]
    async with running_server(tmp_path / "server") as running:
        desk = Desk(running)
        said = await desk.register(*map(str, files))
        assert said == "2 landmarks: 2 would be created, 0 would be updated, 0 unchanged"
        again = await desk.run("landmark", "import", *map(str, reversed(files)))
        assert again.stdout == "2 landmarks: 0 would be created, 0 would be updated, 2 unchanged\n"
        shown = (await desk.run("landmark", "list")).stdout
        assert shown.count("\nsigned ") == 2
        assert "not signed" not in shown
        assert all(record.landmark.signed for record in await running.store.load_landmark_records())

        # What the list prints goes back in, signatures and all.
        printed = tmp_path / "printed.json"
        printed.write_text((await desk.run("landmark", "list", "--json")).stdout)
        back = await desk.run("landmark", "import", str(printed))
        assert back.stdout == "2 landmarks: 0 would be created, 0 would be updated, 2 unchanged\n"

        # Nobody but the operator moves a landmark or takes its name.
        entry = only(files[1])
        bent = tmp_path / "bent.json"
        for field, value in (("latitude", 50.1101739), ("operator", "Mueller & Co"), ("valid_until", None)):
            bent.write_text(json.dumps([entry | {field: value}]))
            refused = await desk.run("landmark", "import", str(files[0]), str(bent))
            assert (refused.exit_code, refused.stdout) == (2, "")
            assert refused.stderr.startswith(f"trigpoint: {bent}: landmark 1, {field}: ")
        forged = sign(folder, "fra-3", operator_key="thief.key", operator="MÜLLER  & co")
        refused = await desk.run("landmark", "import", str(forged))
        assert refused.exit_code == 2
        assert "landmarks.operator_key: operator MÜLLER  & co" in refused.stderr

        # Without the signature it is another record: the officer sees that it is not signed.
        bent.write_text(json.dumps([entry | {"operator_key": None, "operator_signature": None}]))
        assert "1 would be updated" in await desk.register(str(bent))
        assert "\nnot signed " in (await desk.run("landmark", "list")).stdout


async def test_the_servers_record_is_exactly_what_was_written(tmp_path: Path) -> None:
    by_operator("keygen", str(tmp_path / "operator.key"))
    file = sign(tmp_path, "fra-1")
    entry = only(file)
    assert (entry["latitude"], entry["longitude"], entry["uncertainty_km"]) == (50.1101738, -8.68212, 0.021)
    async with running_server(tmp_path / "server") as running:
        await Desk(running).register(str(file))
        (record,) = await running.store.load_landmark_records()
        kept = record.landmark
        assert (kept.position.latitude, kept.position.longitude) == (entry["latitude"], entry["longitude"])
        assert kept.uncertainty_km == entry["uncertainty_km"]
        assert record.endpoints == ("192.0.2.1:7400", "[2001:db8::1]:7400")
        assert record.operator_signature.hex() == entry["operator_signature"]
        assert record.operator_key.hex() == entry["operator_key"]
        shown = by_operator("show", "--key", str(tmp_path / "operator.key")).stdout
        assert f"public key {record.operator_key.hex()}\n" in shown
