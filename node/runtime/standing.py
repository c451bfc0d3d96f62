"""What a node says of itself: where it stands, whom it reaches, and why it is not ready."""

import shutil
from pathlib import Path
from typing import Any

from node.runtime.parts import Parts
from storage.places import quarantined

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
        member = parts.custodian
        reasons = self.why_not_ready()
        peers = [
            {
                "name": peer.name,
                "connected": peer.connected,
                "height": parts.engine.heights.get(peer.name),
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
            "engine": parts.genesis.body.engine,
            "height": head.header.height,
            "time_ms": head.header.time_ms,
            "block_hash": head.digest.hex(),
            "state_root": head.result.state_root.hex(),
            "view": parts.engine.view,
            "primary": parts.engine.primary,
            "validators": [validator.name for validator in parts.genesis.validators.validators],
            "peers": peers,
            "quorum": {"have": self._validators_reached(), "need": parts.genesis.validators.quorum},
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

    def why_not_ready(self) -> list[str]:
        """Return the reasons, in words, why this node cannot serve now; empty if it can."""
        parts = self._parts
        reasons = []
        if parts.driver.halted is not None:
            reasons.append(f"it votes no more and only follows: {parts.driver.halted}")
        elif not parts.engine.may_vote:
            reasons.append("it waits until enough members have said which of its votes they hold")
        have, need = self._validators_reached(), parts.genesis.validators.quorum
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

    def _validators_reached(self) -> int:
        """How many validators this node can talk to, itself among them."""
        names = {validator.name for validator in self._parts.genesis.validators.validators}
        reached = {peer.name for peer in self._parts.network.statuses() if peer.connected}
        return len(names & (reached | {self._parts.config.name}))
