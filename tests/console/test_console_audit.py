"""`trigpoint landmark audit` against a fake server."""

import json
from collections.abc import Callable
from datetime import timedelta

import grpc
import pytest
from trigpoint.v1 import landmark_pb2
from typer.testing import Result

from tests.console.helpers import FakeServices, stamp

Trigpoint = Callable[..., Result]


def contradiction(other: str, rtt_ns: int) -> landmark_pb2.Contradiction:
    return landmark_pb2.Contradiction(
        by_landmark_id=other, of_landmark_id="tokyo-shinagawa-2", rtt_ns=rtt_ns, apart_km=5312.4, reach_km=104.6
    )


def audits() -> list[landmark_pb2.LandmarkAudit]:
    """One that counts, one that too few have ranged, two that are distrusted."""
    light = landmark_pb2.LandmarkAudit(
        name="landmarks/tokyo-shinagawa-2",
        domain="an operator with a rather long name",
        why_not="tokyo-shinagawa-2 is distrusted: It and 7 other landmarks answer each other faster than light.",
        rule=landmark_pb2.AUDIT_RULE_LIGHT,
        explanation="It and 7 other landmarks answer each other faster than light in fibre allows: the largest "
        "contradiction, a round trip of 0.723 ms with singapore-1, allows 105 km, and their stated positions are "
        "5,312 km apart.",
        distrust_time=stamp(timedelta(hours=5)),
        contradictions=[contradiction(f"singapore-{n}", 723_000 + n) for n in range(1, 8)],
        ranged_by_domains=7,
        last_range_time=stamp(timedelta(minutes=12)),
        position_bound_km=5420.2,
    )
    country = landmark_pb2.LandmarkAudit(
        name="landmarks/paris-1",
        domain="seine timing",
        why_not="paris-1 is distrusted: Its stated position, 48.86, 2.35, is 10,732 km from SG.",
        rule=landmark_pb2.AUDIT_RULE_COUNTRY,
        explanation="Its stated position, 48.86, 2.35, is 10,732 km from SG, the country that it says it stands in.",
        distrust_time=stamp(timedelta(days=3)),
    )
    return [
        landmark_pb2.LandmarkAudit(
            name="landmarks/dallas",
            domain="lone star timing",
            counts=True,
            ranged_by_domains=12,
            last_range_time=stamp(timedelta(seconds=41)),
            position_bound_km=31.2,
        ),
        landmark_pb2.LandmarkAudit(
            name="landmarks/frankfurt-3",
            domain="main metrology\x1b[31m",
            why_not="frankfurt-3 was ranged by 1 other domains lately; 2 are needed",
            ranged_by_domains=1,
            last_range_time=stamp(timedelta(hours=3)),
        ),
        country,
        light,
    ]


@pytest.fixture(autouse=True)
def _audited(services: FakeServices) -> None:
    services.audits = [
        landmark_pb2.ListLandmarkAuditsResponse(audits=audits()[:1], next_page_token="next"),
        landmark_pb2.ListLandmarkAuditsResponse(audits=audits()[1:], audit_time=stamp(timedelta(seconds=30))),
    ]


def test_the_table_and_the_reasons_fit_80_columns(services: FakeServices, trigpoint: Trigpoint) -> None:
    result = trigpoint("landmark", "audit")
    assert result.exit_code == 0
    assert [request.page_token for request in services.audit_requests] == ["", "next"]
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["RANGED", "WITHIN"]
    assert lines[1].split() == ["LANDMARK", "DOMAIN", "COUNTS", "BY", "LAST", "km"]
    text = " ".join(result.stdout.split())
    assert "yes 12 41 s 32" in text
    assert "was ranged by 1" in text
    assert "no, distrusted" in text
    assert "never" in text
    assert "\x1b[31m" not in result.stdout
    # In full, beneath.
    assert "tokyo-shinagawa-2 distrusted for 5 h (since 2" in text
    assert "faster than light in fibre allows: the largest contradiction, a round trip of 0.723 ms" in text
    assert "paris-1 distrusted for 3 d (since 2" in text
    assert "10,732 km from SG, the country that it says it stands in." in text
    assert "singapore-1 tokyo-shinagawa-2 0.723 105 5,312" in text
    assert "singapore-5 tokyo-shinagawa-2" in text
    assert "singapore-6 tokyo-shinagawa-2" not in text
    assert "and 2 more (--json shows them)" in text
    told = " ".join(result.stderr.split())
    assert told == "4 landmarks, 1 counting, 2 distrusted; audited 30 s ago"


def test_a_reason_is_never_cut(trigpoint: Trigpoint) -> None:
    words = " ".join(trigpoint("landmark", "audit").stdout.split())
    for part in ("no: was ranged by 1", "other domains", "2 are needed"):
        assert part in words


def test_json_tells_all(services: FakeServices, trigpoint: Trigpoint) -> None:
    result = trigpoint("landmark", "audit", "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert set(printed) == {"audits", "audit_time"}
    assert printed["audit_time"].endswith("Z")
    counting, waiting, country, light = printed["audits"]
    assert counting["counts"] is True
    assert counting["why_not"] is counting["rule"] is counting["explanation"] is counting["distrust_time"] is None
    assert counting["position_bound_km"] == 31.2
    assert waiting["position_bound_km"] is None
    assert waiting["counts"] is False
    assert country["rule"] == "COUNTRY"
    assert country["last_range_time"] is None
    assert light["rule"] == "LIGHT"
    assert len(light["contradictions"]) == 7
    assert light["contradictions"][0] == {
        "by_landmark_id": "singapore-1",
        "of_landmark_id": "tokyo-shinagawa-2",
        "rtt_ns": 723_001,
        "apart_km": 5312.4,
        "reach_km": 104.6,
    }
    assert services.audit_requests[0].page_size == 1000


def test_nothing_registered_and_nothing_audited(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.audits = [landmark_pb2.ListLandmarkAuditsResponse()]
    result = trigpoint("landmark", "audit")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == "0 landmarks, 0 counting, 0 distrusted; audited never\n"


def test_a_denial_is_told(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.denial = (grpc.StatusCode.PERMISSION_DENIED, "role agent may not call")
    result = trigpoint("landmark", "audit")
    assert result.exit_code != 0
    assert "role agent may not call" in result.stderr
