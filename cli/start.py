"""``caretrace start`` and ``stop``: the process of one node."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import click

from cli.command import Verb
from cli.errors import CliError, Exit
from cli.home import load_appointed, load_card
from cli.options import FILE, FOLDER, passphrase
from cli.output import Answer
from cli.passphrase import Passphrases
from cli.place import home_of
from node.config import Config, Home, load_config
from node.keys.keyfile import KeyFile, load_key_file
from node.keys.private_file import write_private
from storage.schema.genesis import GENESIS_BYTES_MAX, load_file

_STOP_S = 30.0
_LOOK_S = 0.05


@click.command(
    cls=Verb, example="caretrace start --home /var/lib/caretrace --passphrase-file /etc/caretrace/passphrase"
)
@click.option("--home", metavar="DIR", type=FOLDER, help="Home folder of the node.")
@click.option("--genesis", metavar="FILE", type=FILE, help="The network's genesis file, at the first start.")
@click.option("--no-heal", "keeps", is_flag=True, help="End on a damaged ledger; do not have it anew from the others.")
@passphrase
def start(home: Path | None, genesis: Path | None, keeps: bool, passphrases: Passphrases) -> Answer:
    """Run a node in the foreground until it is told to stop.

    A ledger that is damaged or lost is put aside into data/quarantine, and had anew from the other members.

    Its log goes to standard error. SIGTERM and SIGINT stop it cleanly, a second one at once; on SIGHUP it reads its
    log level again.
    """
    place = home_of(home)
    if genesis:
        load_key_file(place.key_file)
        _place_genesis(place, genesis)
    return run_node(place, passphrases, heals=not keeps)


def run_node(home: Home, passphrases: Passphrases, *, heals: bool = True) -> Answer:
    """Run a home's node in the foreground until it is told to stop; ``heals`` as in ``node.runtime.process.run``.

    Raises:
        CliError: it cannot run from this home, or no longer.
    """
    config = load_config(home, os.environ)
    keys = load_key_file(home.key_file)
    _check_membership(home, config, keys)
    retired = [load_key_file(path) for path in home.retired_key_files]
    (secrets, *older), _ = passphrases.open_together([keys, *retired], f"the node {config.name}")
    # By name, late: it loads libp2p and takes a second, which no other command is to wait for.
    process = import_module("node.runtime.process")
    try:
        older_secrets = [each["encryption"] for each in older]
        status: int = process.run(home.path, secrets, older_secrets, heals=heals)
    except process.StartError as error:
        raise CliError(error.code, str(error), hint=error.hint) from None
    return Answer({"name": config.name, "home": str(home.path)}, exit_code=Exit.OK if status == 0 else Exit.ERROR)


def _place_genesis(home: Home, source: Path) -> None:
    with source.open("rb") as file:
        data = file.read(GENESIS_BYTES_MAX + 1)
    load_file(data)
    try:
        write_private(home.genesis_file, data, replace=False)
    except FileExistsError:
        if home.genesis_file.read_bytes() != data:
            detail = f"{home.genesis_file} is of another network than {source}"
            raise CliError("genesis.exists", detail, hint="make another home for it") from None


def _check_membership(home: Home, config: Config, keys: KeyFile) -> None:
    try:
        with home.genesis_file.open("rb") as file:
            genesis = load_file(file.read(GENESIS_BYTES_MAX + 1))
    except FileNotFoundError:
        detail = f"there is no {home.genesis_file}: the network is not founded yet"
        raise CliError("genesis.not_found", detail, hint="caretrace found, then start --genesis FILE") from None
    member = genesis.member(config.name)
    if member is None and not home.invite_file.exists():
        detail = f"{config.name} is no founder of the network {genesis.body.name}"
        raise CliError("member.unknown", detail, hint="whoever did not found it needs an invite: caretrace join INVITE")
    member = member or load_card(home.card_file).member()
    first = {"node": member.node_key, "service": member.service_key, "encryption": member.encryption_key}
    appointed = load_appointed(home)
    if dict(keys.public) != (appointed or first):
        stated = "that the organisation appointed last" if appointed else "that genesis, or the card, states"
        hint = "finish it: caretrace members rekey" if home.next_key_file.exists() else None
        raise CliError("member.keys_differ", f"the keys in {home.key_file} are not those {stated}", hint=hint)


@click.command(cls=Verb, example="caretrace stop --home /var/lib/caretrace")
@click.option("--home", metavar="DIR", type=FOLDER, help="Home folder of the node.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    default=_STOP_S,
    show_default=True,
    help="How long to wait for its end.",
)
def stop(home: Path | None, timeout_s: float) -> Answer:
    """Stop the node of a home cleanly, and wait until it has ended."""
    place = home_of(home)
    pid = running_pid(place)
    if pid is None:
        raise CliError("node.not_running", f"no node runs in {place.path}", exit_code=Exit.UNREACHABLE)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while running_pid(place) == pid:
        if time.monotonic() > deadline:
            raise CliError("node.still_running", f"process {pid} has not ended in {timeout_s:g} s", hint=f"kill {pid}")
        time.sleep(_LOOK_S)
    return Answer({"home": str(place.path), "pid": pid}, f"stopped: process {pid}")


def running_pid(home: Home) -> int | None:
    """Return the process that runs in a home: the one that holds the lock on its pid file.

    A pid alone proves nothing: after a crash another program may have been given it.
    """
    try:
        with home.pid_file.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read(32).strip()
                return int(text) if text.isdigit() else None
            return None
    except FileNotFoundError:
        return None


def start_in_background(home: Home, output: BinaryIO) -> "subprocess.Popen[bytes] | None":
    """Start a home's node in a session of its own; None if a node runs there already, or is starting.

    The lock is taken here and handed over as the node's standard input: from this moment on the node is known by it,
    though it takes a second to come as far as to look for it.
    """
    home.run_folder.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(home.pid_file, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        lock.truncate(0)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.main", "start", "--home", str(home.path)],
            stdin=lock,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=home.path,
        )
        lock.write(f"{process.pid}\n".encode())
        return process
