"""Pictures of a set that cannot be read: all of them are told at once, not one at each start."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from genlab.errors import InputError

NUM_NAMED = 20  # damaged pictures that are named


class Damaged:
    """A context in which pictures are read, and at whose end the damaged ones are refused together; true if any is.

    Raises:
        InputError: when the context ends, if pictures could not be read; it says what was said of each of them.
    """

    def __init__(self) -> None:
        self._said: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._said)

    def __enter__(self) -> "Damaged":
        return self

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note that a picture cannot be read, and go on; threads may do so at the same time."""
        try:
            yield
        except InputError as error:
            self._said.append(str(error))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None or not self._said:
            return
        if len(self._said) == 1:
            raise InputError(self._said[0])
        num, named = len(self._said), sorted(self._said)[:NUM_NAMED]
        more = f"; and {num - len(named):,} more" if num > len(named) else ""
        raise InputError(f"{num:,} pictures cannot be used: {'; '.join(named)}{more}")
