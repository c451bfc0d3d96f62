"""Where a command finds its node and its wallet: options, environment, a test network's folder, defaults."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from cli.client import Node
from cli.errors import CliError, Exit, usage_error
from node.config import Home, load_config

TESTNET_FILE = "testnet.json"
_TESTNET_BYTES_MAX = 1 << 20
DAMAGED_HINT = "stop each node (caretrace stop --home DIR), then remove the folder"


class TestnetNode(msgspec.Struct):
    """One node of a test network, as its file lists it; addresses beside the home are for people."""

    name: str
    home: str


class TestnetFile(msgspec.Struct):
    """What ``testnet.json`` says: the nodes in order and the wallet's folder, from the file's own folder."""

    schema: str
    nodes: list[TestnetNode]
    wallet: str = "wallet"


@dataclass(frozen=True)
class Testnet:
    """A test network on this machine."""

    folder: Path
    homes: dict[str, Path]
    wallet: Path


@dataclass(frozen=True)
class Place:
    """What the user said about node and wallet; the rest follows from it, when it is asked for.

    The node: ``--home`` or ``--node``, ``$CARETRACE_NODE``, ``$CARETRACE_HOME``, the wallet's home node, the first
    node of the test network here, ``~/.caretrace``. The wallet: ``--wallet``, ``$CARETRACE_WALLET``, the test
    network's where its node or no node at all is named, ``~/.caretrace-wallet``.
    """

    node_option: str | None = None
    home_option: Path | None = None
    folder_option: Path | None = None
    wallet_option: Path | None = None

    @cached_property
    def testnet(self) -> Testnet | None:
        """The test network here, if there is one."""
        named = self.folder_option or _path_from("CARETRACE_TESTNET")
        folder = named or Path("caretrace-testnet")
        try:
            data = (folder / TESTNET_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if named:
                raise usage_error(f"there is no test network in {folder}", "caretrace testnet up") from None
            return None
        return _read_testnet(folder, data)

    @cached_property
    def _node_named(self) -> str | None:
        if self.node_option and self.home_option:
            raise usage_error("--node and --home both name the node; give one")
        named = self.node_option or (None if self.home_option else os.environ.get("CARETRACE_NODE"))
        if named and named.startswith(("https://", "http://")):
            raise usage_error(
                "a node is reached over its Unix socket only; over TCP it answers health checks, not commands",
                "run the command on the node's machine, with --node and the node's home folder",
            )
        return named

    @cached_property
    def wallet(self) -> Path:
        """The wallet's folder."""
        named = self.wallet_option or _path_from("CARETRACE_WALLET")
        if named:
            return named
        if self.testnet and (self._in_testnet(self._node_named) or not self._home_named):
            return self.testnet.wallet
        return Path("~/.caretrace-wallet").expanduser()

    @property
    def _home_named(self) -> bool:
        return bool(self._node_named or self.home_option or os.environ.get("CARETRACE_HOME"))

    def _in_testnet(self, name: str | None) -> bool:
        return name is not None and self.testnet is not None and name in self.testnet.homes

    def node_home(self, wallet_home: Path | None = None) -> tuple[str, Path]:
        """Return what the node is called and its home; ``wallet_home`` is the wallet's home node."""
        if self._node_named:
            return self._node_named, self._home_of(self._node_named)
        home = self.home_option or _path_from("CARETRACE_HOME") or wallet_home
        if home is None and self.testnet:
            return next(iter(self.testnet.homes.items()))
        home = home or Path("~/.caretrace").expanduser()
        return str(home), home

    def _home_of(self, name: str) -> Path:
        if "/" in name or name in (".", ".."):
            return Path(name).expanduser()
        if self.testnet is None and Path(name).is_dir():
            return Path(name)
        if self.testnet is None:
            hint = "give the node's home folder, or --dir with the test network's folder"
            raise usage_error(f"there is no test network here that could have a node {name}", hint)
        if name not in self.testnet.homes:
            names = ", ".join(self.testnet.homes)
            raise usage_error(f"the test network in {self.testnet.folder} has no node {name}; it has {names}")
        return self.testnet.homes[name]

    def connect(self, timeout_s: float, wallet_home: Path | None = None) -> Node:
        """Aim at the node.

        Raises:
            CliError: there is no such node.
        """
        name, path = self.node_home(wallet_home)
        home = Home(path)
        if not home.path.is_dir():
            raise CliError(
                "node.not_reachable",
                f"there is no home of a node at {home.path}",
                exit_code=Exit.UNREACHABLE,
                hint="caretrace testnet up, or caretrace init, or name the node with --node",
            )
        return Node(name, home.socket(load_config(home, os.environ)), timeout_s)


def home_of(option: Path | None) -> Home:
    """Return the home that an operator's command works on: ``--home``, ``$CARETRACE_HOME``, ``~/.caretrace``."""
    return Home(option or _path_from("CARETRACE_HOME") or Path("~/.caretrace").expanduser())


def _path_from(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text).expanduser() if text else None


def _read_testnet(folder: Path, data: bytes) -> Testnet:
    try:
        content = msgspec.json.decode(data[:_TESTNET_BYTES_MAX], type=TestnetFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CliError("testnet.damaged", f"{folder / TESTNET_FILE}: {error}", hint=DAMAGED_HINT) from None
    homes = {node.name: folder / node.home for node in content.nodes}
    if not homes:
        raise CliError("testnet.damaged", f"{folder / TESTNET_FILE} lists no node", hint=DAMAGED_HINT)
    return Testnet(folder, homes, folder / content.wallet)
