"""Labels of records as the ledger sees them: keyed tags, equal for equal labels of one patient at one custodian.

The label key of a patient is kept sealed by each custodian for itself; handing it to delegates and other custodians
comes later, so a tag is known by the node that keeps the record.
"""

import hmac

from nacl.utils import random

from node.custody.data_keys import DataKeys
from storage.schema.codes import SENSITIVITIES

LABEL_KEY_BYTES = 32
TAG_BYTES = 16


class LabelError(Exception):
    """A label is not one that records may carry."""

    code = "sensitivity.unknown"


class Labels:
    """Makes tags with the label keys that this member holds."""

    def __init__(self, data_keys: DataKeys) -> None:
        """Keep the label keys beside the data keys, sealed like them."""
        self._data_keys = data_keys

    def tag(self, patient: bytes, sensitivity: str) -> bytes:
        """Return the tag of a sensitivity on a patient's records at this member.

        Raises:
            LabelError: no HL7 sensitivity has this code.
        """
        if sensitivity not in SENSITIVITIES:
            raise LabelError(f"one of {', '.join(SENSITIVITIES)}")
        key = self._data_keys.label_key(patient, random(LABEL_KEY_BYTES))
        return hmac.digest(key, b"CARETRACE/label/1" + sensitivity.encode(), "sha256")[:TAG_BYTES]

    def tags(self, patient: bytes, sensitivities: tuple[str, ...]) -> tuple[bytes, ...]:
        """Return the tags of a record's labels, each once, in an order that says nothing."""
        return tuple(sorted({self.tag(patient, sensitivity) for sensitivity in sensitivities}))
