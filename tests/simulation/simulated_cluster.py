"""One schedule: a cluster, its faults, and what must be true in the end, all drawn from one seed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.pbft.replica import Pbft
from storage.schema.block import ZERO_DIGEST, Certificate, CertificateError, Header, VoteType, verify_certificate
from storage.schema.block import vote_preimage as preimage_of
from storage.schema.validators import quorum
from tests.simulation.adversary import Adversary
from tests.simulation.agreement_checks import Checks, ViolationError
from tests.simulation.fault_schedule import FaultSchedule, Plan, draw_plan
from tests.simulation.signing import FakeSigner, RealSigner, validator_set
from tests.simulation.virtual_disk import Disk, StoredBlock
from tests.simulation.virtual_host import Host, Manners
from tests.simulation.virtual_network import Network
from tests.simulation.virtual_world import MS, SECOND, World

CHAIN_ID = b"simulated chain".ljust(32, b".")
BLOCKS_AFTER_FAULTS = 10
RECOVERY_S_MAX = 240

EngineMaker = Callable[..., Pbft]


@dataclass
class Report:
    """What a schedule came to."""

    seed: int
    plan: Plan
    events: int
    virtual_s: float
    recovery_s: float
    heights: tuple[int, ...]
    fingerprint: str
    seen: Counter[str]
    trace: list[str] | None = field(default=None, repr=False)


class Cluster:
    """All hosts of one schedule, in one world."""

    def __init__(
        self,
        seed: int,
        *,
        plan: Plan | None = None,
        traced: bool = False,
        real: bool = False,
        make: EngineMaker = Pbft,
    ) -> None:
        """Draw everything from the seed, or follow a plan of one's own."""
        self.world = World(seed, traced=traced)
        self.plan = plan or draw_plan(self.world)
        self.seed = seed
        self.names = tuple(f"h{index}" for index in range(self.plan.count))
        self.network = Network(self.world, self.plan.weather)
        liars = self.names[: self.plan.liars] if self.world.chance(0.5) else self.names[-self.plan.liars :]
        self.liars = frozenset(liars if self.plan.liars else ())
        self.checks = Checks(self.world, self.names, frozenset(self.names) - self.liars)
        self._validators = validator_set(self.names)
        self._signer = RealSigner if real else FakeSigner
        self._make = make
        self._submitted = 0
        self.hosts = [self._host(name, real) for name in self.names]
        self.honest = [host for host in self.hosts if host.name not in self.liars]
        self.adversaries = [self._corrupt(host) for host in self.hosts if host.name in self.liars]
        self.faults = FaultSchedule(self.world, self.network, self.hosts, self.honest, self.plan)
        self.checks.on_first_commit = self.faults.on_first_commit

    def run(self) -> Report:
        """Live through the faults, then through a calm in which all honest replicas must come forward.

        Raises:
            ViolationError: a property of agreement did not hold, or there was no progress.
        """
        self.boot()
        self.faults.begin()
        self.world.run(self.plan.faults_us)
        self.faults.heal()
        start_us = self.world.now_us
        goal = max(len(host.disk.ledger) for host in self.honest) + BLOCKS_AFTER_FAULTS
        arrived = self.world.run(
            start_us + RECOVERY_S_MAX * SECOND, lambda: all(len(host.disk.ledger) >= goal for host in self.honest)
        )
        self.checks.check_ledgers(self.honest)
        heights = tuple(len(host.disk.ledger) - 1 for host in self.hosts)
        if not arrived:
            raise ViolationError(f"no progress to {goal - 1} in {RECOVERY_S_MAX} s after the faults: {heights}")
        return self._report(heights, (self.world.now_us - start_us) / SECOND)

    def boot(self) -> None:
        """Start every host, and the clients."""
        for host in self.hosts:
            self.world.after(self.world.between(0, 50) * MS, host.boot)
        self.world.after(60 * MS, self.faults.reconnect_all)
        self.world.after(100 * MS, self._submit)

    def _report(self, heights: tuple[int, ...], recovery_s: float) -> Report:
        seen = Counter(self.checks.seen)
        for adversary in self.adversaries:
            seen += adversary.seen
        seen["executed again"] = sum(host.desk.executed_again for host in self.honest)
        world = self.world
        seconds = world.now_us / SECOND
        return Report(
            self.seed, self.plan, world.events, seconds, recovery_s, heights, world.fingerprint(), seen, world.trace
        )

    def _host(self, name: str, real: bool) -> Host:
        def make_engine() -> Pbft:
            signer = self._signer(name, self.names)
            return self._make(name, CHAIN_ID, self._validators, signer, rotation_blocks=self.plan.rotation_blocks)

        manners = Manners(
            self._holds_really if real else self._holds,
            self.plan.inline,
            self.plan.clock_refusals,
            self.plan.sync_us_max,
        )
        disk = Disk([self._genesis()])
        others = tuple(other for other in self.names if other != name)
        return Host(self.world, self.network, name, disk, make_engine, self.checks, others, manners)

    def _genesis(self) -> StoredBlock:
        zero = ZERO_DIGEST
        header = Header(0, CHAIN_ID, 0, 0, zero, zero, 0, "genesis", 0, zero, 0, 0, self._validators.digest(), zero)
        return StoredBlock(header, None, b"result of genesis".ljust(32, b"."), ())

    def _corrupt(self, host: Host) -> Adversary:
        return Adversary(host, self.names, self._signer(host.name, self.names), self.plan.tricks)

    def _holds(self, certificate: Certificate) -> bool:
        """Check a commit certificate by itself, not by the code under test."""
        signers = certificate.signers
        statement = (certificate.view, certificate.height, certificate.digest, certificate.result)
        preimage = preimage_of(CHAIN_ID, certificate.epoch, VoteType.COMMIT, *statement)
        verifier = FakeSigner(self.names[0], self.names)
        signatures = zip(signers, certificate.signatures, strict=True)
        return (
            len(set(signers)) == len(signers) >= quorum(len(self.names))
            and certificate.result != ZERO_DIGEST
            and all(verifier.verify(signer, preimage, signature) for signer, signature in signatures)
        )

    def _holds_really(self, certificate: Certificate) -> bool:
        try:
            verify_certificate(certificate, VoteType.COMMIT, CHAIN_ID, self._validators)
        except CertificateError:
            return False
        return True

    def _submit(self) -> None:
        """Clients send transactions to every node, and again what is not committed yet; at times they rest."""
        world = self.world
        world.after(world.between(5, 2 * self.plan.submit_ms) * MS, self._submit)
        if self.faults.idle:
            return
        self._submitted += 1
        waiting = max(self._submitted - 3, 0)
        for number in range(waiting, self._submitted):
            transaction = b"tx%d" % number
            for host in self.hosts:
                host.offer(transaction)
