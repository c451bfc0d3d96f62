import csv
import io
import json
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.operated_nodes import Operated

RESULT = b'{"resourceType": "Observation", "status": "final", "valueQuantity": {"value": 7.2}}'


def add_record(network: Operated, category: str = "laboratory", *more: str) -> str:
    path = network.folder / "result.json"
    path.write_bytes(RESULT)
    answer = network.ask(
        "record", "add", str(path), "--patient", "pia", "--category", category, "--node", "north", *more
    )
    record: str = answer["record"]
    return record


def grant(network: Operated, *more: str) -> str:
    answer = network.ask("consent", "grant", "--patient", "pia", "--purpose", "TREAT", "--node", "north", *more)
    consent: str = answer["consent"]
    return consent


def reading(record: str, out: Path, who: str = "ben") -> tuple[str, ...]:
    return ("record", "get", record, "--as", who, "--purpose", "TREAT", "--node", "south", "--out", str(out))


def test_a_physician_reads_under_consent_byte_for_byte_and_not_after_its_revocation(network: Operated) -> None:
    record, out = add_record(network), network.folder / "read.json"

    before = network.refusal(*reading(record, out), exit_code=4)
    consent = grant(network, "--to", "ben", "--category", "laboratory", "--until", "7d")
    answer = network.ask(*reading(record, out))
    network.ask("consent", "revoke", consent, "--node", "north")
    after = network.refusal(*reading(record, network.folder / "again.json"), exit_code=4)

    assert before["code"] == after["code"] == "consent.denied"
    assert before["transaction"] != after["transaction"]
    assert out.read_bytes() == RESULT
    assert out.stat().st_mode & 0o777 == 0o600
    assert not (network.folder / "again.json").exists()
    assert answer["schema"] == "caretrace.record.get/1"
    assert answer["record"] == record
    assert answer["consent"] == consent
    assert (answer["bytes"], answer["sha256"]) == (len(RESULT), sha256(RESULT).hexdigest())
    assert answer["access"].startswith("a-")
    assert network.ask("ledger", "tx", answer["served"], "--node", "south")["method"] == "access.served"
    assert network.ask("ledger", "tx", answer["served"], "--node", "south")["height"] == answer["height"]


def test_content_goes_to_standard_output_alone_when_no_file_is_named(network: Operated) -> None:
    record = add_record(network)
    grant(network, "--to", "south/physician")

    result = network.run("record", "get", record, "--as", "ben", "--purpose", "TREAT", "--node", "south")

    assert result.exit_code == 0
    assert result.stdout_bytes == RESULT
    assert "served" in result.stderr


def test_what_can_be_known_to_fail_takes_no_permit(network: Operated) -> None:
    record, out = add_record(network), network.folder / "read.json"
    grant(network, "--to", "ben", "--uses", "1")
    get = ("record", "get", record, "--as", "ben", "--purpose", "TREAT")

    elsewhere = network.refusal(*get, "--node", "north", "--out", str(out), exit_code=4)
    nowhere = network.refusal(*get, "--node", "south", "--out", str(network.folder / "none" / "x"), exit_code=1)
    answer = network.ask(*get, "--node", "south", "--out", str(out))

    assert (elsewhere["code"], nowhere["code"]) == ("access.other_member", "system.error")
    assert out.read_bytes() == RESULT
    assert answer["served"]


def test_what_was_permitted_once_can_be_asked_for_again_and_takes_no_second_permit(network: Operated) -> None:
    record, out = add_record(network), network.folder / "again.json"
    grant(network, "--to", "ben", "--uses", "1")
    get = ("record", "get", record, "--as", "ben", "--node", "south", "--out", str(out))
    first = network.ask(*get, "--purpose", "TREAT")
    out.unlink()

    again = network.ask(*get, "--access", first["access"])

    assert out.read_bytes() == RESULT
    assert (again["access"], again["served"], again["transaction"]) == tuple(
        first[field] for field in ("access", "served", "transaction")
    )
    assert network.refusal(*get, "--purpose", "TREAT", exit_code=4)["code"] == "consent.denied"


def test_nobody_reads_by_the_access_of_another(network: Operated) -> None:
    record, out = add_record(network), network.folder / "other.json"
    grant(network, "--to", "ben")
    read = ("record", "get", record, "--out", str(out))
    access = network.ask(*read, "--as", "ben", "--purpose", "TREAT", "--node", "south")["access"]

    refused = network.refusal(*read, "--as", "pia", "--access", access, "--node", "north", exit_code=5)

    assert refused["code"] == "access.not_found"


def test_patients_read_their_own_records_at_the_hospital_that_keeps_them(network: Operated) -> None:
    record, out = add_record(network), network.folder / "own.json"

    arguments = ("record", "get", record, "--as", "pia", "--purpose", "PATRQT", "--node", "north")
    answer = network.ask(*arguments, "--out", str(out))

    assert out.read_bytes() == RESULT
    assert answer["consent"] is None


@pytest.mark.parametrize(
    "limits",
    [
        ("--to", "ben", "--category", "imaging"),
        ("--to", "ben", "--except", "laboratory"),
        ("--to", "ben", "--from", "2099-01-01"),
        ("--to", "north"),
        ("--to", "north/physician"),
        ("--to", "south/nurse"),
    ],
    ids=" ".join,
)
def test_a_grant_covers_nothing_beyond_its_limits(network: Operated, limits: tuple[str, ...]) -> None:
    record = add_record(network)
    grant(network, *limits)

    assert network.refusal(*reading(record, network.folder / "x"), exit_code=4)["code"] == "consent.denied"


@pytest.mark.parametrize(
    "limits",
    [
        ("--to", "ben"),
        ("--to", "south"),
        ("--to", "south/physician", "--to", "north"),
        ("--to", "ben", "--category", "18748-4", "--category", "Observation"),
        ("--to", "ben", "--except", "imaging", "--except", "PSY"),
        ("--to", "ben", "--until", "30m", "--uses", "1"),
    ],
    ids=" ".join,
)
def test_a_grant_covers_what_it_says(network: Operated, limits: tuple[str, ...]) -> None:
    record, out = add_record(network), network.folder / "x"
    grant(network, *limits)

    network.ask(*reading(record, out))

    assert out.read_bytes() == RESULT


def test_a_labelled_record_is_left_out_of_a_grant_that_excepts_the_label(network: Operated) -> None:
    open_record, labelled = add_record(network), add_record(network, "laboratory", "--sensitivity", "PSY")
    grant(network, "--to", "ben", "--except", "PSY")

    network.ask(*reading(open_record, network.folder / "x"))
    refused = network.refusal(*reading(labelled, network.folder / "y"), exit_code=4)

    assert refused["code"] == "consent.denied"


def test_labels_are_asked_of_the_hospital_that_keeps_the_records_only(shared: Operated) -> None:
    arguments = ("consent", "grant", "--patient", "pia", "--to", "ben", "--purpose", "TREAT", "--except", "PSY")

    refused = shared.refusal(*arguments, "--node", "south", exit_code=2)

    assert "north" in refused["message"]


def test_an_exclusion_shuts_out_what_is_granted_until_it_is_ended(network: Operated) -> None:
    record = add_record(network)
    grant(network, "--to", "ben")
    exclusion = network.ask("consent", "exclude", "--patient", "pia", "--to", "south", "--node", "north")["exclusion"]

    refused = network.refusal(*reading(record, network.folder / "x"), exit_code=4)
    network.ask("consent", "end-exclusion", exclusion, "--node", "north")
    network.ask(*reading(record, network.folder / "x"))

    assert refused["code"] == "consent.denied"


def test_a_check_tells_the_patient_which_provision_decides_and_others_only_the_answer(network: Operated) -> None:
    record = add_record(network)
    consent = grant(network, "--to", "ben")
    question = ("consent", "check", "--to", "ben", "--record", record[:10], "--purpose", "TREAT", "--node", "north")

    to_patient, to_others = network.ask(*question, "--as", "pia"), network.ask(*question)
    denied = network.ask(*question[:-3], "HRESCH", "--node", "north")

    assert (to_patient["decision"], to_patient["consent"]) == ("permit", consent)
    assert consent in to_patient["because"]
    assert to_others["decision"] == "permit"
    assert "consent" not in to_others
    assert (denied["decision"], denied["code"]) == ("deny", "consent.denied")


def test_a_practitioner_who_is_revoked_reads_nothing_more(network: Operated) -> None:
    record = add_record(network)
    grant(network, "--to", "ben")

    network.ask("practitioner", "revoke", "ben", "--node", "south")
    refused = network.refusal(*reading(record, network.folder / "x"), exit_code=4)

    assert refused["code"] == "identity.revoked"
    assert network.ask("practitioner", "list", "--node", "south")["practitioners"][0]["status"] == "revoked"


def test_the_trail_shows_who_asked_who_read_and_what_was_refused(network: Operated) -> None:
    record = add_record(network)
    network.refusal(*reading(record, network.folder / "x"), exit_code=4)
    grant(network, "--to", "ben")
    network.ask(*reading(record, network.folder / "x"))

    entries = network.ask("audit", "patient", "pia", "--node", "north")["entries"]
    table = network.run("audit", "patient", "pia", "--node", "north", "--without", "people,consents,records").output
    rows = list(csv.DictReader(io.StringIO(network.run("audit", "record", record, "--format", "csv").output)))
    as_json = json.loads(network.run("audit", "record", record, "--format", "json").output)
    future = network.ask("audit", "patient", "pia", "--from", "2099-01-01")["entries"]

    assert [entry["action"] for entry in entries] == ["register-patient", "add-record", "read", "grant", "read"]
    assert [line.split()[2] for line in table.splitlines()[1:]] == ["ben", "ben"]
    assert "refused: consent.denied" in table.splitlines()[1]
    assert [(row["action"], row["code"], row["served"]) for row in rows] == [
        ("add-record", "ok", ""),
        ("read", "consent.denied", ""),
        ("read", "ok", "true"),
    ]
    assert as_json["schema"] == "caretrace.audit.record/1"
    assert future == []


def test_a_receipt_is_verified_without_any_node(network: Operated, tmp_path_factory: pytest.TempPathFactory) -> None:
    transaction = network.ask("audit", "patient", "pia")["entries"][0]["transaction"]
    empty = tmp_path_factory.mktemp("empty")
    network.ask("receipt", "get", transaction[:10], "--node", "south", "--out", str(empty / "x.receipt"))
    (empty / "genesis.json").write_bytes(network.genesis_file.read_bytes())

    verify = ("receipt", "verify", str(empty / "x.receipt"), "--genesis", str(empty / "genesis.json"))
    answer = network.ask(*verify)

    assert answer["valid"] is True
    assert answer["transaction"] == transaction
    assert (answer["status"], answer["quorum"], len(answer["signers"])) == ("ok", 3, 3)


def test_a_bundle_becomes_a_record_for_each_clinical_resource(network: Operated) -> None:
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            {"resource": {"resourceType": "Patient", "name": [{"given": ["Pia"]}]}},
            {"resource": {"resourceType": "Condition", "onsetDateTime": "2019-04-03", "code": {"text": "asthma"}}},
            {
                "resource": {
                    "resourceType": "Observation",
                    "category": [{"coding": [{"code": "laboratory"}]}],
                    "meta": {"security": [{"code": "PSY"}, {"code": "HTEST"}]},
                }
            },
        ],
    }
    path = network.folder / "bundle.json"
    path.write_text(json.dumps(bundle))

    answer = network.ask("record", "import", str(path), "--patient", "pia", "--node", "north")
    listed = network.ask("record", "list", "--patient", "pia", "--node", "north")["records"]

    assert [row["category"] for row in answer["records"]] == ["condition", "laboratory"]
    assert answer["labels_left_out"] == ["HTEST"]
    assert [row["record"] for row in answer["records"]] == [row["record"] for row in reversed(listed)]
    assert [row["year"] for row in listed] == [None, 2019]
    assert [len(row["tags"]) for row in listed] == [1, 0]
