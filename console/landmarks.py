"""`trigpoint landmark`: list, import; its other commands are in plan.py, audit.py and exhibits.py."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from trigpoint.v1 import landmark_pb2

from console import as_json, exhibits, record_render, render
from console.audit import audit_landmarks
from console.desk import CALL_TIMEOUT_S, Desk, with_desk
from console.exits import CommandError, ExitCode, from_rpc
from console.plan import plan_landmarks
from console.problems import like, said
from console.text import clean, plural

PAGE_SIZE = 1000
# How the server names a field of the request that it refuses.
_REFUSED = re.compile(r"landmarks\[(\d{1,9})\]\.(.+)")

app = typer.Typer(no_args_is_help=True, help="Ranging landmarks.")
app.command("plan")(plan_landmarks)
app.command("audit")(audit_landmarks)
app.command("appeal")(exhibits.appeal)
app.command("appeals")(exhibits.appeals)
app.command("answer")(exhibits.answer_appeal)


class LandmarkRecord(BaseModel):
    """One object of an import file: fields of trigpoint.v1.Landmark, bytes in hex, `id` or `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, like("[a-z0-9-]{1,63}", "must be 1 to 63 of a-z, 0-9 and -")] = ""
    name: Annotated[str, like("landmarks/[a-z0-9-]{1,63}", "must be landmarks/ and 1 to 63 of a-z, 0-9 and -")] = ""
    public_key: Annotated[str, like("[0-9a-fA-F]{64}", "must be 64 hex digits")]
    operator: str
    hoster: str
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    uncertainty_km: Annotated[float, Field(ge=0)]
    survey_method: str | None = None
    virtual_machine: bool = False
    endpoints: Annotated[list[str], Field(min_length=1, max_length=4)]
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None
    country: Annotated[str, like("[A-Z]{2}", "is no ISO 3166-1 alpha-2 code, upper case")]
    operator_key: Annotated[str, like("([0-9a-fA-F]{64})?", "must be 64 hex digits")] | None = None
    operator_signature: Annotated[str, like("([0-9a-fA-F]{2})*", "must be pairs of hex digits")] | None = None
    # What `landmark list --json` prints and the server alone decides.
    revision: int = 0
    revise_time: str | None = None
    domain: str | None = None

    def message(self) -> landmark_pb2.Landmark:
        """Return the record as the server takes it."""
        return landmark_pb2.Landmark(
            name=self.name or f"landmarks/{self.id}",
            public_key=bytes.fromhex(self.public_key),
            operator=self.operator,
            hoster=self.hoster,
            latitude=self.latitude,
            longitude=self.longitude,
            uncertainty_km=self.uncertainty_km,
            survey_method=self.survey_method or "",
            virtual_machine=self.virtual_machine,
            endpoints=self.endpoints,
            valid_from=_stamp(self.valid_from),
            valid_until=_stamp(self.valid_until),
            country=self.country,
            operator_key=bytes.fromhex(self.operator_key or ""),
            operator_signature=bytes.fromhex(self.operator_signature or ""),
        )


@app.command("list")
@with_desk
def list_landmarks(desk: Desk) -> None:
    """List all landmarks in the order of their names."""
    landmarks: list[landmark_pb2.Landmark] = []
    token = ""
    while True:
        request = landmark_pb2.ListLandmarksRequest(page_size=PAGE_SIZE, page_token=token)
        page = desk.landmarks.ListLandmarks(request, timeout=CALL_TIMEOUT_S)
        landmarks.extend(page.landmarks)
        token = page.next_page_token
        if not token:
            break
    if desk.json:
        desk.print_json({"landmarks": [as_json.landmark(entry) for entry in landmarks]})
        return
    if landmarks:
        desk.out.print(render.landmark_list(landmarks))
    desk.err.print(plural(len(landmarks), "landmark"))


@app.command("import")
@with_desk
def import_landmarks(
    desk: Desk,
    *,
    files: Annotated[list[Path], typer.Argument(help="JSON arrays of landmarks.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count, change nothing.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it stands in the history.", show_default=False)] = "",
) -> None:
    """Propose landmarks, or new revisions of them: all of all files, or none. A second person approves."""
    given = [(f"{file}: landmark {n}", record) for file in files for n, record in enumerate(_records(file), start=1)]
    request = landmark_pb2.ImportLandmarksRequest(
        landmarks=[record.message() for _, record in given], validate_only=dry_run, reason=reason
    )
    try:
        response = desk.landmarks.ImportLandmarks(request, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        found = _REFUSED.fullmatch(from_rpc(error, desk.target).message)
        if found is None or int(found[1]) >= len(given):
            raise
        place, _ = given[int(found[1])]
        raise CommandError(ExitCode.UNUSABLE, f"{place}, {found[2]}; nothing was imported") from error
    if desk.json:
        desk.print_json(as_json.landmark_import(response, validate_only=dry_run))
        return
    desk.out.print(
        f"{plural(len(request.landmarks), 'landmark')}: {response.created_count:,} would be created, "
        f"{response.updated_count:,} would be updated, {response.unchanged_count:,} unchanged"
    )
    if response.HasField("change"):
        desk.out.print(record_render.waiting(response.change))


def _records(file: Path) -> list[LandmarkRecord]:
    """Read the file.

    Raises:
        CommandError: UNUSABLE, with one line a problem: which object, which field, what is wrong.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: not JSON: {error}") from error
    if isinstance(content, dict) and set(content) == {"landmarks"}:
        content = content["landmarks"]  # as `landmark list --json` prints it
    try:
        records = TypeAdapter(list[LandmarkRecord]).validate_python(content)
    except ValidationError as error:
        problems = "\n".join(
            f"  {_place(item['loc'])}: {said(item['type'], item['msg'], item.get('ctx', {}))}"
            for item in error.errors()
        )
        raise CommandError(ExitCode.UNUSABLE, f"{file}: nothing was imported\n{problems}") from error
    for number, record in enumerate(records, start=1):
        if bool(record.id) == bool(record.name):
            raise CommandError(ExitCode.UNUSABLE, f"{file}: landmark {number}: give one of id and name")
    return records


def _place(location: tuple[int | str, ...]) -> str:
    if not location or not isinstance(location[0], int):
        return "file"
    field = ".".join(clean(str(part)) for part in location[1:])
    return f"landmark {location[0] + 1}" + (f", {field}" if field else "")


def _stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
