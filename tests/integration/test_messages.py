"""What the program says is in words that a newcomer knows."""

import re

import pytest

from messages import messages

BANNED = {
    r"\bdeeds?\b": "name it: the call, the entry, the action",
    r"\bwanted (absent|aborted|running|\{)": "declared absent",
    r"\bunblocks?\b": "what to do",
    r"\bon record\b": "recorded",
    r"\bnobody (knows|can tell)\b": "it is not known",
    r"\b(is|was|are|were) told\b": "shown, said, known",
    r"\b(drop|look|wait|go)s? no (further|longer)\b": "stopped",
    r"\btells? nothing\b": "has no entry",
    r"\bno such thing\b": "name it",
    r"\bas ever\b": "as before",
    r"\bsays all\b": "say what it says",
    r"\bin other words\b": "with other content",
}


def test_the_list_of_messages_holds_those_that_are_known_to_be_shown() -> None:
    texts = [text for _, _, text in messages()]
    assert len(texts) > 700
    for known in (
        "Carry out the plan.",
        "How you know; kept in the record and in the history.",
        "was sent at {sent_at}, and it is not known whether",
        "Wrote {path}: serial {found.serial}.",
    ):
        assert any(known in text for text in texts), known


@pytest.mark.parametrize("pattern", BANNED)
def test_no_message_has_a_word_of_ours_in_place_of_a_plain_one(pattern: str) -> None:
    found = [f"{module}:{line}: {text}" for module, line, text in messages() if re.search(pattern, text, re.IGNORECASE)]
    assert found == [], f"better: {BANNED[pattern]}"
