"""`trigpoint landmark plan`: which sites landmarks can prove, and which more would prove most of the others."""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated

import grpc
import typer
from trigpoint.v1 import landmark_pb2

from console import plan_render
from console.audit import read_audits
from console.desk import CALL_TIMEOUT_S, Desk, with_desk
from console.exits import CommandError, ExitCode
from console.plan_files import read_candidates, read_sites
from console.text import clean, instant

PLAN_TIMEOUT_S = 600.0  # 10,000 sites and 10,000 candidates take a minute, and the server makes one plan at a time
PAGE_SIZE = 1000

_ROW = re.compile(r"^(sites|candidates)\[(\d+)\]\.?")


@with_desk
def plan_landmarks(
    desk: Desk,
    *,
    sites: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV (name, presence, latitude, longitude, radius_km, country) or GeoJSON points. Else: on record.",
        ),
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where landmarks could be set up: CSV (name, operator, latitude, longitude) or GeoJSON points.",
        ),
    ] = None,
    max_: Annotated[int, typer.Option("--max", min=1, max=10_000, help="Choose no more candidates than this.")] = 10,
    path_factor: Annotated[
        float, typer.Option(min=1, max=10, help="Length of the fibre's way over that of the great circle.")
    ] = 1.5,
    access_ms: Annotated[
        float, typer.Option(min=0.001, max=1000, help="Round trip of last mile and device besides, milliseconds.")
    ] = 0.1,
    geojson: Annotated[bool, typer.Option("--geojson", help="GeoJSON alone on stdout, for a map.")] = False,
) -> None:
    """Say which sites are provable today, what round trips that takes, and which candidates to set up."""
    if geojson and desk.json:
        raise CommandError(ExitCode.UNUSABLE, "give one of --json and --geojson")
    request = landmark_pb2.PlanLandmarksRequest(
        sites=read_sites(sites) if sites else (),
        candidates=read_candidates(candidates) if candidates else (),
        max_chosen=max_,
        path_factor=path_factor,
        access_ms=access_ms,
    )
    plan = _ask(desk, request, {"sites": sites, "candidates": candidates})
    if geojson:
        desk.print_json(plan_render.to_geojson(plan, _landmarks(desk)))
        return
    standing = _standing(desk)
    if desk.json:
        desk.print_json(plan_render.to_json(plan, standing))
    else:
        asked = plan_render.Asked(len(request.candidates), max_, path_factor, access_ms)
        desk.out.print(plan_render.page(plan, asked, standing))


def _ask(
    desk: Desk, request: landmark_pb2.PlanLandmarksRequest, files: dict[str, Path | None]
) -> landmark_pb2.PlanLandmarksResponse:
    """Ask the server; what it finds wrong with an entry is told with the file's row.

    Raises:
        CommandError: UNUSABLE, the server cannot use a row: a country that it does not know.
        grpc.RpcError: Anything else.
    """
    try:
        return desk.landmarks.PlanLandmarks(request, timeout=PLAN_TIMEOUT_S)
    except grpc.RpcError as error:
        details = _details(error)
        found = _ROW.match(details)
        if found is None:
            raise
        text = f"{files[found[1]]}: row {int(found[2]) + 1}: {details[found.end() :]}"
        raise CommandError(ExitCode.UNUSABLE, text) from error


def _details(error: object) -> str:
    return clean(error.details() or "") if isinstance(error, grpc.Call) else ""


def _standing(desk: Desk) -> plan_render.Standing:
    """Ask how landmarks stand today. The plan leaves out those that are distrusted, and records that are not valid."""
    audits, _ = read_audits(desk)
    waiting = {entry.name for entry in audits if not entry.counts and not entry.rule}
    if waiting:
        waiting &= {entry.name for entry in _landmarks(desk) if _is_valid(entry, desk.now)}
    return plan_render.Standing(registered=len(audits), uncounted=len(waiting))


def _is_valid(landmark: landmark_pb2.Landmark, now: datetime) -> bool:
    if landmark.HasField("valid_from") and now < instant(landmark.valid_from):
        return False
    return not landmark.HasField("valid_until") or now < instant(landmark.valid_until)


def _landmarks(desk: Desk) -> list[landmark_pb2.Landmark]:
    landmarks: list[landmark_pb2.Landmark] = []
    token = ""
    while True:
        request = landmark_pb2.ListLandmarksRequest(page_size=PAGE_SIZE, page_token=token)
        page = desk.landmarks.ListLandmarks(request, timeout=CALL_TIMEOUT_S)
        landmarks.extend(page.landmarks)
        token = page.next_page_token
        if not token:
            return landmarks
