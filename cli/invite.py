"""``caretrace members invite`` and ``join``: how a hospital that founded nothing finds a network."""

import os
import time
from pathlib import Path

import click
import msgspec

from cli.client import Hex, part_of
from cli.command import Verb
from cli.errors import CliError, usage_error
from cli.home import load_card
from cli.options import FILE, FOLDER, passphrase, signing
from cli.output import Answer, facts, rfc3339
from cli.passphrase import Passphrases
from cli.place import home_of
from cli.session import Session
from cli.start import run_node
from node.config import Home, load_config
from node.keys.keyfile import load_key_file
from node.keys.private_file import write_private
from storage.schema.block import CERTIFICATE, HEADER, RESULT
from storage.schema.invite import (
    INVITE_BYTES_MAX,
    INVITE_VERSION,
    Contact,
    Invitation,
    Invite,
    load_invite,
    sign_invite,
)


class _Head(msgspec.Struct):
    header: Hex
    result: Hex
    certificate: Hex | None


@click.command("invite", cls=Verb, example="caretrace members invite harbour --home /var/lib/caretrace")
@click.argument("name", metavar="NAME")
@click.option("--out", metavar="FILE", type=FILE, help="Where to write it.  [NAME.invite]")
@signing
def invite(session: Session, name: str, out: Path | None) -> Answer:
    """Write an invite for a hospital: where the members are, and which network it is.

    It admits nobody: propose its card, and vote. The node's service key signs, so the node's passphrase is needed.
    """
    keys = load_key_file(session.home.key_file)
    contacts = [
        Contact(
            part_of(member, "name", str),
            bytes.fromhex(part_of(member, "node_key", str)),
            tuple(part_of(member, "addresses", list[str])),
        )
        for member in session.members()
    ]
    # Any key of the state will do: with its proof comes the newest certified block.
    head = session.node.get("/v1/state/00", _Head, proof="true")
    if head.certificate is None:
        raise CliError("invite.too_early", "the network has no block yet that is certified", hint="try again later")
    made = Invite(
        INVITE_VERSION,
        name,
        session.status.member,
        keys.public["service"],
        int(time.time()),
        session.node.get_bytes("/v1/genesis"),
        session.node.get_bytes("/v1/epochs"),
        tuple(contacts),
        HEADER.decode(bytes.fromhex(head.header)),
        RESULT.decode(bytes.fromhex(head.result)),
        CERTIFICATE.decode(bytes.fromhex(head.certificate)),
    )
    session.require_same_network()
    data = sign_invite(made, session.passphrases.open(keys, f"the node {session.status.member}")["service"])
    place = out or Path(f"{name}.invite")
    fields = _told(load_invite(data)) | {"file": str(place)}
    write_private(place, data, replace=True)
    return Answer(fields, f"{facts(fields.items())}\n\nPass it on, and say chain_id and service_key by voice.")


def _told(found: Invitation) -> dict[str, object]:
    stated = found.invite
    return {
        "name": stated.name,
        "network": found.genesis.body.name,
        "chain_id": found.genesis.chain_id.hex(),
        "inviter": stated.inviter,
        "service_key": stated.service_key.hex(),
        "made": rfc3339(stated.time_s * 1000),
        "height": stated.header.height,
        "epoch": stated.header.epoch,
        "members": [member.name for member in stated.members],
    }


@click.command("join", cls=Verb, example="caretrace join harbour.invite --home /var/lib/caretrace")
@click.argument("invite_file", metavar="INVITE", type=FILE)
@click.option("--home", metavar="DIR", type=FOLDER, help="Home folder of the node, as init made it.")
@click.option("--no-start", is_flag=True, help="Prepare the home only; caretrace start runs the node later.")
@passphrase
def join(invite_file: Path, home: Path | None, no_start: bool, passphrases: Passphrases) -> Answer:
    """Join a network by an invite, and run the node until it is told to stop.

    The invite is checked, and its network is put into the home. The node then connects as soon as the members have
    admitted its card; its log, and `caretrace status`, say what it waits for.
    """
    place = home_of(home)
    config = load_config(place, os.environ)
    with invite_file.open("rb") as file:
        data = file.read(INVITE_BYTES_MAX + 1)
    found = load_invite(data)
    _check_invited(place, config.name, found)
    _prepare(place, data, found)
    if not no_start:
        return run_node(place, passphrases)
    fields = _told(found) | {"home": str(place.path)}
    after = f"Compare chain_id and service_key by voice with {found.invite.inviter}; then: caretrace start"
    return Answer(fields, f"{facts(fields.items())}\n\n{after}")


def _check_invited(home: Home, name: str, found: Invitation) -> None:
    if found.invite.name != name:
        raise usage_error(f"the invite is for {found.invite.name}, and this home is {name}'s")
    if found.genesis.member(name) is not None:
        raise usage_error(f"{name} founded this network and needs no invite", "caretrace start --genesis FILE")
    if load_card(home.card_file).name != name:
        raise CliError("card.damaged", f"{home.card_file} is another member's")


def _prepare(home: Home, data: bytes, found: Invitation) -> None:
    try:
        write_private(home.genesis_file, found.invite.genesis, replace=False)
    except FileExistsError:
        if home.genesis_file.read_bytes() != found.invite.genesis:
            detail = f"{home.genesis_file} is of another network than the invite"
            raise CliError("genesis.exists", detail, hint="make another home for it") from None
    # A newer invite may take an older one's place: members move.
    write_private(home.invite_file, data, replace=True)
