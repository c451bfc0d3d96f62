"""Who plays what in the demo, whatever the Bundles hold."""

from pathlib import Path

import pytest

from cli.fhir_bundle import BundleError, PatientBundle, Resource
from cli.story_cast import INVENTED_LABELS, PHYSICIAN, cast, distinct


def resource(category: str, *labels: str) -> Resource:
    return Resource("Observation", category, category, None, labels, category.encode())


def bundle(name: str, *resources: Resource) -> PatientBundle:
    return PatientBundle(Path(f"{name}.json"), name, None, resources)


def test_a_laboratory_result_is_read_something_else_is_not_and_a_label_is_invented() -> None:
    note, lab, document = resource("note"), resource("laboratory"), resource("document")

    order, parts = cast([bundle("pia", document, note, lab)])

    assert [each.petname for each in order] == ["pia"]
    assert (parts.category, parts.readable, parts.other, parts.labelled) == ("laboratory", 2, 1, None)
    assert parts.label == INVENTED_LABELS[0]


def test_a_label_of_the_bundles_own_takes_the_place_of_an_invented_one() -> None:
    lab, labelled = resource("laboratory", "N"), resource("laboratory", "N", "HIV")

    _, parts = cast([bundle("pia", labelled, lab, resource("note"))])

    assert (parts.label, parts.readable, parts.labelled) == ("HIV", 1, 0)


def test_where_every_record_carries_the_label_that_would_be_invented_another_is() -> None:
    _, parts = cast([bundle("pia", resource("laboratory", "PSY"), resource("laboratory", "PSY"), resource("note"))])

    assert (parts.label, parts.readable, parts.labelled) == ("HIV", 0, None)


def test_labels_that_are_no_sensitivities_play_no_part() -> None:
    _, parts = cast([bundle("pia", resource("laboratory", "HTEST"), resource("laboratory"), resource("note"))])

    assert (parts.label, parts.readable, parts.labelled) == ("PSY", 0, None)


def test_without_laboratory_results_another_category_is_granted() -> None:
    _, parts = cast([bundle("pia", resource("imaging"), resource("note"))])

    assert (parts.category, parts.readable, parts.other) == ("imaging", 0, 1)


def test_a_patient_with_records_of_one_category_shows_no_other() -> None:
    _, parts = cast([bundle("pia", resource("imaging"), resource("imaging"))])

    assert parts.other is None


def test_the_bundle_that_tells_the_most_comes_first_and_the_others_stay_in_order() -> None:
    people_only, one, two = (
        bundle("a"),
        bundle("b", resource("note")),
        bundle("c", resource("note"), resource("imaging")),
    )
    best = bundle("d", resource("laboratory"), resource("imaging"))

    order, _ = cast([people_only, one, two, best])

    assert [each.petname for each in order] == ["d", "a", "b", "c"]


def test_bundles_without_any_record_are_refused() -> None:
    with pytest.raises(BundleError):
        cast([bundle("pia"), bundle("zoe")])


def test_names_are_made_distinct_and_keep_clear_of_the_invented_physician() -> None:
    names = distinct(["pia", PHYSICIAN, "pia", "pia-2", "pia"])

    assert names == ["pia", f"{PHYSICIAN}-2", "pia-2", "pia-2-2", "pia-3"]
