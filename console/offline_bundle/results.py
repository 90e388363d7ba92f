"""Checks the attestation results of a bundle: signed by a key of the set, and saying what the verdict says (§16)."""

import json
from collections.abc import Iterable, Mapping

from console.offline_bundle.evidence import Again, name_of
from console.offline_bundle.ledger import Ledger
from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from verifier.jws import KeySet, read_object, verify_jws
from verifier.result import result_claims
from verifier.result_reading import Result, parse_result


def check_results(found: Iterable[Again], keys: KeySet, ledger: Ledger) -> None:
    """Check the result of every attestation that was verified again."""
    for again in found:
        with ledger.point(Part.RESULTS, name_of(again.row)):
            said = _check(again, keys)
            if said:
                ledger.shown(Part.RESULTS, f"{name_of(again.row)}: {said}")


def _of_it(stated: Mapping[str, object], again: Again) -> Result:
    """Return a result as read; refuse one of another attestation, whatever of this one is here."""
    result = parse_result(stated)
    if result.nonce != again.verdict.challenge:
        raise BundleRefusedError(Part.RESULTS, "its result is of another attestation")
    return result


def _token(again: Again) -> str:
    """Return the result; empty when it rightly has none (docs/protocol.md EA1)."""
    token = again.row.text("result")
    if again.lacking:
        if not token:
            raise NotHereError("it has no result")
    elif bool(token) != bool(again.verdict.devices):
        has, devices = ("a", "no device") if token else ("no", "a device")
        raise BundleRefusedError(Part.RESULTS, f"it has {has} result, and {devices} of it is authentic")
    return token


def _check(again: Again, keys: KeySet) -> str:
    token = _token(again)
    if not token:
        return ""
    # 1. Signed, by a key of the set; nothing in it was read before.
    stated = read_object(verify_jws(token, keys))
    result = _of_it(stated, again)
    if again.lacking:
        raise NotHereError("its result is signed; it tells of devices whose chains are not in the bundle to compare")
    # 2. The same claims-set, from the verdict that was recomputed.
    recomputed = result_claims(
        again.verdict, again.inputs, issuer=result.issuer, developer=result.developer, build=result.build
    )
    plain: Mapping[str, object] = json.loads(json.dumps(recomputed))
    if again.is_whole:
        if stated != plain:
            raise BundleRefusedError(Part.RESULTS, "its result says other things than the verdict")
        return "its result is signed and says the same"
    # A device whose row is withheld was appraised under a license that is not here either.
    submods, again_submods = stated.get("submods"), plain["submods"]
    if not isinstance(submods, dict) or not isinstance(again_submods, dict):
        raise BundleRefusedError(Part.RESULTS, "its result has no submodules")
    shown = {pdi.hex() for pdi in again.devices}
    if submods.keys() != again_submods.keys() or any(submods[name] != again_submods[name] for name in shown):
        raise BundleRefusedError(Part.RESULTS, "its result says other things than the verdict")
    if any(stated.get(name) != plain.get(name) for name in ("eat_profile", "eat_nonce", "iat")):
        raise BundleRefusedError(Part.RESULTS, "its result is of another attestation")
    return f"its result is signed and says the same of the {len(shown)} devices that are shown"
