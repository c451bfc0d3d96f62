"""What a node says of itself: where it stands, whom it reaches, and why it is not ready."""

import shutil
from pathlib import Path
from typing import Any

from node.contracts.entries import load_member
from node.network.peers import REFUSED
from node.runtime.parts import Parts
from storage.places import quarantined
from storage.schema.validators import Validator

DISK_FREE_BYTES_MIN = 64 << 20
BEHIND_BLOCKS_MAX = 2


class Standing:
    """Answers ``status`` and readiness from a node's parts."""

    def __init__(self, parts: Parts, data: Path) -> None:
        """Look at ``parts``, and at the disk under ``data``."""
        self._parts = parts
        self._data = data

    def status(self) -> dict[str, Any]:
        """Return the fields of ``GET /v1/status``."""
        parts, head = self._parts, self._parts.chain.head
        validators = parts.opened.ledger.validators
        member = parts.custodian
        reasons = self.why_not_ready()
        peers = [
            {
                "name": peer.name,
                "connected": peer.connected,
                "height": parts.driver.engine.heights.get(peer.name),
                "latency_ms": None if peer.latency_ms is None else round(peer.latency_ms, 2),
                **({"why": peer.why} if peer.why else {}),
            }
            for peer in parts.network.statuses()
        ]
        status = {
            "name": parts.config.name,
            "member": parts.config.name,
            "network": parts.genesis.body.name,
            "chain_id": parts.genesis.chain_id.hex(),
            "engine": validators.engine,
            "epoch": validators.epoch,
            "membership": self.membership(),
            "height": head.header.height,
            "time_ms": head.header.time_ms,
            "block_hash": head.digest.hex(),
            "state_root": head.result.state_root.hex(),
            "view": parts.driver.engine.view,
            "primary": parts.driver.engine.primary,
            "validators": [validator.name for validator in validators.validators],
            "peers": peers,
            "quorum": {"have": self._validators_reached(), "need": validators.quorum},
            "mempool": len(parts.mempool),
            "ready": not reasons,
            "service_key": member.service_key.hex(),
            "encryption_key": member.encryption_key.hex(),
        }
        ledger = parts.opened.ledger
        aside = [{"name": kept.name, "why": kept.why} for kept in quarantined(ledger.database.path)]
        told = {
            "why_not": reasons,
            "history_from": ledger.history_from if ledger.history_from > 1 else None,
            "quarantine": aside,
        }
        return status | {name: value for name, value in told.items() if value}

    def membership(self) -> str:
        """Say in words what this node is to the network, as far as it has read the ledger, and what it waits for."""
        parts = self._parts
        member = load_member(parts.opened.ledger.state, parts.config.name)
        behind = parts.catch_up.blocks_behind
        lag = f", {behind} blocks behind" if behind > BEHIND_BLOCKS_MAX else ""
        if member is None:
            return self._not_admitted(lag)
        lag += self._refused()
        if not member.roles:
            return f"removed from the network{lag}"
        if member.node_key != parts.node_key:
            return f"its node key is not the one that the ledger states: it follows and has no vote{lag}"
        return f"{'validator' if self._validates() else 'admitted as observer'}{lag}"

    def _refused(self) -> str:
        """Say if nobody talks to this node: what its ledger does not know yet, the others' may."""
        statuses = self._parts.network.statuses()
        refused = sum(peer.why == REFUSED for peer in statuses)
        if not refused or any(peer.connected for peer in statuses):
            return ""
        return f", but {refused} of {len(statuses)} members refuse its key: it may have been removed, or replaced"

    def _not_admitted(self, lag: str) -> str:
        statuses = self._parts.network.statuses()
        if any(peer.connected for peer in statuses):
            return f"not admitted by the block that it has reached{lag}"
        refused = sum(peer.why == REFUSED for peer in statuses)
        if refused:
            # Strangers get past no handshake, so only a member can say how the vote stands.
            asked = "ask one how the vote stands: caretrace members proposals"
            return f"not admitted yet: {refused} of {len(statuses)} members are found, and refuse its key; {asked}"
        return f"not admitted yet, and none of {len(statuses)} members is reachable"

    def why_not_ready(self) -> list[str]:
        """Return the reasons, in words, why this node cannot serve now; empty if it can."""
        parts = self._parts
        reasons = []
        if parts.driver.halted is not None:
            reasons.append(f"it votes no more and only follows: {parts.driver.halted}")
        elif self._validates() and not parts.driver.engine.may_vote:
            reasons.append("it waits until enough members have said which of its votes they hold")
        if load_member(parts.opened.ledger.state, parts.config.name) is None:
            reasons.append(self.membership())
        have, need = self._validators_reached(), parts.opened.ledger.validators.quorum
        if have < need:
            reasons.append(f"a quorum is {need} validators, and {have} are reachable")
        behind = parts.catch_up.blocks_behind
        if parts.state_fetch.progress is not None:
            reasons.append("it takes the state: {} of {} parts".format(*parts.state_fetch.progress))
        if behind > BEHIND_BLOCKS_MAX:
            reasons.append(f"it is {behind} blocks behind and catches up")
        free = shutil.disk_usage(self._data).free
        if free < DISK_FREE_BYTES_MIN:
            reasons.append(f"the disk has {free >> 20} MiB left")
        return reasons

    def _validates(self) -> bool:
        """Whether this node's key has a vote now."""
        parts = self._parts
        return Validator(parts.config.name, parts.node_key) in parts.opened.ledger.validators.validators

    def _validators_reached(self) -> int:
        """How many validators this node can talk to, itself among them."""
        names = {validator.name for validator in self._parts.opened.ledger.validators.validators}
        reached = {peer.name for peer in self._parts.network.statuses() if peer.connected}
        return len(names & (reached | {self._parts.config.name}))
