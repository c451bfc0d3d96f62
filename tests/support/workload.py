"""Clients at work through the public API, each with a patient of its own: what they were told is their history.

Grants, revocations, second revocations, access requests with and without a consent, and calls that no node may take.
A call that is not answered is handed in again, the same bytes, to the next node, until a receipt verifies.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from cli.bench_people import Person, add_records, enrol, grant_to, signed
from cli.client import Json, Node
from cli.errors import CliError, Exit
from storage.schema.calls import RequestAccess, Revoke
from storage.schema.codec import Value, typed_id
from storage.schema.events import ConsentGranted
from storage.schema.genesis import Genesis
from storage.schema.receipt import Proven, verify_receipt
from storage.schema.transaction import decode_transaction, encode_body, encode_envelope, sign_body
from tests.support.history import Acknowledged, read_chain, violations
from tests.support.running_network import RunningNetwork, until

NODE_TIMEOUT_S = 5.0
RECEIPT_WAIT_S = 5.0
PAUSE_S = 0.05
SETTLE_S = 90.0
CONSENTS_MAX = 4


class WrongAnswerError(AssertionError):
    """A node told a client what cannot be."""


PASSING = frozenset({"node.bad_answer", "mempool.full", "database.corrupt"})
"""What a node says that is dying, full, or that finds damage."""
WRONG_CLOCK = frozenset({"tx.expired", "tx.too_far_future"})
"""What a node says of good calls while its clock is wrong."""


@dataclass
class Client:
    """One client, in a thread of its own, one call at a time."""

    name: str
    genesis: Genesis
    nodes: list[Node]
    patient: Person
    practitioner: Person
    record: bytes
    draw: random.Random
    pause_s: float
    passing: frozenset[str]
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    reads: int = 0
    resubmissions: int = 0
    failure: Exception | None = None
    _standing: list[bytes] = field(default_factory=list)
    _ended: list[bytes] = field(default_factory=list)
    _turn: int = 0

    def work(self, stop: threading.Event) -> None:
        """Call after call until told to stop; the last one is seen through."""
        try:
            while not stop.wait(self.pause_s):
                self._next_call()()
        except Exception as error:  # noqa: BLE001 - shown by whoever started the thread
            self.failure = error

    def _next_call(self) -> Callable[[], None]:
        calls = [self._grant, self._request, self._request, self._overreach]
        if self._standing:
            calls.append(self._revoke)
        if self._ended:
            calls.append(self._revoke_again)
        return self._revoke if len(self._standing) > CONSENTS_MAX else self.draw.choice(calls)

    def _grant(self) -> None:
        call = grant_to(self.practitioner.key)
        node, proven = self._settle("ok", self.patient, "consent.grant", call)
        (event,) = (event for event in proven.outcome.events if isinstance(event, ConsentGranted))
        self._standing.append(event.consent)
        self._read_back(node, event.consent, is_ended=False)

    def _revoke(self) -> None:
        consent = self._standing.pop(self.draw.randrange(len(self._standing)))
        node, _ = self._settle("ok", self.patient, "consent.revoke", Revoke(consent))
        self._ended.append(consent)
        self._read_back(node, consent, is_ended=True)

    def _revoke_again(self) -> None:
        consent = self.draw.choice(self._ended)
        self._settle("consent.already_revoked", self.patient, "consent.revoke", Revoke(consent))

    def _request(self) -> None:
        expected = "ok" if self._standing else "consent.denied"
        self._settle(expected, self.practitioner, "access.request", RequestAccess(self.record, "TREAT"))

    def _overreach(self) -> None:
        """Hand in what no node may take."""
        lifetime_s, chain_id, signer = 600, self.genesis.chain_id, self.patient
        # A node whose clock is wrong may take what has expired.
        flaws = ("tx.expired", "tx.other_network", "signature.invalid")
        flaw = self.draw.choice([flaw for flaw in flaws if flaw not in self.passing])
        if flaw == "tx.expired":
            lifetime_s = -60
        elif flaw == "tx.other_network":
            chain_id = bytes(32)
        else:
            signer = self.practitioner
        arguments = grant_to(self.practitioner.key)
        not_after_s, nonce = int(time.time()) + lifetime_s, secrets.token_bytes(16)
        keys = [self.patient.key]
        body = encode_body(chain_id, nonce, not_after_s, self.patient.member, keys, "consent.grant", arguments)
        envelope = encode_envelope(body, [sign_body(body, signer.seed)])
        try:
            self._node.post_msgpack("/v1/transactions", [envelope], Json)
        except CliError as error:
            if not self._passes(error) and error.code != flaw:
                raise
            self.refused.append(decode_transaction(envelope).id.hex())
        else:
            raise WrongAnswerError(f"{self._node.name} took a call that is {flaw}")

    def _passes(self, error: CliError) -> bool:
        """Whether an error may come of a fault, so that another node, or a later try, will do better."""
        return error.exit_code in (Exit.UNREACHABLE, Exit.NOT_COMMITTED) or error.code in self.passing

    @property
    def _node(self) -> Node:
        return self.nodes[self._turn % len(self.nodes)]

    def _settle(self, expected: str, person: Person, method: str, arguments: Value) -> tuple[Node, Proven]:
        """Sign a call and hand it in until it is acknowledged; returns by whom, and what the receipt proves."""
        envelope = signed(self.genesis.chain_id, person, method, arguments)
        tx_id = decode_transaction(envelope).id.hex()
        submitted_s = time.monotonic()
        while (proven := self._try(envelope, tx_id)) is None:
            self._turn += 1
            self.resubmissions += 1
            if time.monotonic() > submitted_s + SETTLE_S:
                raise WrongAnswerError(f"{tx_id} of {self.name} was not committed within {SETTLE_S:g} s")
            time.sleep(PAUSE_S)
        if proven.transaction.id.hex() != tx_id:
            raise WrongAnswerError(f"{self._node.name} gave the receipt of another transaction than {tx_id}")
        acknowledged_s, height = time.monotonic(), proven.header.height
        code = proven.outcome.code
        self.acknowledged.append(Acknowledged(self.name, tx_id, submitted_s, acknowledged_s, height, code, expected))
        return self._node, proven

    def _try(self, envelope: bytes, tx_id: str) -> Proven | None:
        try:
            self._node.post_msgpack("/v1/transactions", [envelope], Json)
        except CliError as error:
            if error.code != "tx.replayed":
                if self._passes(error):
                    return None
                raise
        try:
            receipt = self._node.get_bytes(f"/v1/transactions/{tx_id}/receipt", wait_s=RECEIPT_WAIT_S)
        except CliError as error:
            if self._passes(error):
                return None
            raise
        return verify_receipt(receipt, self.genesis)

    def _read_back(self, node: Node, consent: bytes, *, is_ended: bool) -> None:
        """Whoever acknowledged a write must show it at once."""
        try:
            shown = node.get(f"/v1/consents/{typed_id('c', consent)}", Json)
        except CliError as error:
            if self._passes(error):
                return
            raise
        self.reads += 1
        if (shown["ended"] is not None) != is_ended:
            raise WrongAnswerError(f"{node.name} does not show what it has acknowledged: {shown}")


class Workload:
    """Several clients at several nodes of a network, from entering the context to leaving it."""

    def __init__(
        self,
        network: RunningNetwork,
        seed: int,
        *,
        clients: int = 4,
        pause_s: float = 0.05,
        passing: frozenset[str] = PASSING,
    ) -> None:
        self._network = network
        self._stop = threading.Event()
        nodes = [Node(place.name, place.socket, NODE_TIMEOUT_S) for place in network.places]
        self.clients = []
        for number in range(clients):
            node = nodes[number % len(nodes)]
            status = node.get("/v1/status", Json)
            service_key = bytes.fromhex(status["service_key"])
            (patient,), staff = enrol(network.genesis.chain_id, node, service_key, status["name"], 1)
            (record,) = add_records(node, [patient])
            turned = nodes[number % len(nodes) :] + nodes[: number % len(nodes)]
            draw = random.Random(f"{seed}/{number}")
            name = f"client-{number}"
            client = Client(name, network.genesis, turned, patient, staff[0], record, draw, pause_s, passing)
            self.clients.append(client)
        self._threads = [
            threading.Thread(target=client.work, args=(self._stop,), name=client.name) for client in self.clients
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def acknowledged(self) -> list[Acknowledged]:
        return [each for client in self.clients for each in list(client.acknowledged)]

    def goes_on(self, count: int = 8, within_s: float = 60.0) -> None:
        """Wait until so many more calls are acknowledged."""
        before = len(self.acknowledged)
        until(lambda: len(self.acknowledged) >= before + count or self.failures, within_s)
        assert not self.failures, self.failures

    @property
    def failures(self) -> list[str]:
        return [f"{client.name}: {client.failure!r}" for client in self.clients if client.failure]

    def found(self) -> list[str]:
        """Wait until all nodes stand at one height, and hold against their chains what the clients were told."""
        assert not any(thread.is_alive() for thread in self._threads), "the clients have stopped"
        until(self._network.is_level, SETTLE_S)
        nodes = [self._network.node(name) for name in self._network.names]
        with ThreadPoolExecutor(len(nodes)) as pool:
            chains = dict(zip(self._network.names, pool.map(read_chain, nodes), strict=True))
        refused = [tx_id for client in self.clients for tx_id in client.refused]
        return self.failures + violations(self.acknowledged, refused, chains)
