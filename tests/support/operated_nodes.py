"""Two hospitals' real APIs on Unix sockets, over one real ledger, for commands to talk to as they talk to nodes.

What agreement would do is done by a chain that holds all validators' keys; contracts, custody, receipts are the real
ones. The homes stand in a test network's folder, so that ``--node north`` finds them.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio
from click.testing import CliRunner, Result

from cli.main import caretrace
from node.api.app import create_app
from node.runtime.inspect import verify_running
from storage.schema.codec import encode
from storage.schema.genesis import founding_preimage, render_file
from storage.schema.signatures import sign
from tests.support.live_node import LiveChain, MemberNode
from tests.support.served import served, services_of
from tests.support.small_ledger import of_member

NAMES = ("north", "south")


@dataclass
class Operated:
    """The network, and how a command is run on it."""

    folder: Path
    chain: LiveChain
    genesis_file: Path
    why_not_ready: list[str]

    def run(self, *arguments: str, environment: dict[str, str] | None = None, **more: Any) -> Result:
        """Run a command in this process, as a shell would."""
        own = {"CARETRACE_TESTNET": str(self.folder), **(environment or {})}
        return CliRunner(env=own).invoke(caretrace, list(arguments), catch_exceptions=False, **more)

    def ask(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """Run a command with ``--json`` and return its answer."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == exit_code, result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def refusal(self, *arguments: str, exit_code: int) -> dict[str, Any]:
        """Run a command that must fail so, and return what it says of it."""
        error: dict[str, Any] = self.ask(*arguments, exit_code=exit_code)["error"]
        return error


def founded(chain: LiveChain) -> bytes:
    """The genesis file of the chain, signed by every founder."""
    preimage = founding_preimage(chain.genesis.chain_id)
    names = [member.name for member in chain.genesis.body.members]
    signatures = {name: sign(of_member(name, "organisation").seed, preimage) for name in names}
    return render_file(encode(chain.genesis.body), signatures)


@contextmanager
def operated(folder: Path) -> Iterator[Operated]:
    """Run north and south in a thread, each with its home in ``folder``."""
    chain = LiveChain(folder)
    chain.time_ms = int(time.time() * 1000)
    genesis_file = folder / "genesis.json"
    genesis_file.write_bytes(founded(chain))
    for name in NAMES:
        (folder / name / "run").mkdir(parents=True)
        config = f'name = "{name}"\nlisten = ["/ip4/127.0.0.1/tcp/4101"]\n'
        (folder / name / "config.toml").write_text(config)
    why_not_ready: list[str] = []
    nodes = [{"name": name, "home": name, "http": "off", "p2p": "-"} for name in NAMES]
    (folder / "testnet.json").write_text(json.dumps({"schema": "caretrace.testnet/1", "nodes": nodes}))
    started, stopped = threading.Event(), trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        members = {name: MemberNode(name, folder / name, chain) for name in NAMES}
        for node in members.values():
            node.peers.nodes.update(members)
        async with AsyncExitStack() as stack:
            for name, node in members.items():
                services = services_of(
                    node,
                    chain,
                    status=lambda name=name: status_of(chain, name),
                    genesis_file=genesis_file.read_bytes(),
                    why_not_ready=lambda: why_not_ready,
                    verify=partial(verify_running, chain.kept, chain.genesis),
                )
                await stack.enter_async_context(served(create_app(services), folder / name / "run" / "node.sock"))
            tokens.append(trio.lowlevel.current_trio_token())
            started.set()
            await stopped.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert started.wait(10), "the nodes listen"
        yield Operated(folder, chain, genesis_file, why_not_ready)
    finally:
        tokens[0].run_sync_soon(stopped.set)
        thread.join()
        chain.close()


def status_of(chain: LiveChain, name: str) -> dict[str, Any]:
    """What a node would say of itself, as far as commands need it."""
    head = chain.kept.head
    member = chain.genesis.member(name)
    assert member is not None
    return {
        "name": name,
        "member": name,
        "network": chain.genesis.body.name,
        "chain_id": chain.genesis.chain_id.hex(),
        "height": head.header.height,
        "peers": [{"name": other, "connected": True, "latency_ms": 1.0} for other in NAMES if other != name],
        "service_key": member.service_key.hex(),
        "ready": True,
    }
