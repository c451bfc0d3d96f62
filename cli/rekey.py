"""``caretrace members rekey``: other keys for a node, appointed by its organisation's key alone.

Interrupted anywhere it leaves either the old keys or the new ones at work, and the same command finishes it: the new
keys are on disk before the ledger hears of them, and take the old ones' place only when it has appointed them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from cli.client import Hex
from cli.command import Verb
from cli.errors import CliError
from cli.home import appoint
from cli.options import FILE, FOLDER, signing
from cli.output import Answer, facts
from cli.passphrase import Passphrases
from cli.session import Session
from cli.start import running_pid
from cli.wallet import Key, organisation_key
from cli.writing import Committed, write_for_organisation
from node.config import Home, load_config
from node.keys.keyfile import KeyFile, KeyFileMissingError, create_key_file, load_key_file, new_secrets
from storage.schema.calls import ReplaceKeys
from storage.schema.events import KeysReplaced, ValidatorsChanged

_KINDS = ("node", "service", "encryption")


class _Stated(msgspec.Struct):
    organisation_key: Hex
    node_key: Hex
    service_key: Hex
    encryption_key: Hex


@click.command(
    "rekey",
    cls=Verb,
    example="caretrace members rekey --home /var/lib/caretrace --key north-organisation.key\n"
    "caretrace members rekey --only service --home /var/lib/caretrace --key north-organisation.key",
)
@click.option("--only", "kinds", multiple=True, type=click.Choice(_KINDS), help="Replace only this key.  [all three]")
@click.option("--of", "folder_of", metavar="DIR", type=FOLDER, help="Home whose keys these are.  [the asked node's]")
@click.option("--key", "key_file", metavar="FILE", type=FILE, required=True, help="Your organisation's key.")
@click.option("--organisation-passphrase-file", metavar="FILE", type=FILE, help="File with that key's passphrase.")
@signing
def rekey(
    session: Session,
    kinds: tuple[str, ...],
    folder_of: Path | None,
    key_file: Path,
    organisation_passphrase_file: Path | None,
) -> Answer:
    """Replace a node's keys, without a vote, at most once in 24 hours.

    The organisation's key appoints the new ones; a replaced key never serves again. An old encryption key stays
    beside the new one, for what is sealed to it. If the command is interrupted, give it again. Where the old keys are
    lost, another member's node has to carry the transaction: --node.
    """
    home = Home(folder_of) if folder_of else session.home
    name = load_config(home, os.environ).name
    organisation = organisation_key(key_file)
    fresh = _fresh_keys(home, name, kinds or _KINDS, session.passphrases)
    cold = Passphrases(organisation_passphrase_file) if organisation_passphrase_file else session.passphrases
    told = _have_appointed(session, name, fresh, organisation, cold)
    appoint(home, fresh)
    keys = {f"{kind}_key": key.hex() for kind, key in fresh.public.items()}
    runs = running_pid(home) is not None
    fields = {"name": name, "home": str(home.path), **told, **keys, "restart": runs}
    place = f"--home {home.path}"
    after = f"Restart the node: caretrace stop {place}; caretrace start {place}" if runs else f"caretrace start {place}"
    return Answer(fields, f"{facts(fields.items())}\n\n{after}")


def _fresh_keys(home: Home, name: str, kinds: Sequence[str], passphrases: Passphrases) -> KeyFile:
    """Return the keys that are to be appointed: those that an interrupted command has made, or new ones."""
    if home.next_key_file.exists():
        return load_key_file(home.next_key_file)
    made = new_secrets("node")
    try:
        old = load_key_file(home.key_file)
    except KeyFileMissingError:
        if set(kinds) != set(_KINDS):
            raise
        return create_key_file(home.next_key_file, "node", made, passphrases.choose(f"the node {name}"))
    (secrets,), passphrase = passphrases.open_together([old], f"the node {name}")
    wanted = {kind: made[kind] if kind in kinds else secret for kind, secret in secrets.items()}
    retired = home.retired_key_file(old.public["encryption"])
    if "encryption" in kinds and not retired.exists():
        create_key_file(retired, "retired", {"encryption": secrets["encryption"]}, passphrase)
    return create_key_file(home.next_key_file, "node", wanted, passphrase)


def _have_appointed(
    session: Session, name: str, fresh: KeyFile, organisation: Key, cold: Passphrases
) -> dict[str, Any]:
    """Have the ledger appoint what it does not state yet; returns what is to be told of it.

    Raises:
        CliError: it is not this member's organisation key, or the ledger refuses.
    """
    stated = session.node.get(f"/v1/members/{quote(name, safe='')}", _Stated)
    if stated.organisation_key != organisation.did.hex():
        raise CliError("organisation_key.other_member", f"{organisation.name} is not the organisation key of {name}")
    changed = _differing(stated, fresh)
    if not changed:
        return {}
    arguments = ReplaceKeys(changed.get("node"), changed.get("service"), changed.get("encryption"))
    try:
        answer = write_for_organisation(session, organisation, "network.replace_keys", arguments, _made, cold)
    except CliError:
        # An interrupted command may have had them appointed before.
        if _differing(session.node.get(f"/v1/members/{quote(name, safe='')}", _Stated), fresh):
            raise
        return {}
    return answer.fields


def _differing(stated: _Stated, fresh: KeyFile) -> dict[str, bytes]:
    return {kind: key for kind, key in fresh.public.items() if getattr(stated, f"{kind}_key") != key.hex()}


def _made(committed: Committed) -> dict[str, Any]:
    committed.event(KeysReplaced)
    epochs = [event.epoch for event in committed.events_of(ValidatorsChanged)]
    return {"epoch": epochs[0]} if epochs else {}
