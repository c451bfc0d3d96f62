"""``caretrace consent``: what a patient grants, revokes, shuts out, and would be decided."""

from collections.abc import Sequence
from urllib.parse import quote

import click
import msgspec

from cli.client import Json, part_of
from cli.command import Noun
from cli.errors import usage_error
from cli.options import reading, writing
from cli.output import Answer, facts, table
from cli.provisions import Wanted, provision_of, purpose, wanted
from cli.session import Session
from cli.wallet import Key
from cli.writing import write
from node.keys.did import encode_did
from storage.schema.calls import EndExclusion, Exclude, Grant, Revoke
from storage.schema.codec import parse_typed_id, typed_id
from storage.schema.events import ConsentGranted, ConsentRevoked, ExclusionEnded, ExclusionSet

_patient = click.option("--patient", "who", metavar="NAME", help="The patient, who signs.  [the only key]")
_signer = click.option("--as", "signer", metavar="NAME", help="The patient too: nobody else can sign yet.")


class _Consent(msgspec.Struct):
    patient: str


@click.group(cls=Noun)
def consent() -> None:
    """Consents: a patient permits, revokes, and shuts out."""


@consent.command(
    "grant",
    example=(
        "caretrace consent grant --patient pia --to ben --purpose TREAT --category laboratory --until 7d --node north\n"
        "caretrace consent grant --patient pia --to south/physician --purpose TREAT --except PSY --node north"
    ),
)
@_patient
@_signer
@wanted
@click.option("--uses", type=click.IntRange(1, 1_000_000), help="How many reads each practitioner has.")
@writing
def grant(session: Session, who: str | None, signer: str | None, uses: int | None, stated: Wanted) -> Answer:
    """Let somebody read records, for a purpose, within limits."""
    if not stated.to or not stated.purposes:
        raise usage_error("a grant says to whom and for what", "--to WHO --purpose TREAT")
    key = _patient_key(session, who, signer)
    provision = provision_of(session, encode_did(key.did), "permit", stated)
    return write(
        session,
        key,
        "consent.grant",
        Grant(provision, uses),
        lambda committed: {"consent": typed_id("c", committed.event(ConsentGranted).consent)},
    )


@consent.command(
    "exclude", example="caretrace consent exclude --patient pia --to south --category genetics --node north"
)
@_patient
@_signer
@wanted
@click.option("--emergency", is_flag=True, help="Against emergency access too.")
@writing
def exclude(session: Session, who: str | None, signer: str | None, emergency: bool, stated: Wanted) -> Answer:
    """Shut something out, whatever is granted."""
    key = _patient_key(session, who, signer)
    provision = provision_of(session, encode_did(key.did), "deny", stated)
    return write(
        session,
        key,
        "consent.exclude",
        Exclude(provision, emergency),
        lambda committed: {"exclusion": typed_id("x", committed.event(ExclusionSet).exclusion)},
    )


@consent.command("revoke", example="caretrace consent revoke c-mfrgg --as pia --node north")
@click.argument("consent_id", metavar="CONSENT")
@_signer
@writing
def revoke(session: Session, consent_id: str, signer: str | None) -> Answer:
    """End a consent; permits given under it end too."""
    found = session.resolve("c", consent_id)
    return write(
        session,
        _owner_key(session, found, signer),
        "consent.revoke",
        Revoke(parse_typed_id("c", found)),
        lambda committed: {"consent": typed_id("c", committed.event(ConsentRevoked).consent)},
    )


@consent.command("end-exclusion", example="caretrace consent end-exclusion x-mfrgg --as pia --node north")
@click.argument("exclusion_id", metavar="EXCLUSION")
@_signer
@writing
def end_exclusion(session: Session, exclusion_id: str, signer: str | None) -> Answer:
    """End an exclusion: what other consents grant counts again."""
    found = session.resolve("x", exclusion_id)
    return write(
        session,
        _owner_key(session, found, signer),
        "consent.end_exclusion",
        EndExclusion(parse_typed_id("x", found)),
        lambda committed: {"exclusion": typed_id("x", committed.event(ExclusionEnded).exclusion)},
    )


@consent.command("list", example="caretrace consent list --patient pia --node north")
@click.option("--patient", "who", metavar="PATIENT", required=True, help="Name or DID.")
@reading
def list_consents(session: Session, who: str) -> Answer:
    """List a patient's consents and exclusions, the newest first."""
    fields = session.node.get("/v1/consents", Json, patient=session.did(who))
    rows = [_row(session, each) for each in part_of(fields, "consents", list[Json])]
    columns = ["CONSENT", "STATUS", "EFFECT", "TO", "PURPOSE", "CATEGORY", "UNTIL", "USES"]
    return Answer(fields, table(columns, rows, "no consents"))


def _row(session: Session, each: Json) -> Sequence[object]:
    provision = part_of(each, "provision", Json)
    people = [session.wallet.shown(did) for did in part_of(provision, "practitioners", list[str])]
    actors = [*people, *part_of(provision, "members", list[str]), *part_of(provision, "roles", list[str])]
    inner = len(part_of(provision, "provisions", list[Json]))
    return [
        each.get("consent"),
        each.get("status"),
        f"{provision.get('effect')}{f' (+{inner})' if inner else ''}",
        actors or "everyone",
        provision.get("purposes") or "all",
        provision.get("categories") or "all",
        part_of(provision, "period", Json).get("end"),
        each.get("uses"),
    ]


@consent.command("show", example="caretrace consent show c-mfrgg --node north")
@click.argument("consent_id", metavar="CONSENT|EXCLUSION")
@reading
def show(session: Session, consent_id: str) -> Answer:
    """Show a consent or an exclusion with all its provisions."""
    found = session.resolve("x" if consent_id.startswith("x") else "c", consent_id)
    fields = session.node.get(f"/v1/consents/{quote(found)}", Json)
    pairs = {name: value for name, value in fields.items() if name != "provision"}
    return Answer(fields, f"{facts(pairs.items())}\n\n{_tree(session, part_of(fields, 'provision', Json), 'all')}")


def _tree(session: Session, provision: Json, name: str, depth: int = 0) -> str:
    lines = [f"{'  ' * depth}{name}: {provision.get('effect')}"]
    for field, value in provision.items():
        if field in ("effect", "provisions") or not value:
            continue
        if isinstance(value, dict) and not any(value.values()):
            continue
        shown = list(map(session.wallet.shown, value)) if field == "practitioners" else value
        lines.append(f"{'  ' * depth}  {facts([(field, shown)])}")
    inner = part_of(provision, "provisions", list[Json])
    lines += [_tree(session, each, f"but {number}", depth + 1) for number, each in enumerate(inner, start=1)]
    return "\n".join(lines)


@consent.command(
    "check", example="caretrace consent check --to ben --record r-mfrgg --purpose TREAT --as pia --node north"
)
@click.option("--to", "requester", metavar="WHO", required=True, help="Who would ask: a practitioner's name or DID.")
@click.option("--record", metavar="RECORD", required=True, help="What they would read.")
@click.option("--purpose", "code", metavar="CODE", required=True, help="What for, such as TREAT.")
@click.option("--as", "--patient", "who", metavar="NAME", help="Who wants to know; the patient is told why.")
@reading
def check(session: Session, requester: str, record: str, code: str, who: str | None) -> Answer:
    """Tell whether a reading would be permitted now.

    The patient (--as) is told which provision says so, and why. It binds nobody.
    """
    question = {
        "requester": session.did(requester),
        "record": session.resolve("r", record),
        "purpose": purpose(code),
    }
    if who:
        question["as"] = session.did(who)
    fields = session.node.post("/v1/consents/check", question, Json)
    return Answer(fields, facts(fields.items()))


def _patient_key(session: Session, who: str | None, signer: str | None) -> Key:
    key = session.only_key(who or signer)
    if signer and session.key(signer).did != key.did:
        raise usage_error(f"{signer} is not {who}, and nobody can act for a patient yet", f"--as {who}")
    return key


def _owner_key(session: Session, consent_id: str, signer: str | None) -> Key:
    if signer:
        return session.key(signer)
    return session.key(session.node.get(f"/v1/consents/{quote(consent_id)}", _Consent).patient)
