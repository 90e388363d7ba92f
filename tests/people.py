"""The people of a desk at its command line: in this process, on 80 columns, each with a certificate of their own."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from typer.testing import CliRunner

from console.cli import app
from server import pki
from server.spiffe import Peer, Role

WIDTH = 80
PEOPLE = {"ann": "officer", "Ann": "approver", "bob": "approver", "eve": "viewer"}
"""Roles by the name in the certificate. Ann and ann are one person with two roles (docs/protocol.md RC4)."""


def issue_certificates(folder: Path) -> None:
    """Issue everybody's certificate by the CA in a folder."""
    for name, role in PEOPLE.items():
        pki.issue(folder, Peer(Role(role), name), f"{role}-{name}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class People:
    """Who works at the desk of one server.

    Attributes:
        address: The server, with mutual TLS.
        pki: The folder with certificates and keys.
        said: Everything that was said, with the line that was typed.
    """

    address: str
    pki: Path
    said: list[tuple[Sequence[str], Said]] = field(default_factory=list)

    async def says(self, who: str, *arguments: str | Path) -> Said:
        """Run a command as a person, whatever comes of it."""
        mine = self.pki / f"{PEOPLE[who]}-{who}"
        known = "--server", self.address, "--ca", f"{self.pki / 'ca.pem'}", "--cert", f"{mine}.pem", "--key"
        line = [str(argument) for argument in arguments]
        environment = {"COLUMNS": str(WIDTH), "HOME": str(self.pki)}
        result = await asyncio.to_thread(CliRunner().invoke, app, [*known, f"{mine}.key", *line], env=environment)
        said = Said(result.exit_code, result.stdout, result.stderr)
        self.said.append(((who, *line), said))
        return said

    async def does(self, who: str, *arguments: str | Path) -> str:
        """Run a command that must succeed; return what it printed."""
        said = await self.says(who, *arguments)
        assert said.code == 0, (arguments, said)
        return said.out

    async def told(self, who: str, *arguments: str | Path) -> Any:
        """Run a command that must succeed, with --json; return what it told."""
        return json.loads(await self.does(who, *arguments, "--json"))

    async def proposed(self, who: str, *arguments: str | Path) -> str:
        """Run a command whose change waits for a second person; return the change's number."""
        change = (await self.told(who, *arguments))["change"]
        assert (change["state"], change["proposed_by"]) == ("OPEN", who)
        return str(change["name"]).removeprefix("changes/")

    async def done_by_two(self, *arguments: str | Path) -> str:
        """Have ann propose and bob approve; return the change's number."""
        number = await self.proposed("ann", *arguments)
        assert "APPLIED" in await self.does("bob", "change", "approve", number, "--reason", "agreed")
        return number

    def channel(self, who: str) -> grpc.aio.Channel:
        """Connect as a person."""
        mine = f"{PEOPLE[who]}-{who}"
        files = [self.pki / name for name in ("ca.pem", f"{mine}.key", f"{mine}.pem")]
        return grpc.aio.secure_channel(
            self.address, grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        )

    def too_wide(self) -> list[str]:
        """Return the lines that did not fit, but those of JSON and of errors, which are one line each."""
        return [
            line
            for arguments, said in self.said
            for line in ([] if "--json" in arguments else [*said.out.splitlines(), *said.err.splitlines()])
            if len(line) > WIDTH and not line.startswith("trigpoint: ")
        ]
