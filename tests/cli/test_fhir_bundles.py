"""Folders of FHIR R4 Bundles, as they come from anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.fhir_bundle import BundleError, Resource, category_of, read_file, read_folder
from storage.schema.codes import CATEGORIES
from tests.support.source_tree import ROOT

PATIENT = {"resourceType": "Patient", "name": [{"given": ["Pia", "Maria"], "family": "Nord"}]}


def bundle_in(folder: Path, *resources: Any, name: str = "bundle.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"resourceType": "Bundle", "entry": [{"resource": each} for each in resources]}))
    return path


def only(folder: Path, resource: dict[str, Any]) -> Resource:
    (found,) = read_file(bundle_in(folder, PATIENT, resource)).resources
    return found


def test_what_is_sealed_are_the_bytes_of_the_bundle_to_the_last_digit_of_a_number(tmp_path: Path) -> None:
    source = b'{ "resourceType":"Observation",\n"value": 7.10, "low":1.00, "exact":0.1234567890123456789,"far":1e999}'
    bundle = b'{"resourceType":"Bundle","entry":[{"resource":%s},{"resource":%s}]}'
    path = tmp_path / "bundle.json"
    path.write_bytes(bundle % (json.dumps(PATIENT).encode(), source))

    (resource,) = read_file(path).resources

    assert resource.content == source


def test_words_of_a_bundle_cannot_move_a_terminals_cursor_or_begin_a_line(tmp_path: Path) -> None:
    words = {"code": {"text": "\x1b]0;pwned\x07 high\nfake: line"}, "meta": {"security": [{"code": "\x07"}]}}

    resource = only(tmp_path, {"resourceType": "Obs\x1b[2J", **words})

    assert (resource.title, resource.type, resource.labels) == ("?]0;pwned? high fake: line", "Obs?[2J", ("?",))


def test_a_resource_of_no_type_is_kept_as_it_is_and_half_a_character_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    bundle = b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"}},{"resource":%s}]}'

    path.write_bytes(bundle % b'{"resourceType":["x"]}')
    assert [resource.content for resource in read_file(path).resources] == [b'{"resourceType":["x"]}']

    path.write_bytes(bundle % b'{"resourceType":"Observation","code":{"text":"\\ud800"}}')
    with pytest.raises(BundleError, match="is not JSON"):
        read_file(path)


def test_a_bundle_gives_its_patient_its_physician_and_every_clinical_resource(tmp_path: Path) -> None:
    physician = {"resourceType": "Practitioner", "name": [{"given": ["Ada"]}]}
    condition = {"resourceType": "Condition", "code": {"text": "Asthma"}, "onsetDateTime": "2019-04-03T10:00:00Z"}
    elsewhere = {"resourceType": "Organization", "name": "North"}

    bundle = read_file(bundle_in(tmp_path, physician, elsewhere, PATIENT, condition))

    assert (bundle.petname, bundle.physician) == ("pia", "ada")
    (resource,) = bundle.resources
    assert (resource.type, resource.title, resource.category, resource.date) == (
        "Condition",
        "Asthma",
        "condition",
        "2019-04-03",
    )
    assert json.loads(resource.content) == condition


@pytest.mark.parametrize(
    ("resource", "category"),
    [
        ({"resourceType": "Observation", "category": [{"coding": [{"code": "laboratory"}]}]}, "laboratory"),
        ({"resourceType": "Observation", "category": {"coding": {"code": "vital-signs"}}}, "vital-signs"),
        ({"resourceType": "DiagnosticReport", "category": [{"coding": [{"code": "RAD"}]}]}, "imaging"),
        (
            {"resourceType": "DiagnosticReport", "category": [{"coding": [{"code": "x"}, {"code": "LAB"}]}]},
            "laboratory",
        ),
        ({"resourceType": "MedicationRequest", "category": [{"text": "community"}]}, "medication"),
        ({"resourceType": "AllergyIntolerance"}, "allergy"),
        ({"resourceType": "Claim"}, "document"),
        ({"resourceType": "Observation", "category": ["laboratory", None, 7]}, "document"),
    ],
)
def test_the_category_follows_from_codings_then_from_the_type(resource: dict[str, Any], category: str) -> None:
    assert category_of(resource) == category
    assert category in CATEGORIES


@pytest.mark.parametrize(
    ("fields", "day"),
    [
        ({"effectiveDateTime": "2024-05-01T10:00:00+02:00"}, "2024-05-01"),
        ({"issued": "2024-05-01", "date": "2020-01-01"}, "2024-05-01"),
        ({"effectiveDateTime": "2024-05", "date": "2020-01-01"}, "2020-01-01"),
        ({"effectiveDateTime": "yesterday, at noon"}, None),
        ({"effectiveDateTime": "2023-02-29"}, None),
        ({"effectiveDateTime": "2024-W01-1"}, None),
        ({"effectiveDateTime": 20240501}, None),
    ],
)
def test_the_clinical_day_is_a_whole_one_or_none(tmp_path: Path, fields: dict[str, Any], day: str | None) -> None:
    assert only(tmp_path, {"resourceType": "Observation", **fields}).date == day


def test_labels_are_kept_as_they_stand_for_whoever_imports_them_to_judge(tmp_path: Path) -> None:
    labelled = {
        "resourceType": "Condition",
        "meta": {"security": [{"code": "PSY"}, {"code": "HTEST"}, {"system": "x"}]},
    }

    assert only(tmp_path, labelled).labels == ("PSY", "HTEST")
    assert only(tmp_path, {"resourceType": "Condition", "meta": {"security": {"code": "R"}}}).labels == ("R",)
    assert only(tmp_path, {"resourceType": "Condition", "meta": "none"}).labels == ()


@pytest.mark.parametrize(
    ("names", "file", "petname"),
    [
        ([{"given": ["Zoë"]}], "a.json", "zo"),
        ([{"family": "Nord"}, {"given": ["O'Neil 3"]}], "a.json", "oneil"),
        ([{"given": ["李"]}], "Li_42.json", "li"),
        ([], "0042.json", "patient"),
        ("Pia", "b.json", "b"),
    ],
)
def test_a_petname_is_one_that_a_file_may_have(tmp_path: Path, names: object, file: str, petname: str) -> None:
    path = bundle_in(tmp_path, {"resourceType": "Patient", "name": names}, name=file)

    assert read_file(path).petname == petname


def test_a_file_that_is_no_bundle_of_one_patient_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in (b"", b"\xff", b"[]", b'{"resourceType": "Patient"}', b'{"resourceType": "Bundle"}', b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(BundleError, match=r"x\.json"):
            read_file(path)
    bundle_in(tmp_path, PATIENT, PATIENT, name="x.json")
    with pytest.raises(BundleError, match="2 patients"):
        read_file(path)


def test_of_a_folder_every_bundle_is_read_in_order_and_the_rest_passed_over(tmp_path: Path) -> None:
    bundle_in(tmp_path, {"resourceType": "Patient", "name": [{"given": ["Zoe"]}]}, name="2.json")
    bundle_in(tmp_path, PATIENT, name="1.json")
    (tmp_path / "0.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("no JSON")

    assert [bundle.petname for bundle in read_folder(tmp_path)] == ["pia", "zoe"]


def test_a_folder_without_bundles_is_refused_and_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=str(folder)) as refused:
            read_folder(folder)
        assert refused.value.code == "input.no_bundle"


def test_the_patients_of_the_demo_are_whole() -> None:
    bundles = read_folder(ROOT / "cli" / "patients")

    assert len(bundles) == 4
    assert all({"laboratory", "condition"} <= {each.category for each in bundle.resources} for bundle in bundles)


field_names = st.sampled_from(["coding", "code", "text", "display", "security", "given", "category", "x"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(field_names, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["category", "code", "meta", "type", "issued", "date"]), json_values))
def test_whatever_a_resource_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp()

    resource = only(folder, {"resourceType": "Observation", **fields})

    assert resource.category in CATEGORIES
    assert len(resource.title) <= 60
