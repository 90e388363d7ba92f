"""A basis holds all that a verdict was made with: whoever has it, the evidence and the files makes the same verdict."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from firmware_stubs.ca import DeviceCA
from tests.verifier.helpers_basis import REFERENCES, WORLD, real_files, real_policy
from tests.verifier.helpers_evidence import (
    CHALLENGE,
    LICENSED,
    NEAR_NS,
    NOW,
    Host,
    Pillar,
    Ranged,
    flip,
    hold_session,
    make_license,
)
from verifier.basis import Basis, Given, read_basis, write_basis
from verifier.continuity import DeviceState, SignedCounters
from verifier.errors import BasisError, Reason, UsageError
from verifier.evidence.attestation import UnverifiedAttestation
from verifier.evidence.measurements import ReferenceValues
from verifier.evidence.spdm import Counters
from verifier.license import Adoption, BoardSwap, Deployment, License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.region_json import region_from_json
from verifier.place.regions import AnyOf, Group, Polygon, SiteDisc
from verifier.place.travel import SeenPlace
from verifier.setting import BORDERS, COUNTRY_GROUPS, REFERENCE_VALUES, REGION, ROOT, Material, Setting
from verifier.units import ChainId, Domain, Pdi
from verifier.verdict import Verdict
from verifier.verifier import Inputs, Verifier

SITE = SiteDisc("Hall 7", Position(10.0, 10.0), 300.0)
_ZIGZAG = tuple((9.0 + k / 1_000, 9.0 + (k % 2) / 10) for k in range(200))
YARD = Polygon("Yard", ((*_ZIGZAG, (9.2, 12.0), (9.0, 12.0)),))
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Bench:
    """One host, and a verifier with the files that it was made of."""

    host: Host
    policy: PlacePolicy
    files: tuple[Material, ...]

    @property
    def setting(self) -> Setting:
        return Setting.of(self.policy, self.files)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.host.roots, ReferenceValues.parse([REFERENCES]), self.policy)

    @property
    def by_hash(self) -> dict[bytes, bytes]:
        return {each.sha256: each.data for each in self.files}

    def under(self, **numbers: Any) -> "Bench":
        return replace(self, policy=replace(self.policy, **numbers))

    def attested(self, **bent: Any) -> tuple[UnverifiedAttestation, Inputs]:
        attestation, chains = self.host.attest(**bent)
        return attestation, self.host.inputs(chains)

    def written(self, attestation: UnverifiedAttestation, inputs: Inputs) -> tuple[Verdict, Basis]:
        verdict = self.verifier.verify(attestation, inputs)
        return verdict, write_basis(verdict, inputs, attestation, self.setting, 7)

    def again(self, attestation: UnverifiedAttestation, inputs: Inputs) -> tuple[Verdict, Verdict]:
        """The verdict, and the one that is made of its basis alone."""
        verdict, basis = self.written(attestation, inputs)
        given = read_basis(basis.common, basis.devices, {region.sha256: region.data for region in basis.regions})
        assert given.records == 7
        assert given.setting == self.setting
        return verdict, given.setting.verifier(self.by_hash).verify(attestation, given.inputs(inputs.chains))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    host = Host.build(tmp_path_factory.mktemp("host"), DeviceCA.generate())
    return Bench(host, real_policy(audited_within=None), real_files(host.ca))


def ranges(pillars: Sequence[Pillar], rtt_ns: int = NEAR_NS, rounds: int = 16) -> list[Ranged]:
    return [hold_session(p, CHALLENGE, rtt_ns, rounds) for p in pillars]


def home(host: Host) -> dict[int, list[Ranged]]:
    return {0: ranges(host.home)}


def licensed(inputs: Inputs, region: Any = LICENSED, **terms: Any) -> Inputs:
    held = replace(make_license(), **terms)
    return replace(inputs, deployments={pdi: Deployment(pdi, held, region) for pdi in inputs.deployments})


Bend = Callable[[Bench], tuple[UnverifiedAttestation, Inputs]]


def _plain(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    return bench.attested(ranged=home(bench.host))


def _abroad(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    return bench.attested(ranged={0: ranges(bench.host.abroad), 1: ranges(bench.host.home[:1], rtt_ns=9_000_000)})


def _terms(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    attestation, inputs = _plain(bench)
    terms: dict[str, Any] = {"tolerated_domains": 2, "presence": Presence.SITE, "state": LicenseState.SUSPENDED}
    return attestation, licensed(inputs, SITE, **terms, licensee="Another", revision=4, surprises_per_day=3)


def _regions(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    attestation, inputs = _plain(bench)
    first, second = sorted(inputs.deployments)
    deployments = {
        first: Deployment(first, make_license(Presence.SITE), YARD),
        second: Deployment(second, make_license(), AnyOf((Group("A:5"), SITE))),
    }
    return attestation, replace(inputs, deployments=deployments)


def _unknown(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    attestation, inputs = _plain(bench)
    return attestation, replace(inputs, deployments=dict([*inputs.deployments.items()][:1]))


def _late(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    attestation, inputs = _plain(bench)
    return attestation, replace(inputs, now=NOW + HOUR)


def _malformed(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    attestation, inputs = _plain(bench)
    return replace(attestation, claims=attestation.claims[:-1]), inputs


def _refused(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    return bench.attested(ranged=home(bench.host), bend_report=lambda i, spdm: flip(spdm, -1) if i == 1 else spdm)


def _void(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    """A round short, an unknown landmark, a receipt of another one than the claims say, and one that is no receipt."""
    short, named, garbled = bench.host.home
    other = hold_session(bench.host.abroad[0], CHALLENGE, NEAR_NS)
    held = [
        hold_session(short, CHALLENGE, NEAR_NS, rounds=3),
        hold_session(Pillar.at("nobody", 10.0, 10.0), CHALLENGE, NEAR_NS),
        replace(other, landmark=named.record.key_id),
        replace(hold_session(garbled, CHALLENGE, NEAR_NS), receipt=b"\x00"),
        hold_session(bench.host.abroad[1], CHALLENGE, NEAR_NS),
    ]
    return bench.attested(ranged={0: held})


def _past(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    """Counters that went back, another board with a swap on record, and a place that cannot be reached in time."""
    attestation, inputs = _plain(bench)
    first, second = (Pdi(gpu.pdi) for gpu in bench.host.gpus)
    highest = SignedCounters(Counters((1 << 64) - 1, (1 << 64) - 2), NOW - 2 * HOUR, NOW - HOUR)
    far = SeenPlace(NOW - HOUR, NOW - HOUR / 2, tuple((p.record.position, 80.1 + 0.2) for p in bench.host.abroad))
    old = Pdi(b"old-----")
    last = {
        first: DeviceState(highest, frozenset({old}), unseated=True, place=far),
        second: DeviceState(None, frozenset({old})),
        Pdi(bench.host.switches[0].pdi): DeviceState(highest),
    }
    swap = BoardSwap(frozenset({Pdi(bench.host.switches[0].pdi)}), NOW)
    deployments = {**inputs.deployments, second: replace(inputs.deployments[second], swap=swap)}
    return attestation, replace(inputs, last=last, deployments=deployments)


def _adopting(selectors: Callable[[Host], Mapping[bytes, int]], held: License | None = None) -> Bend:
    def bend(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
        attestation, inputs = _plain(bench)
        region = YARD if held is not None else LICENSED
        adoptions = {
            selector: Adoption(selector, held or make_license(), region, left)
            for selector, left in selectors(bench.host).items()
        }
        return attestation, replace(inputs, deployments={}, adoptions=adoptions)

    return bend


def _by_board(left: int) -> Bend:
    return _adopting(lambda host: {host.switches[0].pdi: left})


def _by_key(bench: Bench) -> tuple[UnverifiedAttestation, Inputs]:
    key = bench.verifier.verify(*_plain(bench)).devices[1].device_key_id
    held = make_license(Presence.SITE, "Another")
    return _adopting(lambda host: {key: 1, host.switches[0].pdi: 1}, held)(bench)


@pytest.mark.parametrize(
    ("bend", "shown"),
    [
        pytest.param(_plain, [], id="plain"),
        pytest.param(_abroad, [Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION], id="abroad"),
        pytest.param(_terms, [Reason.LICENSE_SUSPENDED, Reason.FOREIGN_REPORT], id="terms"),
        pytest.param(_regions, [], id="regions"),
        pytest.param(_unknown, [Reason.UNKNOWN_DEVICE], id="unknown"),
        pytest.param(_refused, [], id="refused report"),
        pytest.param(_void, [Reason.RANGE_VOID], id="void ranges"),
        pytest.param(_past, [Reason.COUNTER_ROLLBACK, Reason.BOARD_CHANGED, Reason.IMPOSSIBLE_TRAVEL], id="past"),
        pytest.param(_by_board(2), [], id="adopted by board"),
        pytest.param(_by_board(1), [Reason.UNKNOWN_DEVICE], id="adopted by board, one too many"),
        pytest.param(_by_key, [Reason.FOREIGN_REPORT], id="adopted by key and by board"),
        pytest.param(_late, Reason.CHALLENGE_EXPIRED, id="rejected"),
        pytest.param(_malformed, Reason.CLAIMS_MALFORMED, id="malformed"),
    ],
)
def test_the_same_verdict_is_made_again(bench: Bench, bend: Bend, shown: Sequence[Reason] | Reason) -> None:
    verdict, again = bench.again(*bend(bench))
    assert again == verdict
    if isinstance(shown, Reason):
        assert verdict.rejection is not None
        assert verdict.rejection.reason is shown
    else:
        found = {finding.reason for device in verdict.devices for finding in device.findings}
        assert verdict.devices
        assert found >= set(shown)


@pytest.mark.parametrize("drop", ["landmarks", "deployment", "last", "parties"])
def test_nothing_of_it_is_there_in_vain(bench: Bench, drop: str) -> None:
    """Without a part of it the verdict is another one."""
    bench = bench.under(audited_within=timedelta(hours=24), operator="Auditor 0")
    attestation, inputs = _past(bench)
    inputs = replace(inputs, landmarks=audited(bench.host, 4))
    verdict, basis = bench.written(attestation, inputs)
    common, devices = json.loads(basis.common), {pdi: json.loads(text) for pdi, text in basis.devices.items()}
    if drop in common:
        common[drop] = type(common[drop])()
    else:
        for each in devices.values():
            each[drop] = None
    given = read_basis(json.dumps(common), {pdi: json.dumps(each) for pdi, each in devices.items()})
    again = given.setting.verifier(bench.by_hash).verify(attestation, given.inputs(inputs.chains))
    assert again != verdict


def audited(host: Host, auditors: int) -> LandmarkRegistry:
    """The host's landmarks, each ranged by so many others lately, by one long ago; auditors 0 and 1 are one."""
    others = [Pillar.at(f"auditor-{k}", -20.0, k / 100, operator=f"Auditor {k}").record for k in range(auditors)]
    others[1] = replace(others[1], hoster=others[0].operator)
    lately = [(Domain(other.operator), NOW - timedelta(minutes=k)) for k, other in enumerate(others)]
    of_old = (Domain("operator of abroad-2"), NOW - timedelta(hours=25))
    landmarks = [
        replace(pillar.record, ranged_by=(of_old, (Domain(pillar.record.operator), NOW), *lately))
        for pillar in (*host.home, *host.abroad)
    ]
    return LandmarkRegistry.build([*landmarks, *others])


@pytest.mark.parametrize("auditors", [2, 3, 4, 5, 60])
@pytest.mark.parametrize("tolerated", [None, 1, 2, 3])
def test_of_a_landmarks_witnesses_as_many_are_kept_as_decide(
    bench: Bench, auditors: int, tolerated: int | None
) -> None:
    """docs/protocol.md PL3: f + 1 of them for it to count, one more for it to accuse, all when they are too few."""
    bench = bench.under(audited_within=timedelta(hours=24), operator="AUDITOR 0")
    attestation, inputs = _abroad(bench)
    inputs = licensed(replace(inputs, landmarks=audited(bench.host, auditors)), tolerated_domains=tolerated)
    verdict, basis = bench.written(attestation, inputs)
    assert bench.again(attestation, inputs) == (verdict, verdict)
    common = json.loads(basis.common)
    kept = {len(landmark["ranged_by"]) for landmark in common["landmarks"]}
    assert kept == {min(auditors - 1, (tolerated or 1) + 2)}
    dropped = {v.reason for device in verdict.devices for v in device.void_ranges}
    assert (Reason.LANDMARK_NOT_COUNTED in dropped) == (auditors - 1 <= (tolerated or 1))


def test_landmarks_of_joined_domains_stay_joined(bench: Bench) -> None:
    """The landmark that joins two others is not in the basis, and neither is the licensee's own."""
    attestation, inputs = _plain(bench)
    first, second, third = (pillar.record for pillar in bench.host.home)
    joint = Pillar.at("joint", 0.0, 0.0, operator=first.operator).record
    own = Pillar.at("own", 0.0, 0.0, operator=third.hoster).record
    more = [replace(joint, hoster=second.hoster), replace(own, hoster="EXAMPLE  cloud")]
    registry = LandmarkRegistry.build([*inputs.landmarks.landmarks, *more])
    verdict, again = bench.again(attestation, replace(inputs, landmarks=registry))
    assert again == verdict
    fix = verdict.devices[0].fix
    assert fix is not None
    assert len(fix.discs) == 1
    assert [v.reason for v in verdict.devices[0].void_ranges] == [Reason.LANDMARK_NOT_COUNTED]


def test_only_what_the_receipts_name_is_kept(bench: Bench) -> None:
    _, basis = bench.written(*_plain(bench))
    common = json.loads(basis.common)
    assert [landmark["landmark_id"] for landmark in common["landmarks"]] == ["home-0", "home-1", "home-2"]
    assert [kind for kind, _ in common["setting"]["materials"]] == [BORDERS, COUNTRY_GROUPS, REFERENCE_VALUES, ROOT]
    assert sorted(basis.devices) == sorted(device.pdi for device in bench.host.devices)


def test_a_long_region_stands_once_and_apart(bench: Bench) -> None:
    """A device of another jurisdiction may be withheld (docs/protocol.md CB5), and then so is where it is."""
    attestation, inputs = _plain(bench)
    _, basis = bench.written(attestation, licensed(inputs, YARD))
    (region,) = basis.regions
    assert (region.kind, region_from_json(region.data.decode())) == (REGION, YARD)
    assert max(map(len, basis.devices.values())) < 1_000
    assert "Yard" not in basis.common + "".join(basis.devices.values())
    given = read_basis(basis.common, basis.devices, {region.sha256: region.data})
    assert {each.region for each in given.deployments.values()} == {YARD}
    for files in ({}, {region.sha256: region.data + b" "}):
        with pytest.raises(BasisError, match=f"the region with SHA-256 {region.sha256.hex()} is missing"):
            read_basis(basis.common, basis.devices, files)


def test_some_devices_are_enough_for_their_own_verdicts(bench: Bench) -> None:
    """What is withheld of one device (docs/protocol.md CB5) changes nothing about another."""
    attestation, inputs = _past(bench)
    verdict, basis = bench.written(attestation, inputs)
    shown = verdict.devices[1]
    given = read_basis(basis.common, {shown.pdi: basis.devices[shown.pdi]})
    again = given.setting.verifier(bench.by_hash).verify(attestation, given.inputs(inputs.chains))
    assert again.devices[1] == shown
    assert again.devices[0] != verdict.devices[0]


def test_a_verifier_needs_its_very_files(bench: Bench) -> None:
    digest = bench.files[0].sha256
    with pytest.raises(BasisError, match="kind borders with SHA-256"):
        bench.setting.verifier({key: data for key, data in bench.by_hash.items() if key != digest})
    with pytest.raises(BasisError, match="kind borders with SHA-256"):
        bench.setting.verifier({**bench.by_hash, digest: WORLD + b" "})
    two = replace(bench.setting, materials=(*bench.setting.materials, bench.setting.materials[1]))
    with pytest.raises(BasisError, match="one file of kind country_groups, not 2"):
        two.verifier(bench.by_hash)
    none = replace(bench.setting, materials=bench.setting.materials[1:])
    with pytest.raises(BasisError, match="one file of kind borders, not 0"):
        none.verifier(bench.by_hash)
    with pytest.raises(BasisError, match="cannot be made again: a place policy has no negative numbers"):
        replace(bench.setting, tolerated_domains=-1).verifier(bench.by_hash)
    with pytest.raises(BasisError, match="cannot be made again: no trust root"):
        replace(bench.setting, materials=bench.setting.materials[:3]).verifier(bench.by_hash)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value, containers included; of a list in its first two members."""
    children = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [path, *(leaf for key, child in children for leaf in _leaves(child, (*path, key)))]


def _put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _put(value[path[0]], path[1:], new)
    return copy


WRONG: Sequence[Any] = (None, True, -1, 1 << 200, 0.5, "", "zz", [], {}, [[]], [None], [[1, 2]], {"outside": {}})


def test_whatever_stands_where_it_does_not_belong_is_refused(bench: Bench) -> None:
    """Each value in turn is replaced by each wrong one: it is refused, or a verdict can be made with it."""
    bench = bench.under(audited_within=timedelta(hours=24), operator="Auditor 0")
    attestation, inputs = _past(bench)
    inputs = replace(inputs, landmarks=audited(bench.host, 3))
    _, basis = bench.written(attestation, replace(inputs, deployments=_regions(bench)[1].deployments))
    first, verifier = Pdi(bench.host.gpus[0].pdi), bench.verifier
    common, device = json.loads(basis.common), json.loads(basis.devices[first])
    files = {region.sha256: region.data for region in basis.regions}
    read: list[Given] = []
    refused = 0
    for part, is_common in ((common, True), (device, False)):
        for path in _leaves(part):
            for wrong in WRONG:
                bent = json.dumps(_put(part, path, wrong))
                try:
                    shown = (bent, basis.devices) if is_common else (basis.common, {first: bent})
                    read.append(read_basis(*shown, files))
                except BasisError:
                    refused += 1
    assert refused > 5 * len(read) > 0
    for given in read:
        with suppress(UsageError):  # such as a country that the borders do not have
            verifier.verify(attestation, given.inputs(inputs.chains))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "nonsense", '{"version": 2}', '{"version": NaN}', "[" * 100_000]
)
def test_what_is_no_basis_is_refused(text: str) -> None:
    with pytest.raises(BasisError):
        read_basis(text, {})


def test_numbers_and_times_are_exact(bench: Bench) -> None:
    attestation, inputs = _past(bench)
    microsecond = timedelta(microseconds=1)
    held = replace(make_license(), valid_from=NOW - 1_000_001 * microsecond, assurance=Assurance.SIGNED_RANGE)
    third = SiteDisc("Ünder «it»", Position(0.1 + 0.2, -179.99999999999997), 1 / 3)
    deployments = {pdi: Deployment(pdi, held, third, each.swap) for pdi, each in inputs.deployments.items()}
    inputs = replace(inputs, deployments=deployments, now=NOW + microsecond)
    _, basis = bench.under(border_margin_km=0.1 + 0.2, standing_for=microsecond).written(attestation, inputs)
    given = read_basis(basis.common, basis.devices)
    assert (given.deployments, given.last, given.now) == (deployments, inputs.last, inputs.now)
    assert (given.issued, given.reporter_licensee) == (inputs.challenge, inputs.reporter_licensee)
    assert (given.setting.border_margin_km, given.setting.standing_for) == (0.1 + 0.2, microsecond)


def test_the_chains_are_the_readers_to_bring(bench: Bench) -> None:
    attestation, inputs = _plain(bench)
    _, basis = bench.written(attestation, inputs)
    given = read_basis(basis.common, basis.devices)
    again = given.setting.verifier(bench.by_hash).verify(attestation, given.inputs({ChainId(bytes(32)): ()}))
    assert [refused.rejection.reason for refused in again.report_rejections] == [Reason.CHAIN_MISSING] * 3
