"""Reads folders of HL7 FHIR R4 Bundles: whose they are, and which records they hold under which category.

People (Patient, Practitioner, Organization …) are not records; every other resource becomes one, in the coarse
category that its type and its ``category`` codings name. What no category fits is a ``document``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from cli.errors import CliError, printable

BUNDLE_BYTES_MAX = 64 << 20
PEOPLE_AND_PLACES = frozenset(
    {"Patient", "Practitioner", "PractitionerRole", "Organization", "Location", "RelatedPerson", "Person", "Group"}
)
CATEGORY_OF_TYPE = {
    "AllergyIntolerance": "allergy",
    "Condition": "condition",
    "Device": "device",
    "DeviceUseStatement": "device",
    "DocumentReference": "document",
    "ImagingStudy": "imaging",
    "Immunization": "immunization",
    "Medication": "medication",
    "MedicationAdministration": "medication",
    "MedicationDispense": "medication",
    "MedicationRequest": "medication",
    "MedicationStatement": "medication",
    "MolecularSequence": "genetics",
    "Procedure": "procedure",
}
CATEGORY_OF_CODING = {
    "laboratory": "laboratory",
    "LAB": "laboratory",
    "imaging": "imaging",
    "RAD": "imaging",
    "GE": "genetics",
    "procedure": "procedure",
    "vital-signs": "vital-signs",
    "clinical-note": "note",
}
_DATES = ("effectiveDateTime", "issued", "recordedDate", "onsetDateTime", "authoredOn", "occurrenceDateTime", "date")


class BundleError(CliError):
    """A file or folder is not what was asked for: FHIR R4 Bundles with one patient each."""

    def __init__(self, message: str) -> None:
        """Say what it is instead."""
        super().__init__("input.no_bundle", message)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a Bundle, as it will be sealed: ``content`` are the Bundle's own bytes, to the last digit.

    FHIR keeps 7.10 apart from 7.1: what was measured so precisely must not come back otherwise.
    """

    type: str
    title: str
    category: str
    date: str | None
    labels: tuple[str, ...]
    content: bytes


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw(b"null")


class _Bundle(msgspec.Struct, tag_field="resourceType", tag="Bundle"):
    entry: list[_Entry] | None = None


@dataclass(frozen=True, slots=True)
class PatientBundle:
    """One patient's Bundle: the given name for a petname, the physician it names, and its records."""

    path: Path
    petname: str
    physician: str | None
    resources: tuple[Resource, ...]


def read_folder(folder: Path) -> list[PatientBundle]:
    """Read every Bundle of a folder, in the order of the files' names; other JSON files are passed over.

    Raises:
        BundleError: no folder, or no Bundle with a Patient in it.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder")
    bundles = []
    for path in sorted(folder.glob("*.json")):
        try:
            bundles.append(read_file(path))
        except BundleError:
            continue
    if not bundles:
        raise BundleError(f"{folder} holds no FHIR R4 Bundle with a Patient in it")
    return bundles


def read_file(path: Path) -> PatientBundle:
    """Read one Bundle.

    Raises:
        BundleError: too large, not JSON, not a Bundle, or not of exactly one patient.
    """
    if path.stat().st_size > BUNDLE_BYTES_MAX:
        raise BundleError(f"{path} is larger than {BUNDLE_BYTES_MAX} bytes")
    resources = [(_type_of(resource), resource, content) for resource, content in _resources(path)]
    patients = [resource for kind, resource, _ in resources if kind == "Patient"]
    if len(patients) != 1:
        raise BundleError(f"{path} holds {len(patients)} patients; one Bundle is one patient's")
    physicians = [resource for kind, resource, _ in resources if kind == "Practitioner"]
    return PatientBundle(
        path,
        _petname(patients[0]) or _letters(path.stem) or "patient",
        _petname(physicians[0]) if physicians else None,
        tuple(_record(resource, content) for kind, resource, content in resources if kind not in PEOPLE_AND_PLACES),
    )


def _resources(path: Path) -> Sequence[tuple[dict[str, Any], bytes]]:
    """Return each resource of a Bundle, and the bytes of the file that it was read from."""
    try:
        bundle = msgspec.json.decode(path.read_bytes(), type=_Bundle)
        contents = [bytes(entry.resource) for entry in bundle.entry or ()]
        # What numbers mean is for the reader; whoever reads them here looks at words alone.
        found = [(json.loads(content, parse_float=str, parse_constant=str), content) for content in contents]
    except msgspec.ValidationError:
        raise BundleError(f"{path} is not a FHIR Bundle") from None
    except (ValueError, RecursionError):
        raise BundleError(f"{path} is not JSON") from None
    return [(resource, content) for resource, content in found if isinstance(resource, dict)]


def _type_of(resource: dict[str, Any]) -> str:
    return printable(str(resource.get("resourceType", "unknown")))


def _petname(person: dict[str, Any]) -> str | None:
    """The first given name in letters that a file may be called by."""
    for name in _list(person.get("name")):
        for given in _list(name.get("given")) if isinstance(name, dict) else []:
            if letters := _letters(str(given)):
                return letters
    return None


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if "a" <= letter <= "z")[:24]


def _record(resource: dict[str, Any], content: bytes) -> Resource:
    return Resource(
        type=_type_of(resource),
        # Its words come from outside, and go to a terminal.
        title=" ".join(printable(_title(resource)).split()),
        category=category_of(resource),
        date=_date(resource),
        labels=_labels(resource),
        content=content,
    )


def category_of(resource: dict[str, Any]) -> str:
    """Return the coarse category of a resource: its codings first, then its type."""
    for concept in _list(resource.get("category")):
        for coding in _list(concept.get("coding")) if isinstance(concept, dict) else []:
            category = CATEGORY_OF_CODING.get(str(coding.get("code"))) if isinstance(coding, dict) else None
            if category is not None:
                return category
    return CATEGORY_OF_TYPE.get(str(resource.get("resourceType")), "document")


def _title(resource: dict[str, Any]) -> str:
    for field in ("code", "medicationCodeableConcept", "vaccineCode", "type"):
        for concept in _list(resource.get(field)):
            if not isinstance(concept, dict):
                continue
            codings = [coding for coding in _list(concept.get("coding")) if isinstance(coding, dict)]
            text = concept.get("text") or next((c["display"] for c in codings if c.get("display")), None)
            if text:
                return str(text)[:60]
    return str(resource.get("resourceType", "unknown"))


def _date(resource: dict[str, Any]) -> str | None:
    for field in _DATES:
        value = resource.get(field)
        # FHIR lets a date be a year or a month alone; a record's day is a whole one or none.
        if isinstance(value, str) and _is_day(value[:10]):
            return value[:10]
    return None


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _labels(resource: dict[str, Any]) -> tuple[str, ...]:
    meta = resource.get("meta")
    security = _list(meta.get("security")) if isinstance(meta, dict) else []
    return tuple(printable(str(coding["code"])) for coding in security if isinstance(coding, dict) and "code" in coding)


def _list(value: Any) -> list[Any]:
    """FHIR repeats most elements; a single one stands alone in some servers' output."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
