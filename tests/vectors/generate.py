#!/usr/bin/env python3
"""Write the golden vectors, from the specification and from nothing of ours: this is the second implementation.

    python tests/vectors/generate.py            write the files
    python tests/vectors/generate.py --check    say which files are not what would be written; exit 1 if any

The files beside it change only on purpose: a changed byte is a changed protocol (docs/spec/README.md).
"""

import json
import sys
from pathlib import Path
from typing import Any

import vector_agreement
import vector_blocks
import vector_epochs
import vector_genesis
import vector_identifiers
import vector_invite
import vector_malformed
import vector_signatures
import vector_transactions
import vector_trees

FOLDER = Path(__file__).resolve().parent


def rendered(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def files() -> dict[str, bytes]:
    """Every vector file by its name."""
    return {
        "keys.json": rendered(vector_transactions.keys()),
        "signatures.json": rendered(vector_signatures.signatures()),
        "identifiers.json": rendered(vector_identifiers.identifiers()),
        "trees.json": rendered(vector_trees.trees()),
        "state.json": rendered(vector_trees.states()),
        "transactions.json": rendered(vector_transactions.transactions()),
        "block.json": rendered(vector_blocks.block()),
        "agreement.json": rendered(vector_agreement.agreement()),
        "epochs.json": rendered(vector_epochs.epochs()),
        "malformed.json": rendered(vector_malformed.malformed()),
        "genesis.json": vector_genesis.genesis_file(),
        "founding.json": rendered(vector_genesis.founding()),
        "epochs.bin": vector_epochs.FILE,
        "invite.json": rendered(vector_invite.shown_invite()),
        "invite.bin": vector_invite.invite(),
        "receipt.bin": vector_blocks.receipt(vector_transactions.REQUEST),
        "receipt-evidence.bin": vector_blocks.receipt(vector_transactions.EVIDENCE),
        "receipt-refused.bin": vector_blocks.receipt(vector_transactions.REQUEST_DENIED),
    }


def differing() -> list[str]:
    """The names of the files that are missing, changed, or written by nobody."""
    wanted = files()
    present = {path.name for path in FOLDER.iterdir() if path.suffix in (".json", ".bin")}
    changed = [name for name in wanted if name in present and (FOLDER / name).read_bytes() != wanted[name]]
    return sorted({*changed, *(present ^ wanted.keys())})


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        names = differing()
        lines = [f"{name} is not what generate.py writes" for name in names] or ["every vector is as generated"]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        return 1 if names else 0
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
