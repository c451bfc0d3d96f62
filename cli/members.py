"""``caretrace members``: who belongs to the network, and the votes that decide it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from cli.client import Json, part_of
from cli.command import Noun
from cli.errors import usage_error
from cli.home import load_card
from cli.invite import invite
from cli.options import FILE, reading, writing
from cli.output import Answer, facts, table
from cli.rekey import rekey
from cli.session import Session
from cli.wallet import organisation_key
from cli.writing import Committed, write_for_organisation
from storage.schema.calls import Admit, Change, Propose, Remove, SetRole, VoteOn
from storage.schema.codec import parse_typed_id, typed_id
from storage.schema.events import ProposalEnded, ProposalMade, ProposalVoted

_HEX_DIGITS = frozenset("0123456789abcdef")
_COLUMNS = ("PROPOSAL", "CHANGE", "BY", "STATUS", "FOR", "AGAINST", "NEEDED", "UNTIL")
_REMOVED = "removed: its keys sign nothing any more, and the records that it holds cannot be served"


class _ProposalsPage(msgspec.Struct):
    proposals: list[Json]
    next: str | None


@click.group(cls=Noun)
def members() -> None:
    """Members: who belongs to the network, decided by vote."""


members.add_command(invite)
members.add_command(rekey)


@members.command("list", example="caretrace members list --node north")
@reading
def list_members(session: Session) -> Answer:
    """List the present members, and who of them validates."""
    found = session.members()
    rows = [[m.get("name"), m.get("roles"), m.get("validates"), m.get("addresses")] for m in found]
    return Answer({"members": found}, table(["MEMBER", "ROLE", "VALIDATES", "ADDRESSES"], rows, "no members"))


@members.command("show", example="caretrace members show north")
@click.argument("name", metavar="NAME")
@reading
def show(session: Session, name: str) -> Answer:
    """Show a member, also one that has been removed: roles, keys, addresses.

    A removed member's records cannot be served, and its practitioners read nothing more; its patients still decide.
    """
    fields = session.node.get(f"/v1/members/{quote(name, safe='')}", Json)
    words = f"\n\n{_REMOVED}" if fields.get("removed") else ""
    return Answer(fields, facts(fields.items()) + words)


@members.command("proposals", example="caretrace members proposals --open --node north")
@click.option("--open", "only_open", is_flag=True, help="Only those that may still be decided.")
@click.option("--limit", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most.")
@reading
def proposals(session: Session, only_open: bool, limit: int) -> Answer:
    """List what is or was proposed, the newest first, with the votes."""
    found: list[Json] = []
    before: str | None = None
    while len(found) < limit:
        page = session.node.get("/v1/proposals", _ProposalsPage, before=before)
        found += [each for each in page.proposals if not only_open or each.get("status") == "open"]
        before = page.next
        if before is None:
            break
    text = table(_COLUMNS, [_row(each) for each in found[:limit]], "nothing is proposed")
    return Answer({"proposals": found[:limit]}, text)


def _row(proposal: Json) -> list[object]:
    change = part_of(proposal, "change", Json)
    words = [change.get("kind"), change.get("name"), change.get("role")]
    return [
        str(proposal.get("proposal"))[:12],
        " ".join(str(word) for word in words if word),
        *(proposal.get(name) for name in ("member", "status", "approvals", "rejections", "quorum", "until")),
    ]


def _deciding(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the organisation's key file, beside what a transaction takes."""
    key = click.option(
        "--key", "key_file", metavar="FILE", type=FILE, required=True, help="Your organisation's key, as init wrote it."
    )
    return key(writing(function))


def _proposing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what a proposal may rest on, beside the organisation's key file."""
    option = click.option("--evidence", metavar="HEX", help="What it rests on: an id, such as a transaction's.")
    return option(_deciding(function))


@members.group("propose", cls=Noun)
def propose() -> None:
    """Propose a change; your own approval counts at once."""


@propose.command("admit", example="caretrace members propose admit harbour/card.json --key north-organisation.key")
@click.argument("card_file", metavar="CARD", type=FILE)
@_proposing
def admit(session: Session, card_file: Path, key_file: Path, evidence: str | None) -> Answer:
    """Propose to admit a hospital, by the card that its `init` wrote.

    It joins as an observer; to let it validate is a proposal of its own. Compare the card's keys by voice first.
    """
    card = load_card(card_file).member()
    keys = (card.organisation_key, card.node_key, card.service_key, card.encryption_key)
    return _propose(session, key_file, Admit(card.name, *keys, card.addresses), evidence)


@propose.command("role", example="caretrace members propose role harbour validator --key north-organisation.key")
@click.argument("name", metavar="NAME")
@click.argument("role", metavar="ROLE", type=click.Choice(["observer", "validator"]))
@_proposing
def change_role(session: Session, name: str, role: Any, key_file: Path, evidence: str | None) -> Answer:
    """Propose that a member begins to validate, or only observes.

    To suspend a validator, propose that it observes.
    """
    return _propose(session, key_file, SetRole(name, role), evidence)


@propose.command("remove", example="caretrace members propose remove harbour --key north-organisation.key")
@click.argument("name", metavar="NAME")
@_proposing
def remove(session: Session, name: str, key_file: Path, evidence: str | None) -> Answer:
    """Propose to remove a member, for good.

    Its keys then sign nothing, its practitioners read nothing, and its records cannot be served. Its patients still
    grant and revoke. Its name is never given again.
    """
    return _propose(session, key_file, Remove(name), evidence)


def _propose(session: Session, key_file: Path, change: Change, evidence: str | None) -> Answer:
    def made(committed: Committed) -> dict[str, Any]:
        return _decided(committed, committed.event(ProposalMade).proposal)

    arguments = Propose(change, None if evidence is None else _id(evidence))
    return write_for_organisation(session, organisation_key(key_file), "network.propose", arguments, made)


def _id(text: str) -> bytes:
    if len(text) != 64 or set(text) - _HEX_DIGITS:
        raise usage_error("--evidence takes an id of 64 hexadecimal digits")
    return bytes.fromhex(text)


@members.command(
    "vote",
    example="caretrace members vote p-5qk3 --key south-organisation.key\n"
    "caretrace members vote p-5qk3 --reject --key south-organisation.key",
)
@click.argument("proposal", metavar="PROPOSAL")
@click.option("--reject", is_flag=True, help="Vote against it; without this, for it.")
@_deciding
def vote(session: Session, proposal: str, reject: bool, key_file: Path) -> Answer:
    """Vote on a proposal; a vote may not be changed.

    The vote that completes the quorum carries the change out.
    """
    raw = parse_typed_id("p", session.resolve("p", proposal))

    def made(committed: Committed) -> dict[str, Any]:
        return _decided(committed, committed.event(ProposalVoted).proposal)

    arguments = VoteOn(raw, not reject)
    return write_for_organisation(session, organisation_key(key_file), "network.vote", arguments, made)


def _decided(committed: Committed, proposal: bytes) -> dict[str, Any]:
    endings = [event.ending for event in committed.events_of(ProposalEnded) if event.proposal == proposal]
    return {"proposal": typed_id("p", proposal), "decision": endings[0] if endings else "open"}
