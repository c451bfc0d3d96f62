import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage.database import DatabaseCorruptError
from storage.ledger import Commit, Ledger
from storage.merkle import log
from storage.merkle.log import EMPTY_ROOT, Frontier
from storage.schema.block import OUTCOME, Outcome, decode_certified_block, history_leaf
from storage.schema.codec import encode
from storage.schema.epochs import load_epochs
from storage.schema.receipt import ReceiptError, verify_receipt
from storage.schema.state_proof import verify_state_proof
from tests.support.chain import (
    GENESIS_STATE,
    HANDOVER_HEIGHT,
    START_MS,
    certify,
    extend,
    make_commit,
    make_genesis,
    make_transaction,
    validators_after,
)

GENESIS = make_genesis()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(folder, GENESIS, GENESIS_STATE)
    yield ledger
    ledger.close()


def reopened(ledger: Ledger, folder: Path) -> Ledger:
    ledger.close()
    return Ledger.open(folder, GENESIS, GENESIS_STATE)


def test_a_new_ledger_stands_at_height_0_with_the_state_of_genesis(ledger: Ledger) -> None:
    assert ledger.head.header == GENESIS.header
    assert ledger.head.certificate is None
    assert ledger.head.result.outcomes_root == EMPTY_ROOT
    assert ledger.head.result.state_root == ledger.state.root
    assert {key: ledger.state.get(key) for key in GENESIS_STATE} == GENESIS_STATE
    assert ledger.history.size == 1


def test_a_ledger_stands_after_opening_where_it_stood_before(ledger: Ledger, folder: Path) -> None:
    transactions = extend(GENESIS, ledger, block_count=5)
    head, history, root = ledger.head, ledger.history.root(), ledger.state.root

    again = reopened(ledger, folder)

    assert (again.head, again.history.root(), again.state.root) == (head, history, root)
    assert again.head.height == 5
    for transaction in transactions:
        assert again.contains(transaction.id)
        assert again.state.get(b"tx/" + transaction.id) == transaction.body.signers[0]
    extend(GENESIS, again, block_count=1)
    assert again.head.height == 6
    again.close()


def test_everything_of_a_committed_block_is_found_again(ledger: Ledger) -> None:
    transactions = [make_transaction(GENESIS, number) for number in range(7)]
    commit = make_commit(GENESIS, ledger, transactions, START_MS)

    ledger.commit(commit)

    assert ledger.block(1) == commit.block
    assert ledger.header(1) == commit.block.header
    assert ledger.certificate(1) == commit.block.certificate
    assert ledger.outcomes(1) == commit.block.outcomes
    for index, transaction in enumerate(transactions):
        assert ledger.locate(transaction.id) == (1, index)
        assert ledger.outcome(1, index) == OUTCOME.decode(commit.block.outcomes[index])
        assert (1, index) in ledger.trail(transaction.body.signers[0], limit=10)
        assert ledger.transactions_matching(transaction.id.hex()[:12], 10) == (transaction.id,)
    assert ledger.subjects_matching("", 100) == tuple(sorted({t.body.signers[0] for t in transactions}))


def test_a_block_travels_as_its_canonical_encoding(ledger: Ledger) -> None:
    extend(GENESIS, ledger, block_count=2, tx_count=20)

    block = decode_certified_block(ledger.encoded_block(2))

    stored = ledger.block(2)
    assert (block.header, block.certificate, block.result) == (stored.header, stored.certificate, stored.result)
    assert block.envelopes == stored.envelopes
    assert encode(block) == ledger.encoded_block(2)


def test_the_history_covers_every_block_up_to_the_head(ledger: Ledger) -> None:
    extend(GENESIS, ledger, block_count=9, tx_count=1)

    history = Frontier()
    for height in range(10):
        assert ledger.header(height).history_root == history.root()
        history.append(history_leaf(ledger.header(height).digest(), ledger.result(height).digest()))
    assert ledger.history.root() == history.root()


def test_each_block_is_one_synced_batch(ledger: Ledger) -> None:
    extend(GENESIS, ledger, block_count=4)

    assert ledger.synced_batch_count == 4


def test_every_transaction_has_a_receipt_that_verifies_from_genesis_and_the_chain_of_epochs(ledger: Ledger) -> None:
    transactions = extend(GENESIS, ledger, block_count=12, tx_count=5)

    for transaction in transactions:
        receipt = ledger.receipt(transaction.id)
        assert receipt is not None
        proven = verify_receipt(receipt, GENESIS, ledger.epochs)
        assert proven.transaction.id == transaction.id
        assert proven.outcome.id == transaction.id
        with pytest.raises(ReceiptError):
            verify_receipt(receipt, make_genesis("othernet"))
    assert ledger.receipt(bytes(32)) is None


def test_a_block_of_any_size_gives_receipts(ledger: Ledger) -> None:
    for tx_count in (1, 2, 3, 8, 9):
        for transaction in extend(GENESIS, ledger, block_count=1, tx_count=tx_count):
            receipt = ledger.receipt(transaction.id)
            assert receipt is not None
            verify_receipt(receipt, GENESIS, ledger.epochs)


def test_the_block_that_changes_the_validators_hands_over_to_them(ledger: Ledger) -> None:
    extend(GENESIS, ledger, block_count=HANDOVER_HEIGHT)

    assert ledger.head.header.epoch == 0
    assert ledger.validators == ledger.epochs.of(1) == validators_after(GENESIS, HANDOVER_HEIGHT)

    extend(GENESIS, ledger, block_count=1)
    proven = load_epochs(ledger.epochs.render(), GENESIS)

    assert ledger.head.header.epoch == 1
    assert proven.newest == ledger.validators


def test_a_receipt_finds_the_outcome_of_its_transaction_among_those_of_due_work(ledger: Ledger) -> None:
    transactions = [make_transaction(GENESIS, number) for number in range(3)]
    commit = make_commit(GENESIS, ledger, transactions, START_MS)
    due = [encode(Outcome("due", transaction.id, "ok", ())) for transaction in transactions]
    outcomes = (commit.block.outcomes[0], *due, *commit.block.outcomes[1:])
    root = log.root([log.leaf_hash(outcome) for outcome in outcomes])
    result = msgspec.structs.replace(commit.block.result, outcomes_root=root, outcome_count=len(outcomes))
    certificate = certify(GENESIS, commit.block.header, result)
    ledger.commit(
        replace(commit, block=replace(commit.block, outcomes=outcomes, result=result, certificate=certificate))
    )

    for transaction in transactions:
        proven = verify_receipt(ledger.receipt(transaction.id) or b"", GENESIS)
        assert (proven.outcome.source, proven.outcome.id) == ("transaction", transaction.id)


def test_the_head_certifies_what_the_state_holds_and_what_it_does_not(ledger: Ledger) -> None:
    (transaction, *_) = extend(GENESIS, ledger, block_count=3)

    for key, value in ((b"tx/" + transaction.id, transaction.body.signers[0]), (b"nothing", None)):
        proof, head = ledger.prove(key)
        verify_state_proof(proof, key, value, head.result.state_root)


def test_lists_of_seen_ids_go_once_their_minute_is_over(ledger: Ledger, folder: Path) -> None:
    extend(GENESIS, ledger, block_count=10)
    lists = [(START_MS // 60_000 + height + left, height) for height in range(1, 11) for left in (1, 2, 3)]
    minute = ledger.head.header.time_ms // 60_000

    again = reopened(ledger, folder)

    assert again.expired_seen(minute, 100) == ()
    assert again.expired_seen(minute + 2, 100) == tuple(sorted(p for p in lists if minute <= p[0] < minute + 2))
    again.close()


def test_that_a_vote_log_was_begun_is_remembered(ledger: Ledger, folder: Path) -> None:
    assert not ledger.has_vote_log(b"k" * 32)

    ledger.note_vote_log(b"k" * 32)
    ledger.note_vote_log(b"k" * 32)

    again = reopened(ledger, folder)
    assert again.has_vote_log(b"k" * 32)
    assert not again.has_vote_log(b"another key".ljust(32))
    again.close()


def with_header(commit: Commit, **changes: Any) -> Commit:
    return replace(commit, block=replace(commit.block, header=msgspec.structs.replace(commit.block.header, **changes)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda commit: with_header(commit, height=5),
        lambda commit: with_header(commit, parent=bytes(32)),
        lambda commit: with_header(commit, parent_result=bytes(32)),
        lambda commit: with_header(commit, history_root=bytes(32)),
        lambda commit: with_header(commit, time_ms=7),
        lambda commit: replace(commit, ids=commit.ids[1:]),
        lambda commit: replace(commit, state=replace(commit.state, root=bytes(32))),
    ],
)
def test_what_does_not_fit_the_head_or_its_certificate_is_our_bug_and_changes_nothing(
    ledger: Ledger, folder: Path, spoil: Callable[[Commit], Commit]
) -> None:
    extend(GENESIS, ledger, block_count=2)
    head = ledger.head
    commit = make_commit(GENESIS, ledger, [make_transaction(GENESIS, 1)], START_MS + 10**7)

    with pytest.raises(AssertionError):
        ledger.commit(spoil(commit))

    again = reopened(ledger, folder)
    assert again.head == head
    again.commit(replace(commit, state=again.state.prepare(commit.state.writes)))
    again.close()


COMMIT_UNTIL_KILLED = """
import sys
from pathlib import Path
from storage.database import DatabaseCorruptError
from storage.ledger import Ledger
from tests.support.chain import GENESIS_STATE, extend, make_genesis

genesis = make_genesis()
ledger = Ledger.open(Path(sys.argv[1]), genesis, GENESIS_STATE)
while True:
    extend(genesis, ledger, block_count=1, tx_count=30)
    print(ledger.head.height, flush=True)
"""


def test_a_killed_process_leaves_every_block_that_it_said_was_committed(folder: Path) -> None:
    command = [sys.executable, "-c", COMMIT_UNTIL_KILLED, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = 0
        while said < 12:
            said = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            said = int(line)

    ledger = Ledger.open(folder, GENESIS, GENESIS_STATE)

    assert ledger.head.height in (said, said + 1)
    for height in range(1, said + 1):
        assert len(ledger.block(height).envelopes) == 30
    ledger.close()


def test_a_log_that_a_crash_cut_short_leaves_whole_blocks(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    extend(GENESIS, ledger, block_count=6)
    ledger.close()
    (log,) = folder.glob("*.log")
    content = log.read_bytes()
    heights = []
    for length in range(4000, len(content), len(content) // 40):
        cut = Ledger.open(copy_with_log(folder, tmp_path / str(length), content[:length]), GENESIS, GENESIS_STATE)
        heights.append(cut.head.height)
        cut.close()

    assert heights == sorted(heights)
    assert set(heights) == set(range(heights[0], 6))
    with pytest.raises(DatabaseCorruptError, match="the format is missing"):
        Ledger.open(copy_with_log(folder, tmp_path / "nothing", b""), GENESIS, GENESIS_STATE)


def copy_with_log(folder: Path, to: Path, content: bytes) -> Path:
    shutil.copytree(folder.parent, to)
    (log,) = (to / folder.name).glob("*.log")
    log.write_bytes(content)
    return to / folder.name
