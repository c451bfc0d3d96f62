"""The process of one node: opened from its home, run until a signal, closed so that nothing is lost."""

import errno
import gc
import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from node.api.app import create_app
from node.api.health import create_health_app
from node.api.server import ListenError as HttpListenError
from node.api.server import listen_tcp, listen_unix, serve
from node.api.services import Services
from node.config import Config, ConfigError, Home, load_config, parse_host_port
from node.keys.keyfile import public_key
from node.network.tcp import ListenError as NetworkListenError
from node.network.transport import quiet_library_logs
from node.replication.chain import DivergedError
from node.runtime.healing import heal_running, ignore_damage, put_aside, take_arrived
from node.runtime.home_lock import HomeInUseError, locked
from node.runtime.inspect import remove_leftovers, verify_running
from node.runtime.logs import set_log_level, set_up_logs
from node.runtime.parts import Opened, Parts, new_start_number, open_ledger, open_vote_log, votes_file, wall_ms
from node.runtime.standing import Standing
from storage.database import DatabaseCorruptError, DatabaseError, DatabaseLostError
from storage.folders import make_folder
from storage.opening import LedgerError
from storage.places import QuarantineFullError
from storage.schema import codec, signatures
from storage.schema.genesis import Genesis, load_file
from storage.schema.invite import Invite, InviteError, load_invite
from storage.vote_log import VoteLog, VoteLogAheadError, VoteLogError

CONNECTIONS_MAX = 256
HEALTH_CONNECTIONS_MAX = 32
MEMBERSHIP_EVERY_S = 2.0

log = logging.getLogger("caretrace.runtime")


# What the operator can mend; anything else that ends a node is a bug of ours, with its trace.
_OPERATORS_ERRORS = (
    DatabaseError,
    DivergedError,
    HomeInUseError,
    HttpListenError,
    InviteError,
    LedgerError,
    NetworkListenError,
    QuarantineFullError,
    codec.CodecRuleError,
    signatures.SignatureRuleError,
    VoteLogError,
)
_DISK_ERRORS = (errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS)
_HEAL = "without --no-heal the node puts what is left aside, has the ledger anew from the other members, and goes on"
_HINTS = {
    "database.corrupt": _HEAL,
    "database.lost": f"put it back; or {_HEAL}",
    "disk.failed": "look at the disk; what the node had promised and committed is on it",
    "disk.full": "make room, and start the node again",
    "quarantine.full": "the disk damages what is written; look at it, then empty data/quarantine",
    "home.in_use": "caretrace status says how it is; caretrace stop stops it",
}


class StartError(Exception):
    """A node cannot run from this home, or no longer; the message is for its operator.

    Attributes:
        code: that of what is wrong, such as ``home.in_use``, ``http.cannot_listen`` or ``database.corrupt``.
        hint: what to try, if anything is known to help.
    """

    def __init__(self, code: str, detail: str) -> None:
        """Say what is wrong."""
        super().__init__(detail)
        self.code = code
        self.hint = _HINTS.get(code)


def run(
    home_path: Path, secrets: Mapping[str, bytes], older_encryption: Sequence[bytes] = (), *, heals: bool = True
) -> int:
    """Run a home's node until SIGTERM or SIGINT; returns the exit code.

    ``secrets`` are the opened keys ``node``, ``service`` and ``encryption``, 32 bytes each; ``older_encryption`` those
    of encryption keys that were replaced. With ``heals`` a ledger that is damaged or lost is put aside and had anew
    from the other members; else the node ends.

    Raises:
        StartError: it cannot run, or its disk fails; the reason is in words.
    """
    home = Home(home_path.resolve())
    config = load_config(home, os.environ)
    set_up_logs(config.log_level, config.log_format)
    quiet_library_logs()
    genesis_file = home.genesis_file.read_bytes()
    genesis = load_file(genesis_file)
    try:
        signatures.self_test()
        codec.self_test()
        live = partial(_live, home, config, genesis_file, secrets, older_encryption)
        with locked(home):
            while live(heals=heals and len(genesis.body.members) > 1):
                gc.unfreeze()
                gc.collect()
    except* _OPERATORS_ERRORS as group:
        first, *others = _leaves(group)
        assert isinstance(first, _OPERATORS_ERRORS)
        raise StartError(first.code, "; ".join(map(str, (first, *others)))) from None
    except* OSError as group:
        first = next(_leaves(group))
        if not isinstance(first, OSError) or first.errno not in _DISK_ERRORS:
            raise
        raise StartError("disk.failed", str(first)) from None
    return 0


def _invite_of(home: Home) -> Invite | None:
    try:
        return load_invite(home.invite_file.read_bytes()).invite
    except FileNotFoundError:
        return None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _live(
    home: Home,
    config: Config,
    genesis_file: bytes,
    secrets: Mapping[str, bytes],
    older_encryption: Sequence[bytes],
    *,
    heals: bool,
) -> bool:
    """Run the node from what lies on its disk until it ends; True if it is to begin again from what lies there then."""
    genesis, data, node_key = load_file(genesis_file), home.resolve(config.data), public_key("node", secrets["node"])
    damage: DatabaseError | None = None
    begins_again = False
    try:
        with _opened(data, genesis, node_key) as opened:
            parts = Parts(
                home, config, genesis, secrets, opened, older_encryption=older_encryption, invite=_invite_of(home)
            )
            # What exists now lives as long as the process: the collector need not look at it again.
            gc.freeze()
            trio.run(partial(_run, home, config, genesis_file, parts, heals=heals), strict_exception_groups=True)
            damage, begins_again = parts.rebirth.damage, parts.rebirth.wanted.is_set()
    except* (DatabaseCorruptError, DatabaseLostError) as group:
        if not heals:
            raise
        first = next(_leaves(group))
        assert isinstance(first, DatabaseError)
        damage = first
    if damage is not None:
        put_aside(data, damage, votes_file(data, node_key).name)
    return begins_again or damage is not None


@contextmanager
def _opened(data: Path, genesis: Genesis, node_key: bytes) -> Iterator[Opened]:
    """Open ledger and vote log; a vote log that cannot tell what was promised makes the node an observer."""
    make_folder(data)
    remove_leftovers(data)
    take_arrived(data, genesis)
    ledger = open_ledger(data, genesis)
    vote_log: VoteLog | None = None
    votes_height = 0
    try:
        try:
            vote_log = open_vote_log(data, ledger, genesis, node_key)
        except VoteLogAheadError as error:
            votes_height = error.height
            log.warning("the vote log: %s; this node follows, and votes again once it has caught up with it", error)
        except VoteLogError as error:
            log.error("the vote log: %s; this node follows, and votes again only with a new node key", error)
        yield Opened(ledger, vote_log, votes_height)
    finally:
        if vote_log is not None:
            vote_log.close()
        ledger.close()


async def _run(home: Home, config: Config, genesis_file: bytes, parts: Parts, *, heals: bool) -> None:
    """Run every part until a signal comes, or the wish to begin again; what fails on the way ends all of them."""
    standing = Standing(parts, home.resolve(config.data))
    listeners = [listen_unix(home.socket(config))]
    tcp = parse_host_port(config.http_tcp)
    health_listeners = [listen_tcp(*tcp)] if tcp else []
    app = create_app(_services(genesis_file, parts, standing, heals=heals))
    health_app = create_health_app(standing.why_not_ready)
    stop = trio.Event()
    async with parts.network.run(), trio.open_nursery() as nursery:
        nursery.start_soon(parts.driver.run, new_start_number)
        nursery.start_soon(parts.intake.run)
        nursery.start_soon(parts.catch_up.run)
        nursery.start_soon(parts.snapshots.run)
        nursery.start_soon(parts.history.run)
        nursery.start_soon(_await_rebirth, parts, stop)
        nursery.start_soon(parts.accusations.run)
        nursery.start_soon(parts.deposits.run)
        nursery.start_soon(_heed_signals, home, stop, nursery.cancel_scope)
        nursery.start_soon(_tell_membership, standing)
        log.info("%s runs at height %d", config.name, parts.chain.head.header.height)
        async with trio.open_nursery() as serving:
            serving.start_soon(partial(serve, app, listeners, stop, connections_max=CONNECTIONS_MAX))
            if health_listeners:
                health = partial(serve, health_app, health_listeners, stop, connections_max=HEALTH_CONNECTIONS_MAX)
                serving.start_soon(health)
            await stop.wait()
            parts.commits.close()
        nursery.cancel_scope.cancel()
    log.info("%s has stopped at height %d", config.name, parts.chain.head.header.height)


async def _await_rebirth(parts: Parts, stop: trio.Event) -> None:
    await parts.rebirth.wanted.wait()
    stop.set()


async def _tell_membership(standing: Standing) -> None:
    """Tell the log what the node is to the network, whenever that changes."""
    told = ""
    while True:
        words = standing.membership()
        if words != told:
            log.info("this node: %s", words)
            told = words
        await trio.sleep(MEMBERSHIP_EVERY_S)


async def _heed_signals(home: Home, stop: trio.Event, everything: trio.CancelScope) -> None:
    """SIGTERM and SIGINT stop the node, a second one at once; SIGHUP reads the log level again."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                _reload(home)
            elif stop.is_set():
                everything.cancel()
            else:
                log.info("stopping")
                stop.set()


def _reload(home: Home) -> None:
    try:
        config = load_config(home, os.environ)
    except ConfigError as error:
        log.error("the settings stay as they were: %s", error)
        return
    set_log_level(config.log_level)
    log.info("log level is %s", config.log_level)


def _services(genesis_file: bytes, parts: Parts, standing: Standing, *, heals: bool) -> Services:
    return Services(
        genesis=parts.genesis,
        genesis_file=genesis_file,
        custodian=parts.custodian,
        ledger=parts.opened.ledger,
        commits=parts.commits,
        submit=parts.intake.submit,
        deposits=parts.deposits,
        labels=parts.labels,
        reader=parts.reader,
        status=standing.status,
        why_not_ready=standing.why_not_ready,
        metrics=parts.metrics.render,
        verify=partial(verify_running, parts.opened.ledger, parts.genesis),
        on_damage=partial(heal_running, parts) if heals else ignore_damage,
        wall_ms=wall_ms,
        record_bytes_max=parts.config.record_bytes_max,
    )
