"""One command's dealings with its node: which network it is, who the names are, what an id stands for."""

from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import msgspec

from cli.client import Hex, Json, Node
from cli.errors import CliError, Exit, usage_error
from cli.passphrase import Passphrases
from cli.place import Place
from cli.wallet import Key, Wallet, require_person
from node.config import Home
from node.keys.did import encode_did, is_did
from storage.schema.codec import DecodeError, parse_typed_id
from storage.schema.epochs import Epochs, load_epochs
from storage.schema.genesis import Genesis, load_file

_ID_KINDS = {"a": "access", "c": "consent", "e": "evidence", "p": "proposal", "r": "record", "x": "exclusion"}
_PREFIX_LENGTH_MAX = 64


class NodeStatus(msgspec.Struct):
    """What a command needs to know of its node; ``caretrace status`` shows more."""

    member: str
    chain_id: Hex
    service_key: Hex


class Person(msgspec.Struct):
    """What the ledger says of a DID, as far as a command needs it."""

    member: str


class _MembersPage(msgspec.Struct):
    members: list[Json]
    next: str | None


class _Matches(msgspec.Struct):
    matches: list[str]


class Session:
    """The node, the wallet and the network of one command; each is looked for when it is first needed."""

    def __init__(self, place: Place, passphrases: Passphrases, timeout_s: float, *, waits: bool) -> None:
        """Keep what the user said; ``waits`` is whether a write waits for its commit."""
        self.place = place
        self.timeout_s = timeout_s
        self.waits = waits
        self.passphrases = passphrases

    @cached_property
    def wallet(self) -> Wallet:
        """The wallet."""
        return Wallet(self.place.wallet)

    @cached_property
    def node(self) -> Node:
        """The node that this command asks."""
        return self.place.connect(self.timeout_s, self._wallet_home())

    @property
    def home(self) -> Home:
        """The home of the node that this command asks."""
        return Home(self.place.node_home(self._wallet_home())[1])

    def _wallet_home(self) -> Path | None:
        pin = self.wallet.pin()
        return Path(pin.home_node) if pin else None

    @cached_property
    def status(self) -> NodeStatus:
        """Who the node is."""
        return self.node.get("/v1/status", NodeStatus)

    @cached_property
    def genesis(self) -> Genesis:
        """The wallet's network, pinned at its first use; the node must be of the same.

        Raises:
            CliError: the node is of another network.
            GenesisError: the node's genesis file is not what its founders signed.
        """
        pin = self.wallet.pin()
        if pin is None:
            data = self.node.get_bytes("/v1/genesis")
            home = self.place.node_home(None)[1]
            pin = self.wallet.keep_pin(load_file(data).chain_id, data, home)
        genesis = load_file(pin.genesis.encode())
        if self.status.chain_id != genesis.chain_id.hex():
            raise CliError(
                "network.other",
                f"{self.node.name} is of network {self.status.chain_id[:16]}.., "
                f"this wallet of {genesis.body.name} ({genesis.chain_id.hex()[:16]}..)",
                exit_code=Exit.UNVERIFIED,
                hint="keep a wallet for each network: --wallet DIR",
            )
        return genesis

    @property
    def epochs(self) -> Epochs:
        """The chain of epochs up to now, each proven from the wallet's genesis on.

        Raises:
            EpochError: what the node shows does not follow from it.
        """
        return load_epochs(self.node.get_bytes("/v1/epochs"), self.genesis)

    def require_same_network(self) -> None:
        """Refuse a node of another network than the wallet's, before anything is handed to it.

        Raises:
            CliError: as for ``genesis``.
        """
        _ = self.genesis

    def _refuse_other_network(self) -> None:
        # Attack, or mistake: of a node of another network "there is nothing" is true, and means nothing.
        if self.wallet.pin() is not None:
            self.require_same_network()

    def key(self, who: str) -> Key:
        """Find a person's keys in the wallet by name or DID; those for the asked node's member come first.

        Raises:
            KeyFileError: there are none, or they cannot be used.
        """
        key = self.wallet.key(who, self.status.member)
        require_person(key)
        return key

    def only_key(self, who: str | None) -> Key:
        """Find the keys that ``--as`` names, or the wallet's only ones.

        Raises:
            CliError: there are several, or none.
        """
        if who:
            return self.key(who)
        keys = self.wallet.keys()
        if len(keys) != 1:
            raise usage_error(f"{self.wallet.folder} holds {len(keys)} keys; say whose is meant", "--as NAME")
        require_person(keys[0])
        return keys[0]

    def open(self, key: Key) -> dict[str, bytes]:
        """Return the secrets of keys, asking for the passphrase if it must.

        Raises:
            KeyFileError: the passphrase is wrong, or the file is damaged.
        """
        return self.passphrases.open(key.file, key.name)

    def did(self, who: str) -> str:
        """Return the DID, as text, of a name or a DID.

        Raises:
            CliError: nobody has this name.
            DidError: a malformed DID.
        """
        self._refuse_other_network()
        member = None if is_did(who) else self.status.member
        return encode_did(self.wallet.did(who, member))

    def member_of(self, did: str) -> str:
        """Return the member that sponsors or enrolled a person, which pays for their calls.

        Raises:
            CliError: the ledger does not know them.
        """
        return self.node.get(f"/v1/people/{quote(did)}", Person).member

    def members(self) -> list[Json]:
        """Return what the node says of the present members, by name.

        Raises:
            CliError: not reachable, or an answer that is none.
        """
        found: list[Json] = []
        after: str | None = None
        while True:
            page = self.node.get("/v1/members", _MembersPage, after=after)
            found += page.members
            after = page.next
            if after is None:
                return found

    def resolve(self, kind: str, text: str) -> str:
        """Return the whole typed id of a kind (``c``, ``x``, ``r``, ``a``, ``p``, ``e``) for itself or a unique prefix.

        Raises:
            CliError: nothing, or more than one thing, begins so.
        """
        self._refuse_other_network()
        try:
            parse_typed_id(kind, text)
        except DecodeError:
            return self._search(text, f"{kind}-", _ID_KINDS[kind])
        return text

    def resolve_transaction(self, text: str) -> str:
        """Return the whole hex id of a transaction for itself or a unique prefix.

        Raises:
            CliError: as for ``resolve``.
        """
        self._refuse_other_network()
        lower = text.lower()
        if not lower or len(lower) > _PREFIX_LENGTH_MAX or set(lower) - set("0123456789abcdef"):
            raise usage_error(f"{text!r} is no transaction id: up to 64 hexadecimal digits")
        return lower if len(lower) == _PREFIX_LENGTH_MAX else self._search(lower, "", "transaction")

    def _search(self, text: str, prefix: str, kind: str) -> str:
        if not text.startswith(prefix) or text == prefix or len(text) > _PREFIX_LENGTH_MAX:
            raise usage_error(f"{text!r} is no id of a {kind}" + (f": it begins with {prefix}" if prefix else ""))
        matches = self.node.get(f"/v1/resolve/{quote(text, safe='')}", _Matches).matches
        found = [match for match in matches if match.startswith(text)]
        if not found:
            raise CliError(f"{kind}.not_found", f"no {kind} begins with {text}")
        if len(found) > 1:
            raise usage_error(f"{len(found)} ids begin with {text}: {', '.join(found[:3])}", "give more of it")
        return found[0]
