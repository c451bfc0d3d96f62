"""``caretrace init``: a hospital makes its node's home, its keys, and the card for the other founders."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

import click

from cli.command import Verb
from cli.errors import usage_error
from cli.home import NewHome, create_home
from cli.options import FILE, FOLDER, new_passphrase
from cli.output import Answer, facts
from cli.passphrase import Passphrases
from cli.place import home_of
from node.config import multiaddr

PORT = 4101
_ROLES = click.Choice(["validator", "observer"])


@click.command(
    cls=Verb,
    example="caretrace init --name north --home /var/lib/caretrace --host north.example --port 4101",
)
@click.option("--name", required=True, help="The member's name in the network: lower-case letters, digits, -.")
@click.option("--home", metavar="DIR", type=FOLDER, help="Where to make it; it must not exist, or be empty.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address or name by which others find the node.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="TCP port of the node.")
@click.option("--http", "http_tcp", default="off", show_default=True, help="HOST:PORT that answers health checks.")
@click.option(
    "--role", type=click.Choice(["validator", "observer"]), default="validator", show_default=True, help="May it vote?"
)
@click.option("--organisation-key", metavar="FILE", type=FILE, help="Where to write it.  [NAME-organisation.key]")
@click.option("--organisation-passphrase-file", metavar="FILE", type=FILE, help="File with that key's passphrase.")
@new_passphrase
def init(
    name: str,
    home: Path | None,
    host: str,
    port: int,
    http_tcp: str,
    role: Literal["observer", "validator"],
    organisation_key: Path | None,
    organisation_passphrase_file: Path | None,
    passphrases: Passphrases,
    no_passphrase: bool,
) -> Answer:
    """Make a node's home: its keys, its settings, and a card.

    The card is for the other founders. The organisation key is written outside the home: it appoints and replaces
    all other keys. Take it offline.
    """
    if no_passphrase and organisation_passphrase_file:
        raise usage_error("--no-passphrase and --organisation-passphrase-file exclude each other")
    place = home_of(home)
    cold = organisation_key or Path(f"{name}-organisation.key")
    cold_passphrases = Passphrases(organisation_passphrase_file) if organisation_passphrase_file else passphrases
    # Behind a name may stand any address of this machine, or of one that forwards to it.
    listen_host = host if multiaddr(host, port).startswith("/ip") else str(IPv4Address(0))
    wanted = NewHome(
        home=place,
        name=name,
        listen=multiaddr(listen_host, port),
        advertise=multiaddr(host, port),
        organisation_key=cold,
        passphrase=passphrases.choose(f"the node {name}", unprotected=no_passphrase),
        organisation_passphrase=cold_passphrases.choose(f"the organisation {name}", unprotected=no_passphrase),
        http_tcp=http_tcp,
        role=role,
    )
    create_home(wanted)
    fields = {"name": name, "home": str(place.path), "card": str(place.card_file), "organisation_key": str(cold)}
    warning = f"TAKE {cold} OFFLINE: it replaces every other key of {name}, and a node never needs it."
    return Answer(fields, f"{facts(fields.items())}\n\n{warning}")
