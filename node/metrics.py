"""Counters of one node, in Prometheus' form; the bench reads them to check that nothing was left out."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Every figure that a node publishes, each with its unit in its name."""

    def __init__(self) -> None:
        """Make a registry of our own, so that several nodes of a test do not share figures."""
        self.registry = CollectorRegistry()
        counter, gauge = self._counter, self._gauge
        self.signatures_verified = counter("signatures_verified", "Transaction signatures checked by this node.")
        self.transactions_committed = counter("transactions_committed", "Transactions in committed blocks.")
        self.transactions_refused = counter(
            "transactions_refused", "Committed transactions whose outcome is a refusal."
        )
        self.blocks_committed = counter("blocks_committed", "Blocks committed by this node.")
        self.synced_batches = counter("synced_batches", "LevelDB batches written with a sync.")
        self.vote_syncs = counter("vote_syncs", "Syncs of the vote log.")
        self.admissions_refused = counter("admissions_refused", "Envelopes that were not taken into the mempool.")
        self.envelopes_shed = counter("envelopes_shed", "Envelopes from peers dropped because too many were waiting.")
        self.proposals_refused = counter("proposals_refused", "Proposals that this node would not vote for.")
        self.bodies_fetched = counter("bodies_fetched", "Transaction bodies fetched from peers for a proposal.")
        self.blocks_caught_up = counter("blocks_caught_up", "Blocks taken over from peers under their certificate.")
        self.view = gauge("view", "The view that this replica is in.")
        self.height = gauge("height", "Height of the newest committed block.")
        self.mempool_transactions = gauge("mempool_transactions", "Transactions that wait for a block.")
        self.commit_seconds = Histogram(
            "caretrace_commit_seconds",
            "Time to write one block down.",
            registry=self.registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
        )

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(f"caretrace_{name}", words, registry=self.registry)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"caretrace_{name}", words, registry=self.registry)

    def committed(self, transactions: int, refused: int) -> None:
        """Count one committed block; what was synced for it is counted where it is written."""
        self.blocks_committed.inc()
        self.transactions_committed.inc(transactions)
        self.transactions_refused.inc(refused)

    def render(self) -> bytes:
        """Return the text that a Prometheus server scrapes."""
        return generate_latest(self.registry)
