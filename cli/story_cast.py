"""Who plays which part in the demo: chosen from any folder of Bundles, whatever they hold, labelled or not."""

from collections.abc import Sequence
from dataclasses import dataclass

from cli.fhir_bundle import BundleError, PatientBundle, Resource
from storage.schema.codes import SENSITIVITIES

PHYSICIAN = "ben"
HOME_PHYSICIAN = "ada"
PREFERRED = "laboratory"
INVENTED_LABELS = ("PSY", "HIV")


@dataclass(frozen=True, slots=True)
class Cast:
    """The main patient's records by their part.

    ``category`` and ``label`` are what the patient's grant covers and excepts; positions count the main Bundle's
    resources. ``labelled`` is None if no resource of the category carries the label: then the story invents one;
    ``other`` is None if the patient has records of one category only.
    """

    category: str
    label: str
    readable: int
    labelled: int | None
    other: int | None


def cast(bundles: Sequence[PatientBundle]) -> tuple[list[PatientBundle], Cast]:
    """Put the Bundle that tells the most first, and say which of its resources plays what.

    Raises:
        BundleError: none of the Bundles holds a record.
    """
    filled = [bundle for bundle in bundles if bundle.resources]
    if not filled:
        raise BundleError("the Bundles hold no clinical resource, only people and places")
    main = max(filled, key=_worth)
    return [main, *(bundle for bundle in bundles if bundle is not main)], _cast(main.resources)


def _worth(bundle: PatientBundle) -> tuple[bool, bool]:
    categories = {resource.category for resource in bundle.resources}
    return len(categories) > 1, PREFERRED in categories


def _cast(resources: Sequence[Resource]) -> Cast:
    categories = [resource.category for resource in resources]
    category = PREFERRED if PREFERRED in categories else categories[0]
    inside = [index for index, name in enumerate(categories) if name == category]
    outside = [index for index, name in enumerate(categories) if name != category]
    # A document rarely says what it is about; a telling category makes the better story.
    outside.sort(key=lambda index: categories[index] == "document")
    label, readable, labelled = _labels(resources, inside)
    return Cast(category, label, readable, labelled, outside[0] if outside else None)


def _labels(resources: Sequence[Resource], inside: Sequence[int]) -> tuple[str, int, int | None]:
    """Find a label that some records of the category carry and some do not; else invent one that the first has not."""
    # What is sensitive of a kind tells more than the degrees of confidentiality, which come first in HL7's order.
    for label in reversed(SENSITIVITIES):
        carriers = [index for index in inside if label in resources[index].labels]
        others = [index for index in inside if index not in carriers]
        if carriers and others:
            return label, others[0], carriers[0]
    carried = resources[inside[0]].labels
    return next(label for label in INVENTED_LABELS if label not in carried), inside[0], None


def distinct(names: Sequence[str]) -> list[str]:
    """Number the second and later ones of a name, and keep clear of the invented physician's."""
    taken = {PHYSICIAN}
    result = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.add(candidate)
        result.append(candidate)
    return result
