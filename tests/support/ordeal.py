"""A list of faults made from a seed, and a running network that has to live through them one by one."""

import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.client import Json, Node
from cli.cluster import start_node
from tests.support.damage import DAMAGES, copy_of, kept_aside, started, why_it_does_not_vote
from tests.support.running_network import RunningNetwork, until
from tests.support.workload import Workload

ALL_NODES = 4
HEAL_WITHIN_S = 120.0
VERIFY_WITHIN_S = 3600
KILLS = {"kill one": 1, "kill the primary": 1, "kill one twice": 2, "kill all": ALL_NODES}
"""How many processes each of them ends."""
CUTS = ("cut one off", "cut in halves", "mute one", "deafen one", "mute the primary", "slow one", "slow all")
CORRUPTIONS = (*(damage.__name__.replace("_", " ") for damage in DAMAGES), "an old data folder", "a second machine")
PAUSE = "freeze one"


def planned(seed: int, kills: int, partitions: int, corruptions: int, pauses: int) -> list[str]:
    """The faults of a seed, in their order."""
    draw = random.Random(seed)
    plan = []
    while kills > 0:
        fault = draw.choices([*KILLS], weights=[5, 4, 2, 1])[0]
        if KILLS[fault] <= kills:
            plan.append(fault)
            kills -= KILLS[fault]
    plan += [CUTS[number % len(CUTS)] for number in range(partitions)]
    plan += [CORRUPTIONS[number % len(CORRUPTIONS)] for number in range(corruptions)]
    plan += [PAUSE] * pauses
    draw.shuffle(plan)
    return plan


class Ordeal:
    """What a network suffers, each fault to its end: afterwards all nodes are ready and clients are answered."""

    def __init__(self, network: RunningNetwork, work: Workload, seed: int) -> None:
        self._network = network
        self._work = work
        self._seed = seed
        self._draw = random.Random(seed)
        self._suffered: Counter[str] = Counter()
        self._gaps_s: list[float] = []
        self._old: dict[str, Path] = {}
        damages = {damage.__name__.replace("_", " "): damage for damage in DAMAGES}
        self._faults: dict[str, Callable[[], None]] = {
            "kill one": lambda: self._kill(self._one()),
            "kill the primary": self._kill_primary,
            "kill one twice": self._kill_twice,
            "kill all": self._kill_all,
            PAUSE: self._freeze,
            "cut in halves": self._cut_in_halves,
            "cut one off": lambda: self._cut(self._one()),
            "mute one": lambda: self._cut(self._one(), "--one-way"),
            "deafen one": self._deafen,
            "mute the primary": lambda: self._cut(self._primary(), "--one-way"),
            "slow one": lambda: self._slow(self._one()),
            "slow all": lambda: self._slow(*self._network.names),
            "an old data folder": lambda: self._ruin(self._put_back_old),
            "a second machine": self._double,
        }
        self._faults |= {name: lambda damage=damage: self._ruin(damage) for name, damage in damages.items()}

    def suffer(self, number: int, fault: str) -> None:
        """Live through one fault; which node it hits follows from the seed and its number alone."""
        self._draw = random.Random(f"{self._seed}/{number}")
        self._faults[fault]()
        self._suffered[fault] += 1
        until(lambda: all(map(self._network.is_ready, self._network.names)), HEAL_WITHIN_S)
        self._work.goes_on(within_s=HEAL_WITHIN_S)

    def bad_ledger(self, name: str) -> str:
        """What verifying a node's whole ledger finds; empty if it is what follows from genesis."""
        # It makes the whole ledger again, which takes longer than any other command may.
        command = ("ledger", "verify", "--node", name, "--timeout", str(VERIFY_WITHIN_S), "--json")
        words, _ = self._network.begin(*command).communicate(timeout=VERIFY_WITHIN_S)
        return "" if json.loads(words).get("ok") else words

    def report(self) -> dict[str, Any]:
        """What happened, for the summary."""
        clients, gaps_s = self._work.clients, sorted(self._gaps_s)
        return {
            "suffered": dict(sorted(self._suffered.items())),
            "kills": sum(count * self._suffered[fault] for fault, count in KILLS.items()),
            "partitions": sum(self._suffered[fault] for fault in CUTS),
            "corruptions": sum(self._suffered[fault] for fault in CORRUPTIONS),
            "pauses": self._suffered[PAUSE],
            "acknowledged": len(self._work.acknowledged),
            "refused_before_admission": sum(len(client.refused) for client in clients),
            "read_back": sum(client.reads for client in clients),
            "resubmitted": sum(client.resubmissions for client in clients),
            "primary_killed_next_commit_s": {
                "count": len(gaps_s),
                "median": round(gaps_s[len(gaps_s) // 2], 2) if gaps_s else None,
                "max": round(gaps_s[-1], 2) if gaps_s else None,
            },
        }

    def _one(self) -> str:
        return self._draw.choice(self._network.names)

    def _others(self, name: str) -> list[str]:
        return [other for other in self._network.names if other != name]

    def _primary(self) -> str:
        return str(self._network.status(self._one())["primary"])

    def _kill(self, name: str) -> None:
        self._network.kill(name)
        self._work.goes_on()
        self._network.start(name)

    def _kill_primary(self) -> None:
        """Kill who proposes, and time the first block that the others begin and end without it."""
        name = self._primary()
        witness = self._others(name)[0]
        self._network.kill(name)
        killed_s = time.monotonic()
        before = self._height(witness)
        # The block that was under way may have had its votes; the one after it needs a new primary.
        until(lambda: self._height(witness) >= before + 2, HEAL_WITHIN_S)
        self._gaps_s.append(time.monotonic() - killed_s)
        self._network.start(name)

    def _height(self, name: str) -> int:
        place = self._network.place(name)
        return int(Node(name, place.socket, 5.0).get("/v1/status", Json)["height"])

    def _kill_twice(self) -> None:
        """Kill a node, and kill it again while it starts, wherever it then is."""
        place = self._network.place(self._one())
        self._network.kill(place.name)
        process = start_node(place)
        until(lambda: place.pid is not None)
        end_s = time.monotonic() + self._draw.uniform(0, 2)
        until(lambda: time.monotonic() > end_s)
        process.kill()
        process.wait()
        self._work.goes_on()
        self._network.start(place.name)

    def _kill_all(self) -> None:
        self._network.kill(*self._network.names)
        self._network.ask("testnet", "up")

    def _freeze(self) -> None:
        name, thaw_s = self._one(), time.monotonic() + self._draw.uniform(5, 30)
        self._network.signal(name, signal.SIGSTOP)
        try:
            self._work.goes_on()
            until(lambda: time.monotonic() > thaw_s)
        finally:
            self._network.signal(name, signal.SIGCONT)

    def _cut(self, name: str, *more: str) -> None:
        self._network.ask("testnet", "partition", name, *more)
        self._for_a_while()
        self._work.goes_on(within_s=HEAL_WITHIN_S)
        self._network.ask("testnet", "heal")

    def _deafen(self) -> None:
        name = self._one()
        self._network.ask("testnet", "partition", ",".join(self._others(name)), name, "--one-way")
        self._for_a_while()
        self._work.goes_on(within_s=HEAL_WITHIN_S)
        self._network.ask("testnet", "heal")

    def _cut_in_halves(self) -> None:
        side = self._draw.sample(self._network.names, 2)
        self._network.ask("testnet", "partition", ",".join(side))
        self._for_a_while()
        self._network.ask("testnet", "heal")

    def _slow(self, *names: str) -> None:
        for name in names:
            self._network.ask("testnet", "slow", name, "--delay", "50ms", "--jitter", "20ms", "--loss", "5")
        self._for_a_while()
        self._work.goes_on(within_s=HEAL_WITHIN_S)
        self._network.ask("testnet", "heal")

    def _for_a_while(self) -> None:
        end_s = time.monotonic() + self._draw.uniform(1, 10)
        until(lambda: time.monotonic() > end_s)

    def _ruin(self, damage: Callable[[Path], None]) -> None:
        """Ruin the data of a stopped node: it refuses to start or only follows; then it gets back what it had."""
        place = self._network.place(self._one())
        self._keep_old(place.name)
        with kept_aside(self._network, place.name) as data:
            damage(data)
            with started(self._network, place) as process:
                words = why_it_does_not_vote(place, process)
                assert "votes no more" in words or "caretrace: database." in words, words
            self._work.goes_on()
        self._network.start(place.name)

    def _keep_old(self, name: str) -> None:
        """Have a copy of a node's data, made while it was stopped, and votes of it that are newer."""
        if name not in self._old:
            self._old[name] = self._network.folder / f"old-{name}"
            self._network.kill(name)
            shutil.copytree(self._network.place(name).home / "data", self._old[name])
            self._network.start(name)
            self._work.goes_on()

    def _put_back_old(self, data: Path) -> None:
        name = data.parent.name
        shutil.rmtree(data)
        shutil.copytree(self._old[name], data)

    def _double(self) -> None:
        """Run a copy of a node beside it that does not know the newest votes: it must not vote."""
        name = self._one()
        self._network.kill(name)
        twin = copy_of(self._network, name)
        try:
            self._network.start(name)
            self._work.goes_on()
            with started(self._network, twin) as process:
                words = why_it_does_not_vote(twin, process)
                assert "missing from its vote log" in words, words
                self._work.goes_on()
        finally:
            shutil.rmtree(twin.home)
