"""A flow of transactions for the demo: grants by its patients, each acknowledged only by a receipt that verifies."""

import threading
import time
from dataclasses import dataclass, field
from itertools import count

from cli.bench_people import Person, signed
from cli.client import Json, Node
from cli.errors import CliError, Exit
from storage.schema.calls import Grant, Period, Provision
from storage.schema.genesis import Genesis
from storage.schema.receipt import verify_receipt
from storage.schema.transaction import decode_transaction

PAUSE_S = 0.03
_OPEN = Period(None, None)
_ROLES = ("physician", "nurse", "pharmacist")


@dataclass(slots=True)
class Flow:
    """Keeps submitting in the background until it is stopped; a node that does not answer is passed over."""

    genesis: Genesis
    patients: list[Person]
    nodes: list[Node]
    pause_s: float = PAUSE_S
    acknowledged: list[str] = field(default_factory=list)
    last_acknowledged: float = 0.0
    failure: CliError | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin, with one thread for each node."""
        for number in range(len(self.nodes)):
            thread = threading.Thread(target=self._submit_to, args=(number,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> list[str]:
        """End the flow; returns the ids of everything that was acknowledged.

        Raises:
            CliError: a node refused what it should have taken, or gave a receipt that does not verify.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure
        return list(self.acknowledged)

    def _submit_to(self, number: int) -> None:
        node = self.nodes[number]
        for turn in count():
            if self._stop.is_set():
                return
            try:
                self._one(node, self.patients[(number + turn) % len(self.patients)], turn)
            except CliError as error:
                # A killed node cannot answer, and what it had taken in may be lost: nobody was told that it stands.
                if error.exit_code not in (Exit.UNREACHABLE, Exit.NOT_COMMITTED) and error.code != "node.bad_answer":
                    self.failure = error
                    return
            time.sleep(self.pause_s)

    def _one(self, node: Node, patient: Person, turn: int) -> None:
        members = [member.name for member in self.genesis.body.members]
        role = f"{members[turn % len(members)]}/{_ROLES[turn % len(_ROLES)]}"
        until = Period(None, int(time.time()) + 3600)
        provision = Provision("permit", until, (), (), (role,), ("read",), ("TREAT",), (), (), (), _OPEN, ())
        envelope = signed(self.genesis.chain_id, patient, "consent.grant", Grant(provision, None))
        tx_id = decode_transaction(envelope).id.hex()
        node.post_msgpack("/v1/transactions", [envelope], Json)
        verify_receipt(node.get_bytes(f"/v1/transactions/{tx_id}/receipt", wait_s=20), self.genesis)
        self.acknowledged.append(tx_id)
        self.last_acknowledged = time.monotonic()
