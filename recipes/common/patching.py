"""Attributes of instances, replaced while a block runs and put back exactly as they were.

Keras keeps track of what is assigned to layers and models; both functions here bypass it. They differ in who sees the
change: a stand-in of `wrapped` is called only by the thread that put it there, a value of `replaced` is seen by all
threads.
"""

import contextlib
import functools
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_ABSENT = object()
_LOCK = threading.RLock()  # held while attributes are set, never while a block runs


@contextlib.contextmanager
def wrapped(wrappers: Iterable[tuple[Any, str, Callable[[Callable], Callable]]]) -> Iterator[None]:
    """Let functions stand in for methods of instances, in this thread, until the block ends.

    Another thread that calls the same object meanwhile gets the object's own method, and may put stand-ins of its own
    there. Blocks nest: the inner stand-in wraps the outer one. Whatever is traced into a graph inside the block keeps
    the stand-in; graphs traced before do not see it.

    Args:
        wrappers: `(object, name, wrap)` triples. `wrap(method)` gets the method that this thread would have called, and
            returns the one that it calls instead.
    """
    entered, thread = [], threading.get_ident()
    try:
        for owner, name, wrap in wrappers:
            with _LOCK:
                method = _METHODS.get((id(owner), name)) or _Method(owner, name)
                entered.append((method, len(method.stacks.get(thread, ()))))
                method.push(thread, wrap)
        yield
    finally:
        with _LOCK:
            for method, depth in reversed(entered):
                method.cut(thread, depth)


@contextlib.contextmanager
def replaced(values: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes of instances, for all threads, until the block ends.

    Blocks in several threads may end in another order than they began: the last one to end puts back what was there
    before the first one began.

    Args:
        values: `(object, name, value)` triples.
    """
    entered = []
    try:
        for owner, name, value in values:
            with _LOCK:
                entry = _Entry(owner, name, vars(owner).get(name, _ABSENT))
                entered.append(entry)
                _ENTRIES.append(entry)
                _set(owner, name, value)
        yield
    finally:
        with _LOCK:
            for entry in reversed(entered):
                entry.leave()


class _Method:
    """One method of one instance: a dispatcher in its place, and the stand-ins of each thread."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name
        self.own, self.original = vars(owner).get(name, _ABSENT), getattr(owner, name)
        self.stacks = {}

    def push(self, thread, wrap):
        stack = self.stacks.get(thread, [])
        stand_in = wrap(stack[-1] if stack else self.original)
        if not self.stacks:
            _METHODS[id(self.owner), self.name] = self
            _set(self.owner, self.name, self._dispatcher())
        self.stacks[thread] = [*stack, stand_in]

    def cut(self, thread, depth):
        """Take away what this thread has put above `depth`, and the dispatcher with the last stand-in of all."""
        stack = self.stacks.pop(thread, [])[:depth]
        if stack:
            self.stacks[thread] = stack
        if not self.stacks and _METHODS.pop((id(self.owner), self.name), None):
            _put_back(self.owner, self.name, self.own)

    def _dispatcher(self):
        stacks, original = self.stacks, self.original

        @functools.wraps(original, updated=())
        def dispatch(*args, **kwargs):
            stack = stacks.get(threading.get_ident())
            return (stack[-1] if stack else original)(*args, **kwargs)

        return dispatch


class _Entry:
    """One value put in the place of another."""

    def __init__(self, owner, name, before):
        self.owner, self.name, self.before = owner, name, before

    def leave(self):
        """Put back what was there, or leave that to the entry that came on top."""
        if self not in _ENTRIES:
            return
        later = _ENTRIES[_ENTRIES.index(self) + 1 :]
        _ENTRIES.remove(self)
        above = [entry for entry in later if entry.owner is self.owner and entry.name == self.name]
        if above:
            above[0].before = self.before
        else:
            _put_back(self.owner, self.name, self.before)


_METHODS: dict[tuple[int, str], _Method] = {}
_ENTRIES: list[_Entry] = []


def _set(owner, name, value):
    if isinstance(owner, types.ModuleType):
        setattr(owner, name, value)
    else:
        object.__setattr__(owner, name, value)


def _put_back(owner, name, value):
    if value is not _ABSENT:
        _set(owner, name, value)
    elif name in vars(owner):
        object.__delattr__(owner, name)
