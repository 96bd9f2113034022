"""The command line: the outermost shell. It parses, calls, prints and chooses the exit status; it decides nothing.

* :mod:`~pathfit.cli.entry` - the console script: ``--version`` without any import, signals, the last border;
* :mod:`~pathfit.cli.border` - signals, streams, every way to end; :mod:`~pathfit.cli.stop` - how one ends on purpose;
* :mod:`~pathfit.cli.app` - the commands (click); :mod:`~pathfit.cli.options` - what they have in common;
  :mod:`~pathfit.cli.lean` - options and files without the parts of click that are slow to import;
* :mod:`~pathfit.cli.target` - the grammar of WHERE and TARGET, pure; :mod:`~pathfit.cli.asked` - options to a question;
  :mod:`~pathfit.cli.placing` - a WHERE among snapshots;
* :mod:`~pathfit.cli.talk` - stdout is data, stderr is talk; language, width, colour, ASCII;
* :mod:`~pathfit.cli.output` - stdout or a file; :mod:`~pathfit.cli.saved` - case folders on disk.

A module a command: ``examining`` (`diagnose`, `probe`; ``rounds`` again and again, ``many`` from several
places), ``replaying``, ``tracing``, ``matrix`` (all pairs), ``scanning``, ``snapshots`` (which opens files for
the others as well), ``predicting``, ``mapping``, ``overheads``, ``explaining``, ``fixing`` (``repairs``: those of
before; ``unfinished``: one that was interrupted), ``labs``, ``demo`` (``isolation``: where it can touch nothing).
``alone`` is `probe` as one file on the standard library alone (tools/onefile).

Exit status: 0 no fault of severity error, 1 at least one, 2 usage, 3 could not examine or verdict unknown,
130 interrupted. Whatever goes wrong on purpose is a :class:`~pathfit.cli.stop.Stop`: a sentence, a line that can be
typed, a status. Everything else is a defect of ours and ends in one sentence as well; ``-v`` shows where.

Every import above the standard library happens inside the command that needs it (``--version`` in 40 ms).
"""
