"""A thread that is waited for until it has really ended, however often the waiting is interrupted.

Before Python 3.13 an exception out of :meth:`threading.Thread.join` (Ctrl-C, the alarm) marks the thread as dead while
it still runs (github.com/python/cpython/issues/90882): ``is_alive()`` is False from then on and a second ``join()``
returns at once. Whoever then frees what the thread reads - a ring of libbpf's - ends the process.
"""

import threading
from collections.abc import Callable


class Worker(threading.Thread):
    """Calls ``do`` with ``arguments``; a daemon: it does not keep the process."""

    def __init__(self, do: Callable[..., None], *arguments: object) -> None:
        super().__init__(target=do, args=arguments, daemon=True)
        self._over = threading.Event()

    def run(self) -> None:
        """In the thread."""
        try:
            super().run()
        finally:
            self._over.set()

    def wait(self) -> None:
        """Until it has ended; at once where it never began. What interrupts this changes nothing: wait again."""
        if self.ident is not None:
            self._over.wait()
