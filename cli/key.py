"""``caretrace key``: the keys in a wallet, and the names for those of others."""

from pathlib import Path

import click

from cli.command import Noun
from cli.errors import CliError, usage_error
from cli.options import FILE, keeping, new_passphrase
from cli.output import Answer, facts, table
from cli.passphrase import Passphrases
from cli.wallet import Key, Wallet
from node.keys.did import encode_did, is_did, parse_did
from node.keys.keyfile import (
    KeyFile,
    Kind,
    copy_key_file,
    create_key_file,
    load_key_file,
    new_secrets,
)


@click.group(cls=Noun)
def key() -> None:
    """Keys of people, in a wallet: who may sign and read."""


@key.command("new", example="caretrace key new pia --kind patient\ncaretrace key new ben --kind practitioner")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["patient", "practitioner", "organisation"]),
    default="patient",
    show_default=True,
    help="Whose keys they are to be.",
)
@keeping
@new_passphrase
def new(wallet: Wallet, name: str, kind: Kind, passphrases: Passphrases, no_passphrase: bool) -> Answer:
    """Make keys under a name: one signs, one opens what is sealed.

    Use NAME@MEMBER for a patient's second hospital: nobody then sees from the two DIDs that they are one person.
    """
    path = wallet.path_of(name)
    _require_free(wallet, name)
    chosen = passphrases.choose(name, unprotected=no_passphrase)
    wallet.make_folder()
    file = create_key_file(path, kind, new_secrets(kind), chosen)
    return _shown(Key(name, file))


@key.command("list", example="caretrace key list")
@keeping
def list_keys(wallet: Wallet) -> Answer:
    """List the keys in the wallet, and the names it has for others."""
    rows: list[dict[str, str | None]] = []
    for name, entry in wallet.entries().items():
        if isinstance(entry, KeyFile):
            protected = "passphrase" if entry.is_sealed else "none (test key)"
            rows.append({"name": name, "kind": entry.kind, "did": _did(Key(name, entry)), "protection": protected})
        elif isinstance(entry, bytes):
            rows.append({"name": name, "kind": "petname", "did": encode_did(entry), "protection": None})
        else:
            rows.append({"name": name, "kind": "unusable", "did": None, "protection": None, "why": str(entry)})
    columns = [[row["name"], row["kind"], row["did"], row.get("why") or row["protection"]] for row in rows]
    empty = f"no keys in {wallet.folder}"
    return Answer(
        {"wallet": str(wallet.folder), "keys": rows}, table(["NAME", "KIND", "DID", "SEALED BY"], columns, empty)
    )


@key.command("show", example="caretrace key show pia")
@click.argument("who", metavar="NAME")
@keeping
def show(wallet: Wallet, who: str) -> Answer:
    """Show the public side of keys, or the DID behind a name."""
    if is_did(who) or wallet.knows_keys(who):
        return _shown(wallet.key(who))
    did = encode_did(wallet.did(who))
    return Answer({"name": who, "kind": "petname", "did": did}, facts([("name", who), ("did", did)]))


@key.command("export", example="caretrace key export pia --out /media/stick/pia.key")
@click.argument("who", metavar="NAME")
@click.option("--out", metavar="FILE", type=FILE, help="Where to write it.  [NAME.key]")
@keeping
def export(wallet: Wallet, who: str, out: Path | None) -> Answer:
    """Copy a key file out of the wallet, sealed as it is."""
    found = wallet.key(who)
    place = out or Path(f"{found.name}.key")
    copy_key_file(found.file, place)
    warning = "" if found.file.is_sealed else "\nThis is a test key: whoever reads the file has the secrets."
    return Answer({"name": found.name, "file": str(place)}, facts([("file", place)]) + warning)


@key.command(
    "import", example="caretrace key import /media/stick/pia.key\ncaretrace key import did:key:z6Mk... --name ben"
)
@click.argument("source", metavar="FILE|DID")
@click.option("--name", help="Its name in the wallet.  [the file's]")
@keeping
def import_key(wallet: Wallet, source: str, name: str | None) -> Answer:
    """Take a key file into the wallet, or name somebody's DID."""
    if is_did(source):
        if name is None:
            raise usage_error("a DID is kept under a name: --name NAME")
        path = wallet.keep_petname(name, parse_did(source))
        return Answer({"name": name, "kind": "petname", "did": source}, facts([("name", name), ("file", path)]))
    file = load_key_file(Path(source))
    if file.kind in ("node", "retired"):
        raise CliError("keyfile.wrong_kind", f"{source} holds a node's keys; they belong in its home")
    name = name or Path(source).stem
    path = wallet.path_of(name)
    _require_free(wallet, name)
    wallet.make_folder()
    return _shown(Key(name, copy_key_file(file, path)))


def _require_free(wallet: Wallet, name: str) -> None:
    if wallet.knows(name):
        raise CliError("name.taken", f"{name} is somebody in {wallet.folder} already", hint="choose another name")


def _did(key: Key) -> str:
    return encode_did(key.did)


def _shown(key: Key) -> Answer:
    sealing = key.file.public.get("sealing")
    fields = {
        "name": key.name,
        "kind": key.file.kind,
        "did": _did(key),
        "sealing_key": sealing.hex() if sealing else None,
        "protection": "passphrase" if key.file.is_sealed else None,
        "file": str(key.file.path),
    }
    note = "" if key.file.is_sealed else "\nThis is a TEST KEY: its file protects nothing."
    return Answer(fields, facts(fields.items()) + note)
