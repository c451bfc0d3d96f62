"""``caretrace patient``: people who own their records."""

from urllib.parse import quote

import click

from cli.client import Json
from cli.command import Noun
from cli.options import reading, writing
from cli.output import Answer, facts
from cli.session import Session
from cli.writing import write
from node.keys.did import encode_did
from storage.schema.calls import RegisterPatient
from storage.schema.events import PatientRegistered


@click.group(cls=Noun)
def patient() -> None:
    """Patients: each under a DID of their own, sponsored by a member."""


@patient.command("register", example="caretrace patient register --as pia --node north")
@click.option("--as", "who", metavar="NAME", help="The patient's name in the wallet.  [the only key in it]")
@writing
def register(session: Session, who: str | None) -> Answer:
    """Register a patient; the node's member sponsors them.

    Two sign: the patient, and the member whose node is asked.
    """
    key = session.only_key(who)
    arguments = RegisterPatient(key.file.public["sealing"])
    return write(
        session,
        key,
        "identity.register_patient",
        arguments,
        lambda committed: {"patient": encode_did(committed.event(PatientRegistered).patient)},
        sponsored=True,
    )


@patient.command("show", example="caretrace patient show pia --node north")
@click.argument("who", metavar="PATIENT")
@reading
def show(session: Session, who: str) -> Answer:
    """Show what the ledger says of a patient."""
    return show_person(session, who)


def show_person(session: Session, who: str) -> Answer:
    """Answer with what the ledger says of a person, by name or DID."""
    fields = session.node.get(f"/v1/people/{quote(session.did(who))}", Json)
    return Answer(fields, facts(fields.items()))
