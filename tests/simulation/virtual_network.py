"""A network that loses, delays, reorders and repeats, and links that are cut one way or held back for a while."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consensus.pbft.messages import MESSAGE, Message
from storage.schema.codec import DecodeError
from tests.simulation.virtual_world import MS, World

Letter = tuple[Any, ...]


def engine_message(letter: Letter) -> Message | None:
    """Return what one replica says to another in a letter, if that is what it is and it can be read."""
    if letter[0] != "engine":
        return None
    try:
        return MESSAGE.decode(letter[1])
    except DecodeError:
        return None


@dataclass(frozen=True)
class Weather:
    """How the links behave."""

    delay_us_min: int = 200
    delay_us_max: int = 5 * MS
    straggle: float = 0.0
    loss: float = 0.0
    repeat: float = 0.0


CALM = Weather()


class Network:
    """Carries letters between hosts. A host may have a tamperer, who sees its letters first and sends what it likes."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.weather = weather
        self.receivers: dict[str, Callable[[str, Letter], None]] = {}
        self.tamperers: dict[str, Callable[[str, Letter], list[Letter]]] = {}
        self.cut: set[tuple[str, str]] = set()
        self.clogged: set[tuple[str, str]] = set()
        self.is_lost: Callable[[Letter], bool] | None = None
        self._world = world
        self._held: list[tuple[str, str, Letter]] = []

    def send(self, sender: str, receiver: str, letter: Letter) -> None:
        """Send what a host hands over, or what its tamperer makes of it."""
        tamperer = self.tamperers.get(sender)
        letters = [letter] if tamperer is None else tamperer(receiver, letter)
        for one in letters:
            self.carry(sender, receiver, one)

    def carry(self, sender: str, receiver: str, letter: Letter) -> None:
        """Carry a letter, if chance and the links let it through."""
        world, weather = self._world, self.weather
        if (sender, receiver) in self.cut or world.chance(weather.loss):
            return
        if (sender, receiver) in self.clogged:
            self._held.append((sender, receiver, letter))
            return
        for _ in range(2 if world.chance(weather.repeat) else 1):
            delay_us = world.between(weather.delay_us_min, weather.delay_us_max)
            if world.chance(weather.straggle):
                delay_us *= 20
            world.after(delay_us, self._arrive, sender, receiver, letter)

    def unclog(self, links: set[tuple[str, str]]) -> None:
        """Let go what was held back on some links, in order."""
        self.clogged -= links
        held, self._held = self._held, []
        for sender, receiver, letter in held:
            self.carry(sender, receiver, letter)

    def _arrive(self, sender: str, receiver: str, letter: Letter) -> None:
        if (sender, receiver) not in self.cut and not (self.is_lost is not None and self.is_lost(letter)):
            self.receivers[receiver](sender, letter)
