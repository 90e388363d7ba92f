"""`trigpoint verify BUNDLE`: checks a case bundle and prints what it shows and what it does not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from console.bundle_render import WIDTH, render
from console.offline import UnusableInputError
from console.offline_bundle.as_json import to_json
from console.offline_bundle.check import Outcome, Trust, check_bundle, load_bundle, load_trust

__all__ = ["TrustOptions", "check_file", "print_outcome"]


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """What the reader gave on the command line, as text."""

    journal_key: str | None
    root_fingerprints: Sequence[str]
    roots: Sequence[Path]
    witnesses: Sequence[str]
    jwks: Path | None

    @property
    def are_given(self) -> bool:
        """Whether any of them is for bundles alone."""
        return bool(self.journal_key or self.root_fingerprints or self.witnesses or self.jwks)


def check_file(path: Path, options: TrustOptions) -> Outcome:
    """Check one bundle; raises `UnusableInputError` when the file or an option cannot be used."""
    if options.journal_key is None:
        raise UnusableInputError(
            f"{path} is a case bundle: give --journal-key, the vkey of its journal, which you have from elsewhere"
        )
    if not options.root_fingerprints and not options.roots:
        raise UnusableInputError(
            f"{path} is a case bundle: give --root-fingerprint, the SHA-256 of the vendor's root certificate (DER), "
            "which you have from the vendor; or the certificate itself, --root"
        )
    trust: Trust = load_trust(
        options.journal_key, options.root_fingerprints, options.roots, options.witnesses, options.jwks
    )
    return check_bundle(load_bundle(path), trust)


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Print what a check came to."""
    told = to_json(outcome)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        render(told, Console(highlight=False, width=WIDTH))
