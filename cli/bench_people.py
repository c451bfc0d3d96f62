"""The people of a bench: patients with a record each, practitioners, and the calls that they sign."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from cli.client import Json, Node
from cli.errors import CliError
from node.keys.did import encode_did
from node.keys.keyfile import public_key
from storage.schema.calls import (
    EnrolPractitioner,
    Grant,
    Period,
    Provision,
    RegisterPatient,
    RequestAccess,
)
from storage.schema.codec import Value, parse_typed_id
from storage.schema.signatures import public_key_of
from storage.schema.transaction import encode_body, encode_envelope, sign_body

PRACTITIONERS_PER_NODE = 8
LIFETIME_S = 600
_OPEN = Period(None, None)


@dataclass(frozen=True, slots=True)
class Person:
    """A key pair of the bench, and the member that pays for its calls."""

    seed: bytes
    key: bytes
    member: str


@dataclass(frozen=True, slots=True)
class Population:
    """Everyone who signs, and each patient's record."""

    chain_id: bytes
    patients: tuple[Person, ...]
    practitioners: tuple[Person, ...]
    records: tuple[bytes, ...]


def make_person(member: str) -> Person:
    """Make a key for somebody whom ``member`` sponsors or enrols."""
    seed = os.urandom(32)
    return Person(seed, public_key_of(seed), member)


def signed(chain_id: bytes, person: Person, method: str, arguments: Value) -> bytes:
    """Sign a call that needs one signature."""
    not_after_s = int(time.time()) + LIFETIME_S
    body = encode_body(chain_id, os.urandom(16), not_after_s, person.member, [person.key], method, arguments)
    return encode_envelope(body, [sign_body(body, person.seed)])


def sponsored(chain_id: bytes, node: Node, service_key: bytes, person: Person, method: str, arguments: Value) -> bytes:
    """Sign a call and have the member's node add its signature."""
    not_after_s = int(time.time()) + LIFETIME_S
    signers = [person.key, service_key]
    body = encode_body(chain_id, os.urandom(16), not_after_s, person.member, signers, method, arguments)
    mine = sign_body(body, person.seed)
    theirs = node.post_msgpack("/v1/sponsor", [body, [mine]], Json)["signature"]
    return encode_envelope(body, [mine, bytes.fromhex(theirs)])


def grant_to(practitioner: bytes) -> Grant:
    """A consent of everyday size: one practitioner may read laboratory results for treatment, for thirty days."""
    period = Period(None, int(time.time()) + 30 * 24 * 3600)
    provision = Provision(
        "permit", period, (practitioner,), (), (), ("read",), ("TREAT",), ("laboratory",), (), (), _OPEN, ()
    )
    return Grant(provision, None)


def enrol(
    chain_id: bytes, node: Node, service_key: bytes, member: str, patients: int
) -> tuple[list[Person], list[Person]]:
    """Register one member's share of the patients, and its practitioners; returns when they are committed."""
    people = [make_person(member) for _ in range(patients)]
    staff = [make_person(member) for _ in range(PRACTITIONERS_PER_NODE)]
    sealing_key = public_key("sealing", os.urandom(32))
    now_s = int(time.time())
    enrolment = EnrolPractitioner(sealing_key, "physician", now_s - 60, now_s + 86400)
    envelopes = [
        sponsored(chain_id, node, service_key, person, "identity.enrol_practitioner", enrolment) for person in staff
    ]
    registration = RegisterPatient(sealing_key)
    envelopes += [
        sponsored(chain_id, node, service_key, person, "identity.register_patient", registration) for person in people
    ]
    post_and_wait(node, envelopes)
    return people, staff


def add_records(node: Node, patients: list[Person]) -> list[bytes]:
    """Seal one small laboratory record for each patient; returns the records' identifiers, committed."""
    records, last = [], ""
    for patient in patients:
        answer = node.post(
            f"/v1/records?patient={encode_did(patient.key)}&category=laboratory",
            {"resourceType": "Observation", "status": "final"},
            Json,
        )
        records.append(parse_typed_id("r", answer["record"]))
        last = answer["transaction"]
    if last:
        node.get_bytes(f"/v1/transactions/{last}/receipt", wait_s=30)
    return records


def post_and_wait(node: Node, envelopes: list[bytes]) -> None:
    """Submit envelopes and wait until the last one is committed.

    Raises:
        CliError: one of them was not taken.
    """
    for start in range(0, len(envelopes), 250):
        answer = node.post_msgpack("/v1/transactions", envelopes[start : start + 250], Json)
        if answer["refused"]:
            raise CliError("bench.set_up", f"the network refused a call of the set-up: {answer['refused'][0]}")
        for tx_id in answer["transactions"][-1:]:
            node.get_bytes(f"/v1/transactions/{tx_id}/receipt", wait_s=30)


def workload(people: Population, offset: int, step: int) -> Iterator[bytes]:
    """Sign calls without end: by turns a grant to one practitioner and a request that an earlier grant permits.

    Workers with the same ``step`` and different ``offset`` share the patients out between them.
    """
    patients, staff = people.patients, people.practitioners
    for number in count():
        turn = offset + number * step
        index = turn % len(patients)
        practitioner = staff[(index + turn // len(patients)) % len(staff)]
        yield signed(people.chain_id, patients[index], "consent.grant", grant_to(practitioner.key))
        reader = staff[index % len(staff)]
        yield signed(people.chain_id, reader, "access.request", RequestAccess(people.records[index], "TREAT"))


def base_grants(people: Population) -> list[bytes]:
    """Each patient's grant to the practitioner who will ask for the record."""
    staff = people.practitioners
    return [
        signed(people.chain_id, patient, "consent.grant", grant_to(staff[index % len(staff)].key))
        for index, patient in enumerate(people.patients)
    ]
