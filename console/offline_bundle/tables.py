"""Columns that this reader reads, by table, with their types. Rows of other tables are proven and not read.

A row that lacks one of them, or has another type in it, is refused before anything is made of it.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


@enum.unique
class Type(enum.Enum):
    """What a column holds."""

    INTEGER = "a whole number"
    NUMBER = "a number"
    TEXT = "a text"
    BYTES = "bytes"
    INTEGER_OR_NULL = "a whole number or nothing"
    TEXT_OR_NULL = "a text or nothing"
    BYTES_OR_NULL = "bytes or nothing"


Columns = Mapping[str, Type]


def _columns(
    *, integers: str = "", texts: str = "", blobs: str = "", others: Mapping[str, Type] | None = None
) -> Columns:
    named = [(integers, Type.INTEGER), (texts, Type.TEXT), (blobs, Type.BYTES)]
    return MappingProxyType({name: kind for names, kind in named for name in names.split()} | dict(others or {}))


KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cases": ("case_id",),
        "case_entries": ("case_id", "entry"),
        "case_findings": ("pdi", "reason", "opened_at"),
        "findings": ("pdi", "reason", "opened_at"),
        "exhibits": ("subject", "exhibit"),
        "attestations": ("challenge",),
        "evidence": ("challenge",),
        "device_verdicts": ("pdi", "challenge"),
        "chains": ("chain_id",),
        "revisions": ("name", "revision"),
        "changes": ("change_id",),
        "landmark_revisions": ("landmark_id", "revision"),
        "landmark_ranges": ("of_id", "by_id"),
        "landmark_distrust": ("landmark_id", "since"),
    }
)
"""By which a row of these tables stands once. Tags say so too, but only the service can tell what they are made of."""

TABLES: Final[Mapping[str, Columns]] = MappingProxyType(
    {
        "cases": _columns(
            integers="case_id event state severity opened_at devices entries",
            texts="title licensee license_number site_id resolution",
            others={"resolved_at": Type.INTEGER_OR_NULL},
        ),
        "case_entries": _columns(integers="case_id entry at kind", texts="by text"),
        "case_findings": _columns(
            integers="case_id reason opened_at", blobs="pdi", others={"ended_at": Type.INTEGER_OR_NULL}
        ),
        "findings": _columns(
            integers="reason opened_at severity",
            texts="detail",
            blobs="pdi",
            others={"closed_at": Type.INTEGER_OR_NULL},
        ),
        "exhibits": _columns(
            integers="exhibit at",
            texts="subject by on_behalf_of statement file_name media_type answered_by answer",
            others={"data": Type.BYTES_OR_NULL, "answered_at": Type.INTEGER_OR_NULL},
        ),
        "attestations": _columns(
            integers="issued_at received_at",
            texts="host_id agent licensee rejection_detail report_rejections result",
            blobs="challenge preimage claims_sha256 reports_sha256",
            others={"rejection": Type.INTEGER_OR_NULL},
        ),
        "evidence": _columns(texts="basis", blobs="challenge claims reports"),
        "device_verdicts": _columns(
            integers="received_at presence_proven",
            texts="findings void_ranges basis",
            blobs="pdi challenge chain_id",
            others={"standing": Type.INTEGER_OR_NULL, "fix": Type.TEXT_OR_NULL},
        ),
        "chains": _columns(blobs="chain_id certificates"),
        "revisions": _columns(
            integers="revision record_number revised_at",
            texts="name revised_by",
            others={"change_id": Type.INTEGER_OR_NULL, "record": Type.TEXT_OR_NULL},
        ),
        "changes": _columns(integers="change_id state", texts="proposed_by decided_by"),
        "landmark_revisions": _columns(
            integers="revision revised_at virtual_machine",
            texts="landmark_id operator hoster survey_method country",
            blobs="public_key operator_key operator_signature",
            others={
                "latitude": Type.NUMBER,
                "longitude": Type.NUMBER,
                "uncertainty_km": Type.NUMBER,
                "valid_from": Type.INTEGER_OR_NULL,
                "valid_until": Type.INTEGER_OR_NULL,
            },
        ),
        "landmark_ranges": _columns(
            integers="latest_at least_rtt_ns", texts="of_id by_id", blobs="challenge receipt statement answered"
        ),
        "landmark_distrust": _columns(
            integers="since", texts="landmark_id explanation", others={"ended_at": Type.INTEGER_OR_NULL}
        ),
    }
)
