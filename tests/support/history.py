"""What clients were told, held against what the chain of every node says: nothing lost, doubled, moved or made up."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cli.client import Json, Node


@dataclass(frozen=True)
class Acknowledged:
    """A transaction whose receipt a client has verified, and what the client knew of it."""

    client: str
    tx_id: str
    submitted_s: float
    acknowledged_s: float
    height: int
    code: str
    expected: str
    """What must come of it, by all that this client did to the same keys before: nobody else touches them."""


class Block(NamedTuple):
    """A block as a node shows it; its transactions by id and outcome, in order."""

    height: int
    hash: str
    transactions: tuple[tuple[str, str], ...]


Chain = list[Block]


def read_chain(node: Node) -> Chain:
    """Every block that a node holds."""
    head = node.get("/v1/status", Json)["height"]
    return [_block(node.get(f"/v1/blocks/{height}", Json)) for height in range(1, head + 1)]


def _block(shown: Json) -> Block:
    outcomes = tuple((each["transaction"], each["status"]) for each in shown["transactions"])
    return Block(shown["height"], shown["hash"], outcomes)


def violations(acknowledged: Sequence[Acknowledged], refused: Sequence[str], chains: Mapping[str, Chain]) -> list[str]:
    """Everything in which a history is not that of one ledger, in words; empty if it is.

    ``refused`` are the ids of what was refused before admission.
    """
    reference_name, reference = max(chains.items(), key=lambda item: len(item[1]))
    found = [
        f"{name} differs from {reference_name} at height {ours.height}"
        for name, chain in chains.items()
        for ours, theirs in zip(chain, reference, strict=False)
        if ours != theirs
    ]
    found += [
        f"{name} stands at {len(chain)} and {reference_name} at {len(reference)}"
        for name, chain in chains.items()
        if len(chain) != len(reference)
    ]
    places = {
        tx_id: (block.height, index, code)
        for block in reference
        for index, (tx_id, code) in enumerate(block.transactions)
    }
    counts = Counter(tx_id for block in reference for tx_id, _ in block.transactions)
    found += [f"{tx_id} stands {count} times" for tx_id, count in counts.items() if count > 1]
    found += [f"{tx_id} was refused and stands" for tx_id in refused if tx_id in places]
    standing = []
    for each in acknowledged:
        if each.tx_id not in places:
            found.append(f"{each.tx_id} was acknowledged to {each.client} and is lost")
            continue
        height, _, code = places[each.tx_id]
        if (height, code) != (each.height, each.code):
            found.append(f"{each.tx_id} was acknowledged as {each.code} at {each.height}, and is {code} at {height}")
        if code != each.expected:
            found.append(f"{each.tx_id} of {each.client} came to {code}, where only {each.expected} is right")
        standing.append((each, places[each.tx_id][:2]))
    return found + list(_out_of_order(standing))


def _out_of_order(standing: list[tuple[Acknowledged, tuple[int, int]]]) -> Iterator[str]:
    """Whatever stands before something that had been acknowledged before it was submitted."""
    submissions = sorted(standing, key=lambda item: item[0].submitted_s)
    acknowledgements = iter(sorted(standing, key=lambda item: item[0].acknowledged_s))
    earlier = next(acknowledgements, None)
    highest: tuple[Acknowledged, tuple[int, int]] | None = None
    for each, place in submissions:
        while earlier is not None and earlier[0].acknowledged_s < each.submitted_s:
            if highest is None or earlier[1] > highest[1]:
                highest = earlier
            earlier = next(acknowledgements, None)
        if highest is not None and place < highest[1]:
            yield f"{each.tx_id} stands before {highest[0].tx_id}, which was acknowledged before it was submitted"
