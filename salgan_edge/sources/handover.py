"""Handing items from one thread to another, either every one or the newest."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Generic, Self, TypeVar

__all__ = ["Handover"]

T = TypeVar("T")

# A wait without an end cannot be interrupted by Ctrl-C on Windows.
_LONGEST_WAIT = 0.5 if os.name == "nt" else None


class Handover(Generic[T]):
    """A few places between a thread that puts and one that gets.

    Lossless, `put` waits while all places are taken. With `newest`, it never waits: the oldest
    waiting item is dropped instead.

    >>> slot = Handover[str](newest=True)
    >>> slot.put("old"), slot.put("new"), slot.get(), slot.dropped
    (True, True, 'new', 1)
    """

    def __init__(self, capacity: int = 1, *, newest: bool) -> None:
        """Make it empty.

        Args:
            capacity: how many items may wait, 1 or more.
            newest: drop the oldest waiting item instead of waiting.

        Raises:
            ValueError: no capacity.
        """
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}: 1 or more was expected")
        self._capacity = capacity
        self._newest = newest
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many items were put and never got: replaced, or left when it was closed."""
        return self._dropped

    def put(self, item: T) -> bool:
        """Hand an item over; False when it was closed or finished, and the item is not taken."""
        with self._changed:
            while not self._newest and len(self._items) >= self._capacity and not self._is_over():
                self._changed.wait(_LONGEST_WAIT)
            if self._is_over():
                return False
            if len(self._items) >= self._capacity:
                self._items.popleft()
                self._dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T:
        """The oldest waiting item.

        Args:
            timeout: longest wait in seconds; None waits without an end.

        Raises:
            EOFError: there will be no more items.
            TimeoutError: nothing came in time.
            BaseException: what `fail` was given.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items:
                if self._error is not None and not self._closed:
                    raise self._error
                if self._is_over():
                    raise EOFError("no more items")
                wait = _LONGEST_WAIT
                if until is not None:
                    left = until - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"nothing came in {timeout:g} s")
                    wait = left if wait is None else min(left, wait)
                self._changed.wait(wait)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that no more items come; those that wait are still delivered."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Raise an error at the getter: after the waiting items, or at once where only the newest counts."""
        with self._changed:
            if self._is_over():
                return
            if self._newest:
                self._drop_all()
            self._error = error
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nobody gets any more: waiting items are dropped, putters and getters stop waiting."""
        with self._changed:
            self._closed = True
            self._drop_all()
            self._changed.notify_all()

    def __iter__(self) -> Self:
        """The items until there are no more."""
        return self

    def __next__(self) -> T:
        """The oldest waiting item; see `get`."""
        try:
            return self.get()
        except EOFError:
            raise StopIteration from None

    def _is_over(self) -> bool:
        return self._finished or self._closed

    def _drop_all(self) -> None:
        self._dropped += len(self._items)
        self._items.clear()
