"""``caretrace practitioner``: those who read records, each vouched for by a member."""

import time

import click

from cli.client import Json, part_of
from cli.command import Noun
from cli.errors import usage_error
from cli.options import reading, writing
from cli.output import Answer, table
from cli.patient import show_person
from cli.session import Session
from cli.times import MOMENT
from cli.writing import write
from node.keys.did import encode_did
from storage.schema.calls import EnrolPractitioner, RevokePractitioner
from storage.schema.codes import ROLES
from storage.schema.events import PractitionerEnrolled, PractitionerRevoked

# A block's time may lie a little behind this machine's; whoever is enrolled now may work now.
_CLOCK_S = 60


@click.group(cls=Noun)
def practitioner() -> None:
    """Practitioners: enrolled by a member, in a role, for a time."""


@practitioner.command("enrol", example="caretrace practitioner enrol ben --role physician --until 365d --node south")
@click.argument("who", metavar="NAME")
@click.option("--role", required=True, type=click.Choice(list(ROLES)), metavar="ROLE", help=f"{', '.join(ROLES)}.")
@click.option("--from", "from_s", type=MOMENT, help="From when on the enrolment holds.  [now]")
@click.option("--until", "until_s", type=MOMENT, default="365d", show_default=True, help="Until when it holds.")
@writing
def enrol(session: Session, who: str, role: str, from_s: int | None, until_s: int) -> Answer:
    """Enrol a practitioner; the node's member vouches for them.

    Two sign: the practitioner, and the member whose node is asked.
    """
    starts_s = int(time.time()) - _CLOCK_S if from_s is None else from_s
    if until_s < starts_s:
        raise usage_error("--until lies before --from")
    key = session.key(who)
    arguments = EnrolPractitioner(key.file.public["sealing"], role, starts_s, until_s)
    return write(
        session,
        key,
        "identity.enrol_practitioner",
        arguments,
        lambda committed: {"practitioner": encode_did(committed.event(PractitionerEnrolled).practitioner)},
        sponsored=True,
    )


@practitioner.command("revoke", example="caretrace practitioner revoke ben --node south")
@click.argument("who", metavar="PRACTITIONER")
@writing
def revoke(session: Session, who: str) -> Answer:
    """Stop vouching for a practitioner; their open permits end too.

    Only the member that enrolled them may.
    """
    arguments = RevokePractitioner(session.wallet.did(who, session.status.member))
    return write(
        session,
        None,
        "identity.revoke_practitioner",
        arguments,
        lambda committed: {"practitioner": encode_did(committed.event(PractitionerRevoked).practitioner)},
        sponsored=True,
    )


@practitioner.command("list", example="caretrace practitioner list --node south")
@click.option("--member", metavar="NAME", help="Who enrolled them.  [the node's member]")
@reading
def list_practitioners(session: Session, member: str | None) -> Answer:
    """List those whom a member has enrolled, the newest first."""
    fields = session.node.get("/v1/practitioners", Json, member=member)
    shown = session.wallet.shown
    rows = [
        [shown(str(p.get("did"))), p.get("role"), p.get("status"), p.get("valid_from"), p.get("valid_until")]
        for p in part_of(fields, "practitioners", list[Json])
    ]
    nobody = f"nobody is enrolled at {member or session.status.member}"
    text = table(["PRACTITIONER", "ROLE", "STATUS", "FROM", "UNTIL"], rows, nobody)
    return Answer(fields, text)


@practitioner.command("show", example="caretrace practitioner show ben --node south")
@click.argument("who", metavar="PRACTITIONER")
@reading
def show(session: Session, who: str) -> Answer:
    """Show what the ledger says of a practitioner."""
    return show_person(session, who)
