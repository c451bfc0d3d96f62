"""The codes that calls may carry: record categories, sensitivities, purposes of use, roles and actions.

Each is a fixed table with the meaning of its code and the standard it stands for, so that ledger, command line and
FHIR speak of the same thing. What a contract does not find here it refuses by name.
"""

from dataclasses import dataclass

LOINC = "http://loinc.org"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
PURPOSE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
CONFIDENTIALITY_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SENSITIVITY_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACTION_SYSTEM = "http://terminology.hl7.org/CodeSystem/consentaction"


@dataclass(frozen=True, slots=True)
class Category:
    """A coarse kind of record: the only thing that stands in clear about what a record contains.

    ``system`` and ``code`` are its FHIR or LOINC coding; ``resource_types`` are the FHIR R4 resources that are of
    this category unless their own coding says otherwise (an Observation says it in ``Observation.category``).
    """

    name: str
    display: str
    system: str
    code: str
    resource_types: tuple[str, ...] = ()


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category(
            "laboratory",
            "laboratory results",
            OBSERVATION_CATEGORY,
            "laboratory",
            ("DiagnosticReport", "Observation", "Specimen"),
        ),
        Category("imaging", "imaging studies", LOINC, "18748-4", ("ImagingStudy", "Media")),
        Category(
            "medication",
            "medicines",
            LOINC,
            "10160-0",
            (
                "Medication",
                "MedicationAdministration",
                "MedicationDispense",
                "MedicationRequest",
                "MedicationStatement",
            ),
        ),
        Category("condition", "problems and diagnoses", LOINC, "11450-4", ("Condition",)),
        Category("procedure", "procedures", LOINC, "47519-4", ("Procedure",)),
        Category("immunization", "immunizations", LOINC, "11369-6", ("Immunization",)),
        Category("allergy", "allergies and intolerances", LOINC, "48765-2", ("AllergyIntolerance",)),
        Category("vital-signs", "vital signs", OBSERVATION_CATEGORY, "vital-signs"),
        Category("note", "clinical notes", LOINC, "34109-9", ("ClinicalImpression", "Encounter")),
        Category(
            "document",
            "documents and summaries",
            LOINC,
            "60591-5",
            ("Bundle", "CarePlan", "CareTeam", "Composition", "DocumentReference"),
        ),
        Category("genetics", "genetic analyses", LOINC, "51969-4", ("MolecularSequence",)),
        Category("device", "devices and implants", LOINC, "46264-8", ("Device", "DeviceUseStatement")),
    )
}

SENSITIVITIES: dict[str, tuple[str, str]] = {
    "N": (CONFIDENTIALITY_SYSTEM, "normal"),
    "R": (CONFIDENTIALITY_SYSTEM, "restricted"),
    "V": (CONFIDENTIALITY_SYSTEM, "very restricted"),
    "ETH": (SENSITIVITY_SYSTEM, "substance abuse"),
    "ETHUD": (SENSITIVITY_SYSTEM, "alcohol use disorder"),
    "GDIS": (SENSITIVITY_SYSTEM, "genetic disease"),
    "HIV": (SENSITIVITY_SYSTEM, "HIV or AIDS"),
    "MH": (SENSITIVITY_SYSTEM, "mental health"),
    "OPIOIDUD": (SENSITIVITY_SYSTEM, "opioid use disorder"),
    "PSY": (SENSITIVITY_SYSTEM, "psychiatry disorder"),
    "SDV": (SENSITIVITY_SYSTEM, "sexual assault, abuse or domestic violence"),
    "SEX": (SENSITIVITY_SYSTEM, "sexuality and reproductive health"),
    "STD": (SENSITIVITY_SYSTEM, "sexually transmitted disease"),
    "SUD": (SENSITIVITY_SYSTEM, "substance use disorder"),
}
"""Labels of a record, by code: the code's system and its meaning. They stand on the ledger as keyed tags only."""

PURPOSES: dict[str, str] = {
    "HMARKT": "healthcare marketing",
    "HOPERAT": "healthcare operations",
    "CAREMGT": "care management",
    "DONAT": "donation",
    "FRAUD": "fraud",
    "GOV": "government",
    "HACCRED": "health accreditation",
    "HCOMPL": "health compliance",
    "HDECD": "decedent",
    "HDIRECT": "directory",
    "HDM": "healthcare delivery management",
    "HLEGAL": "legal",
    "HOUTCOMS": "health outcome measure",
    "HPRGRP": "health program reporting",
    "HQUALIMP": "health quality improvement",
    "HSYSADMIN": "health system administration",
    "LABELING": "labeling",
    "METAMGT": "metadata management",
    "MEMADMIN": "member administration",
    "MILCDM": "military command",
    "PATADMIN": "patient administration",
    "PATSFTY": "patient safety",
    "PERFMSR": "performance measure",
    "RECORDMGT": "records management",
    "SYSDEV": "system development",
    "HTEST": "test health data",
    "TRAIN": "training",
    "HPAYMT": "healthcare payment",
    "CLMATTCH": "claim attachment",
    "COVAUTH": "coverage authorization",
    "COVERAGE": "coverage under policy or program",
    "ELIGDTRM": "eligibility determination",
    "ELIGVER": "eligibility verification",
    "ENROLLM": "enrollment",
    "MILDCRG": "military discharge",
    "REMITADV": "remittance advice",
    "HRESCH": "healthcare research",
    "BIORCH": "biomedical research",
    "CLINTRCH": "clinical trial research",
    "CLINTRCHNPC": "clinical trial research without patient care",
    "CLINTRCHPC": "clinical trial research with patient care",
    "PRECLINTRCH": "preclinical trial research",
    "DSRCH": "disease specific healthcare research",
    "POARCH": "population origins or ancestry healthcare research",
    "TRANSRCH": "translational healthcare research",
    "PATRQT": "patient requested",
    "FAMRQT": "family requested",
    "PWATRNY": "power of attorney",
    "SUPNWK": "support network",
    "PUBHLTH": "public health",
    "DISASTER": "disaster",
    "THREAT": "threat",
    "TREAT": "treatment",
    "CLINTRL": "clinical trial",
    "COC": "coordination of care",
    "ETREAT": "emergency treatment",
    "BTG": "break the glass",
    "ERTREAT": "emergency room treatment",
    "POPHLTH": "population health",
}
"""HL7 v3 PurposeOfUse. Codes are compared for equality: a grant for TREAT is no grant for ETREAT."""

ROLES: dict[str, str] = {
    "physician": "physician",
    "nurse": "nurse",
    "midwife": "midwife",
    "dentist": "dentist",
    "pharmacist": "pharmacist",
    "paramedic": "paramedic",
    "psychologist": "psychologist",
    "therapist": "physical, occupational or speech therapist",
    "dietitian": "dietitian",
    "social-worker": "social worker",
    "laboratory-technician": "laboratory technician",
    "radiographer": "radiographer",
    "researcher": "researcher",
    "clerk": "administrative clerk",
}
"""What a member may enrol a practitioner as."""

ACTIONS: dict[str, str] = {"read": "access", "correct": "correct", "share": "disclose"}
"""What a provision may speak of, and the FHIR R4 consent action that it stands for."""


def category_of(code: str) -> str | None:
    """Return the category's name for its name, its FHIR or LOINC code, or a FHIR resource type; None if unknown."""
    if code in CATEGORIES:
        return code
    for category in CATEGORIES.values():
        if code == category.code or code in category.resource_types:
            return category.name
    return None
