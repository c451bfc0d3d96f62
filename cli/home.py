"""What a hospital makes before there is a network: a node's home with its keys, the organisation's key, a card."""

import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from cli.errors import CliError
from node.config import Home, parse_config
from node.keys.keyfile import KeyFile, create_key_file, new_secrets
from node.keys.private_file import sync_folder, write_private
from storage.schema.codec import MemberName
from storage.schema.genesis import Member

_CARD_BYTES_MAX = 16 * 1024
_Key = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the other founders need of a hospital; public, so it may travel by mail, compared by voice."""

    schema: Literal["caretrace.card/1"]
    name: MemberName
    organisation_key: _Key
    node_key: _Key
    service_key: _Key
    encryption_key: _Key
    addresses: tuple[str, ...]
    roles: tuple[Literal["observer", "validator"], ...]

    def member(self) -> Member:
        """Return the founding member that this card states."""
        return Member(
            name=self.name,
            organisation_key=bytes.fromhex(self.organisation_key),
            node_key=bytes.fromhex(self.node_key),
            service_key=bytes.fromhex(self.service_key),
            encryption_key=bytes.fromhex(self.encryption_key),
            addresses=self.addresses,
            roles=self.roles,
        )


@dataclass(frozen=True, slots=True)
class NewHome:
    """How a home is to be: who the member is, where its node listens, and what protects its keys.

    A passphrase of None makes test keys. ``organisation_key`` is a file outside the home: a node never reads it.
    ``reach`` are the members, each with the address, that are not where the ledger says.
    """

    home: Home
    name: str
    listen: str
    advertise: str
    organisation_key: Path
    passphrase: bytes | None
    organisation_passphrase: bytes | None
    http_tcp: str = "off"
    reach: tuple[tuple[str, str], ...] = ()
    role: Literal["observer", "validator"] = "validator"


def create_home(wanted: NewHome) -> Card:
    """Make a home and the organisation's key, or nothing at all; nothing that is there already is touched.

    Raises:
        CliError: the home exists, or the organisation's key does or would lie in it.
        ConfigError: name or addresses are against their rules, or the home's path is too long for a socket.
    """
    home = wanted.home
    config = _config_text(wanted)
    home.socket(parse_config(config.encode(), {}))
    _check_places(home.path, wanted.organisation_key)
    wanted.organisation_key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as undo:
        organisation = create_key_file(
            wanted.organisation_key, "organisation", new_secrets("organisation"), wanted.organisation_passphrase
        ).public
        undo.callback(wanted.organisation_key.unlink)
        undo.callback(_remove_home, home, keep_folder=home.path.exists())
        card = _fill_home(wanted, config, organisation["organisation"])
        undo.pop_all()
    return card


def _fill_home(wanted: NewHome, config: str, organisation: bytes) -> Card:
    home = wanted.home
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.key_file.parent.mkdir(mode=0o700)
    node_keys = create_key_file(home.key_file, "node", new_secrets("node"), wanted.passphrase).public
    card = Card(
        "caretrace.card/1",
        wanted.name,
        organisation.hex(),
        node_keys["node"].hex(),
        node_keys["service"].hex(),
        node_keys["encryption"].hex(),
        (wanted.advertise,),
        (wanted.role,),
    )
    write_private(home.card_file, _card_text(card), replace=False)
    # Last, so that a home with settings is a whole home.
    write_private(home.config_file, config.encode(), replace=False)
    return card


def _card_text(card: Card) -> bytes:
    return msgspec.json.format(msgspec.json.encode(card)) + b"\n"


def _remove_home(home: Home, *, keep_folder: bool) -> None:
    shutil.rmtree(home.key_file.parent, ignore_errors=True)
    with suppress(OSError):
        home.card_file.unlink(missing_ok=True)
        home.config_file.unlink(missing_ok=True)
        if not keep_folder:
            home.path.rmdir()


def _check_places(home: Path, organisation_key: Path) -> None:
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise CliError("home.exists", f"{home} exists and is not empty", hint="another folder: --home DIR")
    if organisation_key.absolute().is_relative_to(home.absolute()):
        raise CliError(
            "organisation_key.in_home",
            "the organisation's key must lie outside the home: whoever takes the node must not get it",
            hint="--organisation-key FILE",
        )
    if organisation_key.exists():
        raise CliError("keyfile.exists", f"{organisation_key} exists; a key is never overwritten")


def _config_text(wanted: NewHome) -> str:
    def toml(text: str) -> str:
        return msgspec.json.encode(text).decode()

    lines = [
        "# The settings of this node; configs/example-config.toml in the sources explains all of them.",
        f"name = {toml(wanted.name)}",
        f"listen = [{toml(wanted.listen)}]",
        f"advertise = [{toml(wanted.advertise)}]",
        f"http_tcp = {toml(wanted.http_tcp)}",
    ]
    if wanted.reach:
        lines += ["[reach]", *(f"{toml(name)} = [{toml(address)}]" for name, address in wanted.reach)]
    return "\n".join(lines) + "\n"


class _Appointed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: Literal["caretrace.appointed/1"]
    node: _Key
    service: _Key
    encryption: _Key


def load_appointed(home: Home) -> dict[str, bytes] | None:
    """Read which keys the organisation appointed last; None while they are those of the founding.

    Raises:
        CliError: the file is damaged.
    """
    try:
        appointed = msgspec.json.decode(home.appointed_file.read_bytes(), type=_Appointed)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CliError("appointed.damaged", f"{home.appointed_file} is damaged: {error}") from None
    return {name: bytes.fromhex(getattr(appointed, name)) for name in ("node", "service", "encryption")}


def appoint(home: Home, fresh: KeyFile) -> None:
    """Put keys that the ledger has appointed in the place of the node's; a crash on the way leaves it to be repeated.

    They are noted first: a node does not start with other keys than those that are noted.
    """
    keys = {name: key.hex() for name, key in fresh.public.items()}
    noted = _Appointed("caretrace.appointed/1", **keys)
    write_private(home.appointed_file, msgspec.json.encode(noted) + b"\n", replace=True)
    if home.card_file.exists():
        card = msgspec.structs.replace(load_card(home.card_file), **{f"{name}_key": keys[name] for name in keys})
        write_private(home.card_file, _card_text(card), replace=True)
    fresh.path.replace(home.key_file)
    sync_folder(home.key_file.parent)


def load_card(path: Path) -> Card:
    """Read a founder's card.

    Raises:
        CliError: it is none.
    """
    with path.open("rb") as file:
        data = file.read(_CARD_BYTES_MAX + 1)
    try:
        return msgspec.json.decode(data, type=Card)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CliError("card.damaged", f"{path} is no card: {error}") from None
