"""Members' nodes without a network between them: custody and API over one real ledger on disk.

All validators' keys are at hand, so a submitted call commits at once in a block of its own, unless ``is_holding``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.api.commits import Commits
from node.custody.custodian import Custodian
from node.custody.data_keys import DataKeys
from node.custody.deposits import Deposits
from node.custody.gatekeeper import Gatekeeper
from node.custody.labels import Labels
from node.custody.reader import Reader
from node.custody.vault import Folder, Vault
from node.custody.wire import PeerUnreachableError
from node.execution.admission import AdmissionError, admit, check_payer
from storage.ledger import Ledger
from storage.schema.block import Outcome
from storage.schema.calls import EnrolPractitioner, Grant, Provision, RegisterPatient, RequestAccess, Revoke
from storage.schema.transaction import Transaction, derived_id
from tests.support.chain import seed_of
from tests.support.kept_ledger import KeptLedger
from tests.support.small_ledger import Actor, of_member, service
from tests.support.story import DAY_S, World


@dataclass(frozen=True)
class Refused:
    code: str
    detail: str
    field: str = ""


def sealing_secret(actor: Actor) -> bytes:
    """The secret of an actor's sealing key."""
    return seed_of(f"{actor.name}, sealing")


class LiveChain(World):
    """The network's chain as every member holds it, its clock, and a door that orders what it takes in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(path=folder / "ledger")
        assert isinstance(self.ledger, KeptLedger)
        self.kept: Ledger = self.ledger.ledger
        self.commits = Commits(0)
        self.listeners: list[Callable[[int, list[bytes]], None]] = []
        self.is_holding = False
        self.held: list[Transaction] = []

    def wall_ms(self) -> int:
        return self.time_ms

    async def submit(self, envelopes: Sequence[bytes]) -> list[bytes | Refused]:
        """Take envelopes in as a node does, then order those that were taken."""
        answers: list[bytes | Refused] = []
        for envelope in envelopes:
            try:
                transaction = admit(envelope, self.genesis.chain_id, self.time_s, verify=True)
                check_payer(transaction, self.kept.state)
            except AdmissionError as error:
                answers.append(Refused(error.code, error.detail, error.field))
                continue
            self.held.append(transaction)
            answers.append(transaction.id)
        if not self.is_holding:
            self.order_held()
        return answers

    def order_held(self) -> None:
        """Commit a block of what waits."""
        waiting, self.held = self.held, []
        if waiting:
            self.order(*waiting)

    def order(self, *transactions: Transaction) -> list[Outcome]:
        outcomes = super().order(*transactions)
        ids = [transaction.id for transaction in transactions]
        self.commits.on_block(self.kept.head.header.height, ids)
        for listener in self.listeners:
            listener(self.time_ms, ids)
        return outcomes

    def register(self, patient: Actor, member: str = "north") -> None:
        signers = [patient, service(member)]
        outcome = self.do("identity.register_patient", RegisterPatient(patient.sealing_key), signers, member)
        assert outcome.code == "ok", outcome

    def enrol(self, practitioner: Actor, member: str = "south") -> None:
        times = (self.time_s, self.time_s + 30 * DAY_S)
        enrolment = EnrolPractitioner(practitioner.sealing_key, "physician", *times)
        outcome = self.do("identity.enrol_practitioner", enrolment, [practitioner, service(member)], member)
        assert outcome.code == "ok", outcome

    def grant(self, patient: Actor, root: Provision) -> bytes:
        outcome = self.do("consent.grant", Grant(root, None), [patient])
        assert outcome.code == "ok", outcome
        return derived_id(outcome.id)

    def revoke(self, patient: Actor, consent: bytes) -> None:
        outcome = self.do("consent.revoke", Revoke(consent), [patient])
        assert outcome.code == "ok", outcome

    def request(self, reader: Actor, record: bytes, member: str = "south") -> bytes:
        outcome = self.do("access.request", RequestAccess(record, "TREAT"), [reader], member)
        assert outcome.code == "ok", outcome
        return derived_id(outcome.id)

    def close(self) -> None:
        self.kept.close()


class MemberNode:
    """The custody of one member; other members' gatekeepers are asked directly."""

    def __init__(self, name: str, folder: Path, chain: LiveChain, custodian: Custodian | None = None) -> None:
        """Keep records under ``folder``; with another ``custodian`` than the member's own to try a wrong one."""
        self.name = name
        self.folder = folder
        secret = sealing_secret(of_member(name, "encryption"))
        member = chain.genesis.member(name)
        assert member is not None
        self.custodian = custodian or Custodian(
            name, chain.genesis.chain_id, member.service_key, member.encryption_key, service(name).seed, (secret,)
        )
        self.vault = Vault(folder / "vault")
        self.data_keys = DataKeys(Folder(folder / "datakeys"), member.encryption_key, (secret,))
        self.labels = Labels(self.data_keys)
        kept, submit, clock = chain.kept, chain.submit, chain.wall_ms
        self.deposits = Deposits(self.custodian, kept, submit, self.vault, self.data_keys, clock)
        self.gatekeeper = Gatekeeper(self.custodian, kept, chain.commits, submit, self.vault, self.data_keys, clock)
        self.peers = DirectPeers(name)
        self.reader = Reader(name, kept, self.gatekeeper, self.peers, clock)
        chain.listeners.append(self.deposits.on_block)

    def files(self) -> list[str]:
        """The names of everything that this member keeps outside the ledger."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


class DirectPeers:
    """Carries requests to the gatekeepers of those nodes that are there."""

    def __init__(self, asker: str) -> None:
        self._asker = asker
        self.nodes: dict[str, MemberNode] = {}

    async def request(self, member: str, service: str, payload: bytes, timeout_s: float) -> bytes:
        node = self.nodes.get(member)
        assert timeout_s > 0
        if node is None:
            raise PeerUnreachableError("connection refused")
        services = {
            "custody.key": node.gatekeeper.on_key_request,
            "custody.content": node.gatekeeper.on_content_request,
        }
        return await services[service](self._asker, payload)
