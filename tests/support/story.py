"""People who act on a small ledger: short ways to sign calls and to have them ordered, and a story to begin with."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from node.contracts.contract import Call, Changes
from node.contracts.entries import load_person, load_validators, person_key
from node.contracts.registry import execute
from storage.schema.block import OUTCOME, Outcome
from storage.schema.calls import (
    EnrolPractitioner,
    Grant,
    Provision,
    RegisterPatient,
    RegisterRecord,
    RequestAccess,
    ServeAccess,
)
from storage.schema.codec import Value, encode
from storage.schema.genesis import Parameters
from storage.schema.transaction import (
    Transaction,
    decode_transaction,
    derived_id,
    encode_body,
    encode_envelope,
    sign_body,
)
from tests.support.kept_ledger import KeptLedger
from tests.support.small_ledger import Actor, SmallLedger, make_genesis, service

START_MS = 1_800_000_000_000
DAY_S = 86_400


class World:
    """A ledger, a clock, and short ways to sign calls and to have them ordered."""

    def __init__(self, parameters: Parameters | None = None, path: Path | None = None) -> None:
        """Act on a ledger in memory, or on the real one in a folder."""
        self.genesis = make_genesis(parameters)
        self.ledger = SmallLedger(self.genesis) if path is None else KeptLedger(path, self.genesis)
        self.time_ms = START_MS
        self._nonce = 0

    @property
    def time_s(self) -> int:
        return self.time_ms // 1000

    def sign(
        self,
        method: str,
        arguments: Value,
        signers: Sequence[Actor],
        payer: str = "north",
        *,
        not_after_s: int | None = None,
    ) -> Transaction:
        """Sign a call with a nonce of its own."""
        self._nonce += 1
        body = encode_body(
            self.genesis.chain_id,
            self._nonce.to_bytes(16, "big"),
            self.time_s + 3600 if not_after_s is None else not_after_s,
            payer,
            [signer.key for signer in signers],
            method,
            arguments,
        )
        return decode_transaction(encode_envelope(body, [sign_body(body, signer.seed) for signer in signers]))

    def order(self, *transactions: Transaction) -> list[Outcome]:
        """Put transactions into one block, a second later, and return their outcomes."""
        self.time_ms += 1000
        execution = self.ledger.append(transactions, self.time_ms)
        return [OUTCOME.decode(outcome) for outcome in execution.outcomes]

    def do(self, method: str, arguments: Value, signers: Sequence[Actor], payer: str = "north") -> Outcome:
        """Sign a call and order it alone."""
        return self.order(self.sign(method, arguments, signers, payer))[0]

    def apply(self, transaction: Transaction) -> Changes:
        """Put a transaction to its rule alone, as when what the block did before has changed its ground."""
        body = transaction.body
        call = Call(
            transaction.id,
            body.signers,
            body.payer,
            body.method,
            transaction.arguments,
            self.ledger.head.height + 1,
            self.time_ms,
            self.genesis.parameters,
            load_validators(self.ledger.state),
            self.genesis.chain_id,
        )
        return execute(call, self.ledger.state)

    def wait(self, seconds: int) -> None:
        """Let time pass, without a block."""
        self.time_ms += seconds * 1000


class Story(World):
    """A world in which north sponsors the patient pia and holds her record, and south employs the physician ben."""

    def __init__(self, parameters: Parameters | None = None, path: Path | None = None) -> None:
        super().__init__(parameters, path)
        self.pia, self.ben = Actor("pia"), Actor("ben")
        self.register(self.pia)
        self.enrol(self.ben)
        self.record = self.add_record("laboratory")

    def register(self, patient: Actor, member: str = "north") -> Outcome:
        return self.do(
            "identity.register_patient", RegisterPatient(patient.sealing_key), [patient, service(member)], member
        )

    def enrol(self, practitioner: Actor, member: str = "south", *, role: str = "physician", days: int = 30) -> Outcome:
        times = (self.time_s, self.time_s + days * DAY_S)
        arguments = EnrolPractitioner(practitioner.sealing_key, role, *times)
        return self.do("identity.enrol_practitioner", arguments, [practitioner, service(member)], member)

    def add_record(self, category: str, member: str = "north") -> bytes:
        outcome = self.do(
            "record.register",
            RegisterRecord(self.pia.key, category, (), 2020, b"c" * 32, b"pointer"),
            [service(member)],
            member,
        )
        assert outcome.code == "ok", outcome
        return derived_id(outcome.id)

    def grant(self, root: Provision, *, uses: int | None = None) -> bytes:
        """Let pia grant something, and return the consent's id."""
        outcome = self.do("consent.grant", Grant(root, uses), [self.pia])
        assert outcome.code == "ok", outcome
        return derived_id(outcome.id)

    def replace_key(self, person: Actor) -> None:
        """Leave the state as a replaced key will: another key stands in the person's entry."""
        entry = load_person(self.ledger.state, person.key)
        assert entry is not None
        replaced = msgspec.structs.replace(entry, signing_key=Actor(f"{person.name}, anew").key)
        self.ledger.state.values[person_key(person.key)] = encode(replaced)

    def request(self, record: bytes | None = None, purpose: str = "TREAT") -> Outcome:
        """Let ben ask to read a record, hers if no other is given."""
        return self.do("access.request", RequestAccess(record or self.record, purpose), [self.ben], "south")

    def serve(self, access: bytes, member: str = "north") -> Outcome:
        return self.do("access.served", ServeAccess(access), [service(member)], member)
