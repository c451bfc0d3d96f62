"""Options that many commands share, and what they become: a session with a node, or a wallet."""

from collections.abc import Callable
from functools import wraps
from math import isnan
from pathlib import Path
from typing import Any

import click

from cli.passphrase import Passphrases
from cli.place import Place
from cli.session import Session
from cli.wallet import Wallet

TIMEOUT_S = 30.0

Function = Callable[..., Any]
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

_node = click.option(
    "--node", "node_name", metavar="NODE", help="Home folder of a node, or its name in a test network."
)
_home = click.option("--home", "node_home", metavar="DIR", type=FOLDER, help="Home folder of the node.")
_folder = click.option("--dir", "folder", metavar="DIR", type=FOLDER, help="Folder of the test network.")
_wallet = click.option("--wallet", "wallet_folder", metavar="DIR", type=FOLDER, help="Folder of the wallet.")
_passphrase = click.option("--passphrase-file", metavar="FILE", type=FILE, help="File with the key's passphrase.")


class Seconds(click.FloatRange):
    """A time to wait; what is no number is within no range, whatever comparing says."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number of seconds.

        Raises:
            BadParameter: it is none, or outside the range.
        """
        seconds = float(super().convert(value, param, ctx))
        if isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


_timeout = click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=Seconds(min=0.1, max=24 * 3600),
    default=TIMEOUT_S,
    show_default=True,
    help="How long to wait for the node, and for a commit.",
)
_no_wait = click.option("--no-wait", is_flag=True, help="Answer with the transaction's id; do not wait for the commit.")
_no_passphrase = click.option("--no-passphrase", is_flag=True, help="Make a test key, whose file protects nothing.")
testnet_folder = click.option(
    "--dir",
    "folder",
    type=FOLDER,
    envvar="CARETRACE_TESTNET",
    default=Path("caretrace-testnet"),
    show_default=True,
    help="The network's folder.",
)


def reading(function: Function) -> Function:
    """Give a command its session with a node; it signs nothing."""
    return _with(_session(function), _node, _home, _folder, _wallet, _timeout)


def signing(function: Function) -> Function:
    """Give a command its session with a node, and the means to open keys."""
    return _with(_session(function), _node, _home, _folder, _wallet, _passphrase, _timeout)


def writing(function: Function) -> Function:
    """Give a command its session with a node, for a transaction that it signs and waits for."""
    return _with(_session(function), _node, _home, _folder, _wallet, _passphrase, _timeout, _no_wait)


def keeping(function: Function) -> Function:
    """Give a command its wallet, which it finds as all others do; it asks no node."""

    @wraps(function)
    def with_wallet(node_name: str | None, folder: Path | None, wallet_folder: Path | None, **values: Any) -> Any:
        place = Place(node_name, None, folder, wallet_folder)
        return function(Wallet(place.wallet), **values)

    return _with(with_wallet, _wallet, _node, _folder)


def passphrase(function: Function) -> Function:
    """Give a command the passphrases of the keys that it opens."""

    @wraps(function)
    def with_passphrases(*positional: Any, passphrase_file: Path | None, **values: Any) -> Any:
        return function(*positional, passphrases=Passphrases(passphrase_file), **values)

    return _with(with_passphrases, _passphrase)


def new_passphrase(function: Function) -> Function:
    """Give a command that makes keys their passphrases, and whether it is to make test keys."""
    return _with(passphrase(function), _no_passphrase)


def _session(function: Function) -> Function:
    @wraps(function)
    def with_session(
        node_name: str | None,
        node_home: Path | None,
        folder: Path | None,
        wallet_folder: Path | None,
        timeout_s: float,
        passphrase_file: Path | None = None,
        no_wait: bool = False,
        **values: Any,
    ) -> Any:
        place = Place(node_name, node_home, folder, wallet_folder)
        return function(Session(place, Passphrases(passphrase_file), timeout_s, waits=not no_wait), **values)

    return with_session


def _with(function: Function, *options: Callable[[Function], Function]) -> Function:
    for option in reversed(options):
        function = option(function)
    return function
