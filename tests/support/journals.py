"""Records of a journal as the journal writes them, without one."""

import json

from reconciler.state.journal import Entry, encode_record


def record_of(entry: Entry, number: int) -> bytes:
    """The bytes of one record. `flushed` is as the entry says, else as where each record was flushed by itself."""
    fields = {name: value for name, value in entry.items() if name != "flushed"}
    return encode_record(json.dumps(fields).encode(), number, entry.get("flushed", number))
