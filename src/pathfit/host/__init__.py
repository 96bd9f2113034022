"""The only place with sockets, setns, ctypes, subprocess and clocks.

* :mod:`~pathfit.host.netns` - stand in another network namespace for a moment, and never stay there.

Everything here is thin: it does what it is told and returns values or raises OSError.
"""
