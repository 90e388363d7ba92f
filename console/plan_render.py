"""A landmark plan for people, for programs and for maps."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from trigpoint.v1 import landmark_pb2, place_pb2

from console import as_json
from console.text import clean, plural

Json = as_json.Json
MAX_NAMED = 6


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page tells of the request besides the plan.

    Attributes:
        candidates: How many were given.
        max_chosen: How many of them could be chosen.
        path_factor: Length of the fibre's way over that of the great circle.
        access_ms: Round trip of last mile and device besides, milliseconds.
    """

    candidates: int
    max_chosen: int
    path_factor: float
    access_ms: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How landmarks stand today, for which a plan does not ask.

    Attributes:
        registered: Landmarks on record.
        uncounted: Those of them that the plan takes as if they counted, though today they do not.
    """

    registered: int
    uncounted: int


def page(plan: landmark_pb2.PlanLandmarksResponse, asked: Asked, standing: Standing) -> Group:
    """Return a plan as a page: how many, what to set up, each site with its landmarks, what is missing."""
    if not plan.sites:
        return Group(Text("No deployments on record; give --sites FILE."))
    total = len(plan.sites)
    now = sum(entry.provable_now for entry in plan.sites)
    then = sum(entry.provable_then for entry in plan.sites)
    head = f"{now:,} of {plural(total, 'site')} provable now"
    if plan.chosen:
        head += f", {then:,} with {plural(len(plan.chosen), 'more landmark')}"
    proof = "The server trusts every landmark (f = 0), which proves nothing."
    if plan.tolerated_domains:
        proof = f"A proof takes {plan.tolerated_domains + 1:,} failure domains, each of which shows it alone."
    parts: list[RenderableType] = [Text(head, "bold")]
    if standing.uncounted:
        parts.append(_uncounted_line(standing))
    assumed = f"Assumed: fibre runs {asked.path_factor:g} times the great circle, and {asked.access_ms:g} ms besides."
    parts.append(Text(f"{assumed} {proof}", "dim"))
    if plan.chosen:
        parts += [Text("\nSet up", "bold"), _chosen_table(plan.chosen)]
    elif asked.candidates and now < total and plan.tolerated_domains:
        most = min(asked.max_chosen, asked.candidates)
        text = f"No set of at most {most:,} of the {plural(asked.candidates, 'candidate')} makes another site provable."
        parts.append(Text(text, "yellow"))
    parts += [Text("\nSites", "bold"), _site_table(plan.sites)]
    missing = [entry for entry in plan.sites if entry.missing]
    if missing:
        parts += [Text("\nNot provable", "bold"), *(_missing_line(entry) for entry in missing)]
    return Group(*parts)


def to_json(plan: landmark_pb2.PlanLandmarksResponse, standing: Standing) -> Json:
    """Return a plan as JSON."""
    return {
        "tolerated_domains": plan.tolerated_domains,
        "registered_landmarks": standing.registered,
        "uncounted_landmarks": standing.uncounted,
        "sites": [
            {
                **_site_properties(entry.site),
                "latitude": entry.site.latitude,
                "longitude": entry.site.longitude,
                "provable_now": entry.provable_now,
                "provable_then": entry.provable_then,
                "reaches": [_reach(reach) for reach in entry.reaches],
                "missing": entry.missing or None,
            }
            for entry in plan.sites
        ],
        "chosen": [
            {
                **_candidate_properties(entry.candidate),
                "latitude": entry.candidate.latitude,
                "longitude": entry.candidate.longitude,
                "gained": list(entry.gained),
            }
            for entry in plan.chosen
        ],
    }


def to_geojson(plan: landmark_pb2.PlanLandmarksResponse, landmarks: Iterable[landmark_pb2.Landmark]) -> Json:
    """Return a plan as a FeatureCollection of points (RFC 7946): sites, landmarks that are used, chosen candidates."""
    used = {reach.name for entry in plan.sites for reach in entry.reaches if not reach.candidate}
    features = [
        _feature(
            entry.site.longitude,
            entry.site.latitude,
            {
                "kind": "site",
                **_site_properties(entry.site),
                "provable_now": entry.provable_now,
                "provable_then": entry.provable_then,
                "reaches": [_reach(reach) for reach in entry.reaches],
                "missing": entry.missing or None,
            },
        )
        for entry in plan.sites
    ]
    for landmark in landmarks:
        name = landmark.name.removeprefix("landmarks/")
        if name in used:
            properties: Json = {
                "kind": "landmark",
                "name": name,
                "operator": landmark.operator,
                "domain": landmark.domain or None,
                "virtual_machine": landmark.virtual_machine,
            }
            features.append(_feature(landmark.longitude, landmark.latitude, properties))
    features += [
        _feature(
            entry.candidate.longitude,
            entry.candidate.latitude,
            {
                "kind": "candidate",
                **_candidate_properties(entry.candidate),
                "order": number,
                "gained": list(entry.gained),
            },
        )
        for number, entry in enumerate(plan.chosen, start=1)
    ]
    return {"type": "FeatureCollection", "features": features}


def _uncounted_line(standing: Standing) -> Text:
    do, them, they = ("does", "it", "it") if standing.uncounted == 1 else ("do", "them", "they")
    registered = plural(standing.registered, "registered landmark")
    return Text(
        f"{standing.uncounted:,} of {registered} {do} not count today (trigpoint landmark audit); "
        f"the plan takes {them} as if {they} did.",
        "yellow",
    )


def _feature(longitude: float, latitude: float, properties: Json) -> Json:
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
        "properties": properties,
    }


def _site_properties(site: landmark_pb2.PlanSite) -> Json:
    presence = as_json.set_enum_name(place_pb2.Presence.Name, site.presence, "PRESENCE_")
    return {
        "name": site.name,
        "presence": presence.lower() if presence else None,
        "radius_km": site.radius_km or None,
        "country": site.country or None,
    }


def _candidate_properties(candidate: landmark_pb2.PlanCandidate) -> Json:
    return {"name": candidate.name, "operator": candidate.operator or None}


def _reach(reach: landmark_pb2.PlanReach) -> Json:
    return {
        "name": reach.name,
        "candidate": reach.candidate,
        "distance_km": as_json.finite(reach.distance_km),
        "needed_rtt_ms": as_json.finite(reach.needed_rtt_ms),
        "expected_rtt_ms": as_json.finite(reach.expected_rtt_ms),
    }


def _chosen_table(chosen: Sequence[landmark_pb2.ChosenCandidate]) -> Table:
    table = _table()
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("CANDIDATE", overflow="fold")
    table.add_column("RUN BY", overflow="fold")
    table.add_column("AT", no_wrap=True)
    table.add_column("THEN PROVABLE", overflow="fold")
    for number, entry in enumerate(chosen, start=1):
        candidate = entry.candidate
        names = ", ".join(map(clean, entry.gained[:MAX_NAMED]))
        rest = len(entry.gained) - MAX_NAMED
        gained = Text(f"{names} and {rest:,} more" if rest > 0 else names)
        table.add_row(
            str(number),
            clean(candidate.name),
            clean(candidate.operator) or Text("itself", "dim"),
            f"{candidate.latitude:.2f}, {candidate.longitude:.2f}",
            gained if entry.gained else Text("with one further down", "dim"),
        )
    return table


def _site_table(sites: Sequence[landmark_pb2.PlannedSite]) -> Table:
    table = _table()
    table.add_column("SITE", overflow="fold")
    table.add_column("PROVABLE", no_wrap=True, min_width=8)
    table.add_column("FROM", overflow="fold")
    table.add_column("KM", justify="right", no_wrap=True)
    table.add_column("NEEDS ms", justify="right", no_wrap=True)
    table.add_column("EXPECTED ms", justify="right", no_wrap=True)
    for entry in sites:
        told: list[RenderableType] = [clean(entry.site.name), Text(_asked(entry.site), "dim")]
        for line in range(max(len(told), len(entry.reaches))):
            left: list[RenderableType] = [told[line] if line < len(told) else "", _when(entry) if line == 0 else ""]
            reach = entry.reaches[line] if line < len(entry.reaches) else None
            table.add_row(*left, *([] if reach is None else _reach_cells(reach)))
    return table


def _reach_cells(reach: landmark_pb2.PlanReach) -> list[RenderableType]:
    """Rounded so that they still hold: what is needed down, what is expected up."""
    name = Text(clean(reach.name))
    if reach.candidate:
        name.append(" (new)", "yellow")
    needed = Text("never", "red")
    if reach.needed_rtt_ms > 0:
        enough = reach.needed_rtt_ms >= reach.expected_rtt_ms
        needed = Text(f"{math.floor(reach.needed_rtt_ms * 1000) / 1000:,.3f}", "green" if enough else "red")
    expected = f"{math.ceil(reach.expected_rtt_ms * 1000) / 1000:,.3f}"
    return [name, f"{reach.distance_km:,.0f}", needed, expected]


def _asked(site: landmark_pb2.PlanSite) -> str:
    if site.presence == place_pb2.PRESENCE_SITE:
        return f"site, {site.radius_km:g} km" if site.radius_km else "site"
    if site.presence == place_pb2.PRESENCE_COUNTRY:
        return f"country {clean(site.country)}".rstrip()
    return as_json.enum_name(place_pb2.Presence.Name, site.presence, "PRESENCE_").lower()


def _when(entry: landmark_pb2.PlannedSite) -> Text:
    if entry.provable_now:
        return Text("now", "green")
    return Text("then", "yellow") if entry.provable_then else Text("no", "red")


def _missing_line(entry: landmark_pb2.PlannedSite) -> Text:
    return Text.assemble((clean(entry.site.name), "bold"), f" ({_asked(entry.site)}): {clean(entry.missing)}.")


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")
