"""What was used lately, kept in bounded memory."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A cache of two generations: when the young one is full, it becomes the old one, and the old one is dropped.

    What is used keeps moving into the young generation, so what falls out was not used for a whole generation. A hit
    in the young one costs a dictionary lookup and nothing else. At most twice ``weight_max`` is held.
    """

    def __init__(self, weight_max: int) -> None:
        """Hold up to ``weight_max`` in each generation, in whatever unit the weights given to ``put`` have."""
        self._weight_max = weight_max
        self._weight = 0
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}

    def get(self, key: K) -> V | None:
        """Return what is kept under a key, or None."""
        found = self._young.get(key)
        if found is not None:
            return found[0]
        found = self._old.get(key)
        if found is None:
            return None
        self.put(key, *found)
        return found[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep a value, in place of an older one under the same key."""
        present = self._young.get(key)
        self._weight += weight - (present[1] if present else 0)
        self._young[key] = (value, weight)
        if self._weight > self._weight_max:
            self._old, self._young, self._weight = self._young, {}, 0
