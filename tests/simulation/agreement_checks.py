"""What must hold at every moment of a simulation, whatever the faults: looked at whenever an honest host acts."""

from collections import Counter
from collections.abc import Callable

from consensus.engine import Accuse, CatchUp, Effect, Fault, Halt, ViewEntered
from consensus.pbft.messages import MESSAGE, NewView, Proposal, ViewChange, Vote, proposal_vote
from consensus.pbft.records import RECORD, PreparedRecord, ViewRecord, VoteRecord
from storage.schema.block import ZERO_DIGEST, VoteType
from tests.simulation.virtual_blocks import block_result
from tests.simulation.virtual_disk import StoredBlock
from tests.simulation.virtual_host import Host
from tests.simulation.virtual_world import SECOND, World

SENDS_PER_SECOND_MAX = 1_000


class ViolationError(AssertionError):
    """A property of agreement does not hold."""


class Checks:
    """Watches the honest hosts, raises :class:`ViolationError`, and counts what a schedule has seen."""

    def __init__(self, world: World, names: tuple[str, ...], honest: frozenset[str]) -> None:
        self.seen: Counter[str] = Counter()
        self.on_first_commit: Callable[[Host], None] = lambda _: None
        self.acknowledged: dict[bytes, int] = {}
        self._world = world
        self._names = names
        self._honest = honest
        self._agreed: dict[int, tuple[bytes, bytes]] = {}
        self._votes: dict[tuple[str, int, int, bool], tuple[bytes, bytes]] = {}
        self._promised_view: dict[str, int] = dict.fromkeys(names, 0)
        self._entered: dict[str, int] = dict.fromkeys(names, 0)
        self.halts: dict[str, list[Effect]] = {name: [] for name in names}
        self.sent: Counter[tuple[str, int]] = Counter()
        self._height: dict[str, int] = dict.fromkeys(names, 0)

    def excuse(self, name: str) -> None:
        """Expect nothing more of a replica whose disk was tampered with."""
        self._honest -= {name}

    def on_step(self, host: Host, effects: tuple[Effect, ...]) -> None:
        """No honest replica is blamed or halted; what is held of others stays bounded."""
        if host.name not in self._honest:
            self.halts[host.name] += [effect for effect in effects if isinstance(effect, Halt)]
            return
        for effect in effects:
            match effect:
                case Fault(member, reason):
                    self._demand(member not in self._honest, f"{host.name} blames honest {member}: {reason}")
                    self.seen["faults"] += 1
                case Halt(reason):
                    self._demand(host.disk.log_height > 0, f"{host.name} halts: {reason}")
                    self.halts[host.name].append(effect)
                case Accuse(member):
                    self._demand(member not in self._honest, f"{host.name} accuses honest {member}")
                    self.seen["accusations"] += 1
                case ViewEntered(view, primary):
                    self._world.note(host.name, f"enters view {view} of {primary} at {len(host.disk.ledger) - 1}")
                    if view > self._entered[host.name]:
                        self._entered[host.name] = view
                        self.seen["views changed"] += 1
                        self.seen["certificates carried"] += host.engine.state.selected != ZERO_DIGEST
                case CatchUp(height):
                    self._world.note(host.name, f"catches up to {height}")
                    self.seen["catch-ups"] += 1
                case _:
                    pass
        state = host.engine.state
        count = len(self._names)
        bounded = len(state.proposals) <= 2 * count and len(state.changes) <= count and len(state.slot.blocks) <= 5
        self._demand(bounded, f"{host.name} holds too much of others")

    def on_send(self, host: Host, data: bytes) -> None:
        """A promise is on the disk before anyone hears it, and contradicts no other."""
        if host.name not in self._honest:
            return
        second = (host.name, self._world.now_us // SECOND)
        self.sent[second] += 1
        self._demand(self.sent[second] <= SENDS_PER_SECOND_MAX, f"{host.name} sends without end")
        message = MESSAGE.decode(data)
        match message:
            case Vote():
                self._check_vote(host, message)
            case Proposal():
                vote = proposal_vote(message, message.header.digest(), self._names.index(host.name))
                self._check_vote(host, vote)
            case ViewChange():
                self._check_view(host, message.signed.change.view)
            case NewView():
                self._world.note(host.name, f"sends the NEW-VIEW of {message.view}")
            case _:
                pass

    def on_commit(self, host: Host, block: StoredBlock) -> None:
        """One block and one result at each height, proved by a real quorum, on its parent, each transaction once."""
        header, certificate = block.header, block.certificate
        digest = header.digest()
        self._world.note(host.name, f"commits {header.height} {digest.hex()[:8]}")
        if host.name not in self._honest:
            return
        parent = host.disk.ledger[header.height - 1]
        assert certificate is not None
        if header.height not in self._agreed:
            self.on_first_commit(host)
        agreed = self._agreed.setdefault(header.height, (digest, block.result))
        self._demand(agreed == (digest, block.result), f"{host.name} commits another block at {header.height}")
        self._demand(header.parent == parent.header.digest(), f"{host.name} commits on another parent")
        self._demand(header.parent_result == parent.result, f"{host.name} commits on another parent's result")
        self._demand(block.result == block_result(parent.result, digest), f"{host.name} commits a false result")
        named = (certificate.height, certificate.digest, certificate.result) == (header.height, digest, block.result)
        self._demand(named, f"{host.name} commits with a certificate of something else")
        self._demand(host.manners.is_certified(certificate), f"{host.name} commits without a quorum")
        for transaction in block.transactions:
            height = self.acknowledged.setdefault(transaction, header.height)
            self._demand(height == header.height, f"{host.name} commits a transaction twice")
        self._height[host.name] = header.height

    def on_boot(self, host: Host) -> None:
        """What was committed or promised in an earlier life still stands."""
        # Whose ledger was lost, and log was not, only follows in this life.
        if host.name in self._honest and not host.disk.log_height:
            self._demand(len(host.disk.ledger) > self._height[host.name], f"{host.name} lost committed blocks")
            promised = self._promised_view[host.name]
            self._demand(host.engine.view >= promised, f"{host.name} falls behind view {promised}, which it was in")

    def on_crash(self, host: Host, *, writes_lost: bool) -> None:
        self._world.note(host.name, "is down")
        self.seen["crashes"] += 1
        self.seen["unsynced writes lost"] += writes_lost

    def check_ledgers(self, hosts: list[Host]) -> None:
        """At the end, whatever anyone was told to be committed stands with everyone."""
        for host in hosts:
            held = {body: block.header.height for block in host.disk.ledger for body in block.transactions}
            for height, agreed in self._agreed.items():
                if height < len(host.disk.ledger):
                    block = host.disk.ledger[height]
                    self._demand((block.header.digest(), block.result) == agreed, f"{host.name} differs at {height}")
            for transaction, height in self.acknowledged.items():
                if height < len(host.disk.ledger):
                    self._demand(held.get(transaction) == height, f"{host.name} lost an acknowledged transaction")

    def _check_vote(self, host: Host, vote: Vote) -> None:
        is_commit = vote.kind is VoteType.COMMIT
        key = (host.name, vote.height, vote.view, is_commit)
        value = (vote.digest, vote.result)
        self._demand(self._votes.setdefault(key, value) == value, f"{host.name} votes twice at {key[1:]}")
        self._promised_view[host.name] = max(self._promised_view[host.name], vote.view)
        if vote.height < len(host.disk.ledger):
            return
        records = [RECORD.decode(record) for record in host.disk.log]
        durable = any(isinstance(record, VoteRecord) and record.vote == vote for record in records)
        self._demand(durable, f"{host.name} sends a vote before its persist")
        if is_commit:
            prepared = any(
                isinstance(record, PreparedRecord)
                and (record.certificate.view, record.certificate.digest) == (vote.view, vote.digest)
                for record in records
            )
            self._demand(prepared, f"{host.name} sends a COMMIT before its prepared certificate is kept")
            self._demand(vote.digest in host.disk.bodies, f"{host.name} sends a COMMIT before its bodies are kept")

    def _check_view(self, host: Host, view: int) -> None:
        self._promised_view[host.name] = max(self._promised_view[host.name], view)
        records = [RECORD.decode(record) for record in host.disk.log]
        durable = any(isinstance(record, ViewRecord) and record.view >= view for record in records)
        self._demand(durable, f"{host.name} sends a VIEW-CHANGE before its persist")

    def _demand(self, holds: bool, what: str) -> None:
        if not holds:
            self._world.note("check", what)
            raise ViolationError(f"at {self._world.now_us} us: {what}")
