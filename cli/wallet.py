"""A wallet: a folder with a file for each name, and the one network that its owner has met.

``NAME.key`` holds somebody's keys; ``NAME@MEMBER.key`` the keys that the same person uses at one member, so that
nobody can tell from two DIDs that they are one patient. ``NAME.did`` is another's DID under a petname.
``network.json`` pins the genesis of the network and the wallet's home node at first use.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from cli.errors import CliError, Exit, usage_error
from node.keys.did import DidError, encode_did, is_did, parse_did
from node.keys.keyfile import KeyFile, KeyFileDamagedError, KeyFileError, KeyFileMissingError, load_key_file
from node.keys.private_file import write_private

_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(?:@[a-z][a-z0-9-]{0,31})?\Z")
_DID_BYTES_MAX = 128
_PIN_BYTES_MAX = 2 << 20


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network of a wallet: the genesis file as it was first seen, and the home node's folder."""

    schema: str
    chain_id: str
    genesis: str
    home_node: str


@dataclass(frozen=True)
class Key:
    """Somebody's keys in the wallet, not yet opened."""

    name: str
    file: KeyFile

    @property
    def did(self) -> bytes:
        """The raw inception key: signing key of a person, organisation key of a member."""
        public = self.file.public
        return public["signing"] if "signing" in public else public["organisation"]


def organisation_key(path: Path) -> Key:
    """Read the file of an organisation's key, which lies in no wallet.

    Raises:
        KeyFileError: it cannot be used, or holds other keys.
    """
    file = load_key_file(path)
    if file.kind != "organisation":
        raise KeyFileDamagedError(f"{path} holds no organisation key, but those of a {file.kind}")
    return Key(str(path), file)


class Wallet:
    """The keys, petnames and network in one folder."""

    def __init__(self, folder: Path) -> None:
        """Point at a folder, which is made when something is first kept in it."""
        self.folder = folder

    def make_folder(self) -> None:
        """Make the folder, for its owner only."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path_of(self, name: str) -> Path:
        """Return where a name's keys lie, or would lie.

        Raises:
            CliError: no name of a key.
        """
        if not _NAME.match(name):
            raise usage_error(f"{name!r} is no name of a key: letters, digits and _.- (and @MEMBER at the end)")
        return self.folder / f"{name}.key"

    def entries(self) -> dict[str, KeyFile | bytes | KeyFileError | DidError]:
        """Return all that stands here by name: keys, the DID of a petname, or why one of them cannot be used."""
        found: dict[str, KeyFile | bytes | KeyFileError | DidError] = {}
        for path in sorted([*self.folder.glob("*.did"), *self.folder.glob("*.key")]):
            try:
                found[path.stem] = load_key_file(path) if path.suffix == ".key" else self._read_petname(path)
            except (KeyFileError, DidError) as error:
                found[path.stem] = error
        return found

    def keys(self) -> list[Key]:
        """Return all keys that can be used, by name."""
        return [Key(name, entry) for name, entry in self.entries().items() if isinstance(entry, KeyFile)]

    def key(self, who: str, member: str | None = None) -> Key:
        """Find keys by name or DID; of a name with keys for several members, those for ``member`` come first.

        Raises:
            KeyFileError: there is no such key, or its file cannot be used.
        """
        if is_did(who):
            did = parse_did(who)
            for key in self.keys():
                if key.did == did:
                    return key
            raise KeyFileMissingError(f"no key in {self.folder} belongs to {who}")
        return Key(*self._load(who, member))

    def _load(self, name: str, member: str | None) -> tuple[str, KeyFile]:
        for candidate in (f"{name}@{member}", name) if member and "@" not in name else (name,):
            path = self.path_of(candidate)
            if path.exists():
                return candidate, load_key_file(path)
        raise KeyFileMissingError(f"there is no key {name} in {self.folder}")

    def did(self, who: str, member: str | None = None) -> bytes:
        """Return the raw DID of a name, of keys or a petname, or of a DID as text.

        Raises:
            DidError: a malformed DID.
            CliError: nobody here has this name.
        """
        if is_did(who):
            return parse_did(who)
        if self.knows_keys(who, member):
            return self.key(who, member).did
        path = self.path_of(who).with_suffix(".did")
        if not path.exists():
            raise CliError(
                "name.not_found",
                f"nobody in {self.folder} is called {who}",
                hint=f"give the DID, or keep it under that name: caretrace key import DID --name {who}",
            )
        return self._read_petname(path)

    def knows(self, who: str, member: str | None = None) -> bool:
        """Tell whether a name stands for somebody here."""
        return bool(_NAME.match(who)) and (
            self.knows_keys(who, member) or self.path_of(who).with_suffix(".did").exists()
        )

    def knows_keys(self, name: str, member: str | None = None) -> bool:
        """Tell whether there are keys under a name."""
        return self.path_of(name).exists() or bool(member and self.path_of(f"{name}@{member}").exists())

    def keep_petname(self, name: str, did: bytes) -> Path:
        """Keep somebody's DID under a name.

        Raises:
            CliError: the name is taken.
        """
        if self.knows(name):
            raise CliError("name.taken", f"{name} is somebody in {self.folder} already", hint="choose another name")
        self.make_folder()
        path = self.path_of(name).with_suffix(".did")
        write_private(path, (encode_did(did) + "\n").encode(), replace=False)
        return path

    @cached_property
    def names_by_did(self) -> dict[str, str]:
        """What the owner calls those whom the wallet knows, by DID, to show people names."""
        known = {encode_did(entry): name for name, entry in self.entries().items() if isinstance(entry, bytes)}
        return known | {encode_did(key.did): key.name for key in self.keys()}

    def shown(self, did: str) -> str:
        """Return a name for a DID if the wallet knows one, else its end, which is enough to tell two apart."""
        if did in self.names_by_did:
            return self.names_by_did[did]
        return f"did:..{did[-8:]}" if is_did(did) else did

    @staticmethod
    def _read_petname(path: Path) -> bytes:
        with path.open("rb") as file:
            text = file.read(_DID_BYTES_MAX)
        return parse_did(text.decode("ascii", "replace").strip())

    def pin(self) -> Pin | None:
        """Return the network that this wallet has met, or None before its first use.

        Raises:
            CliError: the file is damaged.
        """
        path = self.folder / "network.json"
        try:
            with path.open("rb") as file:
                return msgspec.json.decode(file.read(_PIN_BYTES_MAX), type=Pin)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CliError(
                "wallet.damaged",
                f"{path}: {error}",
                exit_code=Exit.ERROR,
                hint="remove the file; the wallet then meets its network anew, so check the genesis it is shown",
            ) from None

    def keep_pin(self, chain_id: bytes, genesis: bytes, home: Path) -> Pin:
        """Pin the network; of two commands that meet one at the same time, the first decides.

        Raises:
            CliError: what the other command wrote is damaged.
        """
        pin = Pin("caretrace.network/1", chain_id.hex(), genesis.decode("ascii"), str(home.absolute()))
        self.make_folder()
        try:
            write_private(self.folder / "network.json", msgspec.json.encode(pin), replace=False)
        except FileExistsError:
            kept = self.pin()
            assert kept is not None, "a file that exists was read"
            return kept
        return pin


def require_person(key: Key) -> None:
    """Refuse keys that are no person's.

    Raises:
        CliError: they are an organisation's.
    """
    if "sealing" not in key.file.public:
        raise CliError("keyfile.wrong_kind", f"{key.file.path} holds no person's keys, but those of a {key.file.kind}")
