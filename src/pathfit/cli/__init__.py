"""The command line: the outermost shell. It parses, calls, prints and chooses the exit status; it decides nothing.

* :mod:`~pathfit.cli.entry` - the console script: ``--version`` without any import, signals, the last border;
* :mod:`~pathfit.cli.app` - the commands (click); :mod:`~pathfit.cli.options` - what they have in common;
* :mod:`~pathfit.cli.target` - the grammar of WHERE and TARGET, pure;
* :mod:`~pathfit.cli.alone` - `probe` where it is one file on the standard library alone (tools/onefile);
* :mod:`~pathfit.cli.talk` - stdout is data, stderr is talk; language, width, colour, ASCII;
* :mod:`~pathfit.cli.snapshots` - hosts in files, written and opened; :mod:`~pathfit.cli.predicting` - `predict`;
* :mod:`~pathfit.cli.saved` - case folders on disk; :mod:`~pathfit.cli.demo`, :mod:`~pathfit.cli.isolation`.

Exit status: 0 no fault of severity error, 1 at least one, 2 usage, 3 could not examine or verdict unknown,
130 interrupted. Whatever goes wrong on purpose is a :class:`~pathfit.cli.stop.Stop`: a sentence, a line that can be
typed, a status. Everything else is a defect of ours and ends in one sentence as well; ``-v`` shows where.

Every import above the standard library happens inside the command that needs it (``--version`` in 40 ms).
"""
