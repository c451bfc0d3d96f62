"""Which faults a schedule has, and when: drawn from its seed."""

from collections.abc import Callable
from dataclasses import dataclass

from consensus.pbft.messages import Vote
from storage.schema.block import VoteType
from storage.schema.validators import faults_tolerated
from tests.simulation.adversary import TRICKS
from tests.simulation.virtual_host import Host
from tests.simulation.virtual_network import CALM, Letter, Network, Weather, engine_message
from tests.simulation.virtual_world import MS, SECOND, World

WEATHERS = (
    CALM,
    Weather(delay_us_min=10 * MS, delay_us_max=50 * MS, straggle=0.01),
    Weather(delay_us_min=1 * MS, delay_us_max=30 * MS, straggle=0.03, loss=0.05, repeat=0.05),
    Weather(delay_us_min=1 * MS, delay_us_max=200 * MS, straggle=0.02, loss=0.15, repeat=0.1),
    Weather(delay_us_min=20 * MS, delay_us_max=600 * MS, loss=0.05),
)
STORM = Weather(delay_us_min=1 * MS, delay_us_max=400 * MS, loss=0.4, repeat=0.1)
# After the faults nothing is lost, but a link may be slower than the shortest timeout: only back-off gets through.
CALM_WEATHERS = (
    CALM,
    WEATHERS[1],
    Weather(delay_us_min=1 * MS, delay_us_max=300 * MS),
    Weather(delay_us_min=350 * MS, delay_us_max=700 * MS),
)

# A schedule has few kinds of faults, so that they meet each other often.
KINDS = ("one", "primary", "all", "split", "isolate", "deafen", "clog", "disk", "storm", "rest")
STRIKES = ("behead", "behead", "isolate", "split", "deafen", "storm", "some")


@dataclass(frozen=True)
class Plan:
    """What a schedule is made of."""

    count: int
    liars: int
    tricks: frozenset[str]
    weather: Weather
    calm: Weather
    rotation_blocks: int
    inline: float
    clock_refusals: float
    sync_us_max: int
    submit_ms: int
    faults_us: int
    fault_every_ms: int
    kinds: tuple[str, ...]
    strike: str
    spite: float


def draw_plan(world: World) -> Plan:
    """Draw a plan: mostly four replicas, in half of the schedules with as many liars as are tolerated."""
    pick = world.random.choice
    count = pick([4, 4, 4, 4, 4, 4, 5, 6, 7])
    liars = faults_tolerated(count) if world.chance(0.5) else 0
    tricks = frozenset(world.random.sample(TRICKS, world.between(2, 7)))
    return Plan(
        count=count,
        liars=liars,
        tricks=tricks,
        weather=pick(WEATHERS),
        calm=pick(CALM_WEATHERS),
        rotation_blocks=pick([0, 2, 64]),
        inline=pick([0.0, 0.5, 1.0]),
        clock_refusals=pick([0.0, 0.0, 0.05]),
        sync_us_max=pick([1, 1, 5, 50]) * MS,
        submit_ms=pick([20, 50, 200]),
        faults_us=world.between(5, 12) * SECOND,
        fault_every_ms=pick([300, 1_000, 2_500, 5_000]),
        kinds=tuple(world.random.sample(KINDS, world.between(2, 5))),
        strike=pick(STRIKES),
        spite=pick([0.0, 0.05, 0.2]),
    )


class FaultSchedule:
    """Brings faults about until :meth:`heal`. ``idle`` is set while clients rest."""

    def __init__(self, world: World, network: Network, hosts: list[Host], honest: list[Host], plan: Plan) -> None:
        self.idle = False
        self._world, self._network, self._hosts, self._honest, self._plan = world, network, hosts, honest, plan
        self._over = False
        self._kinds: dict[str, Callable[[int], None]] = {
            "one": self._crash_one,
            "primary": self._crash_primary,
            "some": self._crash_some,
            "all": self._crash_all,
            "split": self._split,
            "isolate": self._isolate,
            "deafen": self._deafen,
            "clog": self._clog,
            "disk": self._slow_disk,
            "storm": self._storm,
            "rest": self._rest,
        }

    def begin(self) -> None:
        """Let the first fault come."""
        self._world.after(self._world.between(200, 1_000) * MS, self._next)

    def heal(self) -> None:
        """End all faults but the liars: every link carries, every host runs."""
        self._over = True
        self.idle = False
        network = self._network
        self._world.note("schedule", "the faults are over")
        network.weather = self._plan.calm
        network.is_lost = None
        network.cut.clear()
        network.unclog(set(network.clogged))
        for host in self._hosts:
            host.crash_in_effects = None
            host.sync_us_max = MS
            if not host.running:
                host.boot()
        self.reconnect_all()

    def reconnect_all(self) -> None:
        """Let connections stand between all hosts."""
        self._reconnect({(a.name, b.name) for a in self._hosts for b in self._hosts if a is not b})

    def on_first_commit(self, committer: Host) -> None:
        """Strike where it hurts: one replica has committed, and nobody else has yet."""
        if self._over or not self._world.chance(self._plan.spite):
            return
        duration_us = self._world.random.choice([1_200, 2_500, 5_000]) * MS
        if self._plan.strike == "behead":
            self._behead(duration_us, committer)
        elif self._plan.strike == "isolate":
            self._isolate(duration_us, committer)
        else:
            self._kinds[self._plan.strike](duration_us)

    def _behead(self, duration_us: int, committer: Host) -> None:
        """Cut off the one who knows of the commit, and lose the votes by which the others would learn of it."""
        certificate = committer.disk.head.certificate
        assert certificate is not None
        place = (VoteType.COMMIT, certificate.height, certificate.view)

        def is_lost(letter: Letter) -> bool:
            message = engine_message(letter)
            return isinstance(message, Vote) and (message.kind, message.height, message.view) == place

        self._isolate(duration_us, committer)
        self._network.is_lost = is_lost
        self._world.after(duration_us, self._lose_nothing, is_lost)

    def _lose_nothing(self, is_lost: Callable[[Letter], bool]) -> None:
        if self._network.is_lost is is_lost:
            self._network.is_lost = None

    def _next(self) -> None:
        if self._over:
            return
        duration_us = self._world.random.choice([100, 400, 1_200, 2_500, 4_000]) * MS
        self._kinds[self._world.random.choice(self._plan.kinds)](duration_us)
        self._world.after(self._world.between(1, 2 * self._plan.fault_every_ms) * MS, self._next)

    def _crash(self, host: Host, duration_us: int) -> None:
        """Take a host down between two of its next effects, and up again later."""
        if host.running:
            host.crash_in_effects = self._world.between(1, 12)
            self._world.after(duration_us, self._boot, host)

    def _boot(self, host: Host) -> None:
        if self._over:
            return
        if host.running and host.crash_in_effects is not None:
            host.crash()
        if not host.running:
            host.boot()
            self._reconnect({(host.name, other.name) for other in self._hosts if other is not host})

    def _crash_some(self, duration_us: int) -> None:
        for host in self._hosts:
            if self._world.chance(0.4):
                self._crash(host, duration_us)

    def _crash_one(self, duration_us: int) -> None:
        self._crash(self._world.random.choice(self._hosts), duration_us)

    def _crash_primary(self, duration_us: int) -> None:
        running = [host for host in self._honest if host.running]
        if running:
            primary = self._world.random.choice(running).engine.primary
            self._crash(next(host for host in self._hosts if host.name == primary), duration_us)

    def _crash_all(self, duration_us: int) -> None:
        for host in self._hosts:
            self._crash(host, duration_us)

    def _split(self, duration_us: int) -> None:
        """Cut the cluster in two."""
        left = {host.name for host in self._hosts if self._world.chance(0.5)}
        self._cut(
            {(a.name, b.name) for a in self._hosts for b in self._hosts if (a.name in left) != (b.name in left)},
            duration_us,
        )

    def _isolate(self, duration_us: int, host: Host | None = None) -> None:
        alone = (host or self._world.random.choice(self._hosts)).name
        links = {(alone, host.name) for host in self._hosts} | {(host.name, alone) for host in self._hosts}
        self._cut(links, duration_us)

    def _deafen(self, duration_us: int) -> None:
        """Cut some links in one direction only."""
        pairs = [(a.name, b.name) for a in self._hosts for b in self._hosts if a is not b]
        self._cut({pair for pair in pairs if self._world.chance(0.3)}, duration_us)

    def _cut(self, links: set[tuple[str, str]], duration_us: int) -> None:
        self._world.note("schedule", f"cuts {len(links)} links")
        self._network.cut |= links
        self._world.after(duration_us, self._mend, links)

    def _mend(self, links: set[tuple[str, str]]) -> None:
        self._network.cut -= links
        self._reconnect(links)

    def _reconnect(self, links: set[tuple[str, str]]) -> None:
        """Tell both ends of some links that they stand again: often, not always."""
        for a, b in sorted({(min(link), max(link)) for link in links}):
            if a != b and self._world.chance(0.7):
                hosts = {host.name: host for host in self._hosts}
                self._world.after(self._world.between(0, 20) * MS, hosts[a].connected, b)
                self._world.after(self._world.between(0, 20) * MS, hosts[b].connected, a)

    def _clog(self, duration_us: int) -> None:
        """Hold back what goes over some links, then let it all go."""
        pairs = [(a.name, b.name) for a in self._hosts for b in self._hosts if a is not b]
        links = {pair for pair in pairs if self._world.chance(0.4)}
        self._world.note("schedule", f"clogs {len(links)} links")
        self._network.clogged |= links
        self._world.after(duration_us, self._network.unclog, links)

    def _storm(self, duration_us: int) -> None:
        self._network.weather = STORM
        self._world.after(duration_us, self._calm_down)

    def _calm_down(self) -> None:
        if not self._over:
            self._network.weather = self._plan.weather

    def _slow_disk(self, duration_us: int) -> None:
        host = self._world.random.choice(self._hosts)
        host.sync_us_max = 800 * MS
        self._world.after(duration_us, self._mend_disk, host)

    def _mend_disk(self, host: Host) -> None:
        host.sync_us_max = self._plan.sync_us_max

    def _rest(self, duration_us: int) -> None:
        """Let the clients rest."""
        self.idle = True
        self._world.after(duration_us, self._work)

    def _work(self) -> None:
        self.idle = False
