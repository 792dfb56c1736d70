"""Build journal records as the journal writes them, without a journal."""

import json

from reconciler.state.journal import Entry, encode_record


def record_of(entry: Entry, number: int) -> bytes:
    """Return the bytes of one record.

    The entry may set `flushed`. The default is the record's own number, as if each record had been flushed by itself.
    """
    fields = {name: value for name, value in entry.items() if name != "flushed"}
    return encode_record(json.dumps(fields).encode(), number, entry.get("flushed", number))
