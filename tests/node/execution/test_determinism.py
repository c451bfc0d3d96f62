import os
import subprocess
import sys
from pathlib import Path

from tests.support.source_tree import ROOT
from tests.support.story import Story

PROGRAM = """
from storage.schema.calls import Exclude, Revoke
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.story import Story

story = Story()
members = ("west", "east", "south", "north")
roles = ("west/nurse", "east/physician", "south/physician")
consent = story.grant(provision(members=members, roles=roles, purposes=("TREAT", "HRESCH")), uses=2)
story.grant(provision(practitioners=(story.ben.key, bytes(32)), purposes=("TREAT",)))
requests = [story.request() for _ in range(4)]
story.serve(derived_id(requests[0].id))
story.do("consent.exclude", Exclude(provision("deny", members=members), True), [story.pia])
story.do("consent.revoke", Revoke(consent), [story.pia])
story.request()
head = story.ledger.head
print(head.height, head.digest.hex(), head.result_digest.hex())
"""


def run(hash_seed: str) -> str:
    environment = {"PYTHONHASHSEED": hash_seed, "PATH": os.environ["PATH"]}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return finished.stdout


def test_the_same_blocks_give_the_same_digests_whatever_the_order_of_sets_and_dicts() -> None:
    digests = {run(hash_seed) for hash_seed in ("0", "1", "4242")}

    assert len(digests) == 1
    assert len(digests.pop().split()) == 3


def test_the_ledger_in_memory_and_the_real_one_agree_on_all_but_the_tree_of_the_state(tmp_path: Path) -> None:
    stories = [Story(), Story(path=tmp_path / "data")]

    for story in stories:
        story.request()

    small, kept = (story.ledger for story in stories)
    assert small.outcome(small.head.height, 0) == kept.outcome(kept.head.height, 0)
    assert all(kept.state.get(key) == value for key, value in small.state.values.items())
