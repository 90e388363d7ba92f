"""Files in the format of the Consolidated Screening List, with invented entries."""

import csv
import io
from collections.abc import Iterable, Mapping

COLUMN_NAMES = (
    "_id,source,entity_number,type,programs,name,title,addresses,federal_register_notice,start_date,end_date,"
    "standard_order,license_requirement,license_policy,call_sign,vessel_type,gross_tonnage,gross_registered_tonnage,"
    "vessel_flag,vessel_owner,remarks,source_list_url,alt_names,citizenships,dates_of_birth,nationalities,"
    "places_of_birth,source_information_url,ids"
)
COLUMNS = COLUMN_NAMES.split(",")
SOURCE = "Entity List (EL) - Example Bureau"


def entry(entry_id: str, name: str, *alt_names: str, kind: str = "", **more: str) -> dict[str, str]:
    """One row."""
    given = {"_id": entry_id, "source": SOURCE, "type": kind, "name": name, "alt_names": "; ".join(alt_names)}
    return {**dict.fromkeys(COLUMNS, ""), **given, **more}


def file_of(rows: Iterable[Mapping[str, str]], columns: Iterable[str] = COLUMNS) -> bytes:
    """A file of these rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


ROWS = (
    entry(
        "e1", "Zarvelin Dynamics Co., Ltd.", "ZD Optronics", "ЗАРВЕЛИН", programs="X-EO1; X-EO2", remarks="for tests"
    ),
    entry("e2", "OLEGOVIN, Petrak Maximovin", kind="Individual", addresses="1 Example Street, Nowhere; 2 Other Road"),
    entry("e3", "QORVATHIA", kind="Vessel", vessel_flag="Nowhere"),
)
