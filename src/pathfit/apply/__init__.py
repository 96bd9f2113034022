"""Apply: performs a :class:`~pathfit.core.finding.Fix`, proves that it helped, takes it back.

::

    choose -> prepare all steps -> journal -> step, journal, step, journal ... -> verify -> keep
                                                                                   `-> undo (reverse order)

``step.py`` says what a kind of change must be able to do; ``routes``, ``links`` (with ``ipv6``, which the kernel
forgets below 1280), ``forwarding``, ``tables``, ``files``, ``ovs``, and of an engine ``restart`` (``unread``: would it
start again?) and ``networks`` (both by ``dockerapi``) and ``containers`` (Podman's own) are the kinds, ``steps.py``
names them all. ``store.py`` keeps the journals: one JSON file a repair, synced to disk before anything is touched, and
a lock that one repair holds at a time. ``sequence.py`` is the order of events, ``verify.py`` measures again,
``watchdog.py`` undoes when nobody confirms, ``choose.py`` (pure) decides what may be applied. Namespaces are found
again by their id, never by name alone (``places.py``).

Everything is written so that being killed between any two lines leaves a journal from which the next pathfit can
make everything as it was. docs/decisions/0004-repair.md has the reasons.
"""
