"""What remembers values between commands, so that what has not changed need not be read again."""

from typing import Any, Protocol


class Memory(Protocol):
    """Values of files, each by its kind and the file's whole content.

    What is recalled is equal to what was remembered, by this version of the tool, or it is nothing.
    """

    def recall(self, kind: str, content: bytes) -> Any:
        """The value of a file of this content, None where it is not remembered. Raises nothing."""

    def remember(self, kind: str, content: bytes, value: Any) -> None:
        """Remember it; it is made of dict, list, str, int, float, bool and None. Raises nothing."""


class Forgetful:
    """A `Memory` that remembers nothing."""

    def recall(self, kind: str, content: bytes) -> Any:
        return None

    def remember(self, kind: str, content: bytes, value: Any) -> None:
        return


FORGETFUL = Forgetful()
