"""Run one command and write "status seconds kilobytes" to a descriptor: python -I -S meter.py FD CMD...

A process of its own, because ru_maxrss of a child begins with what its parent had when it forked (fork(2) copies,
execve(2) keeps the mark): measured from pytest it would be pytest's. A signal sent to us goes to the command.
"""

import os
import signal
import sys
import time


def main() -> None:
    report, command = int(sys.argv[1]), sys.argv[2:]
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(report)
        os.execvp(command[0], command)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: os.kill(child, n))
    _, status, used = os.wait4(child, 0)
    line = f"{os.waitstatus_to_exitcode(status)} {time.monotonic() - start:.4f} {used.ru_maxrss}"
    os.write(report, line.encode())


main()
