"""``python -m pathfit.lab.services``: reads its orders from stdin (see :mod:`pathfit.lab.helper`)."""

import threading

from pathfit.lab import helper
from pathfit.lab.services.listen import listeners


def main() -> None:
    told = helper.begin()
    try:
        loops = [loop for service in told["services"] for loop in listeners(service)]
    except (OSError, ValueError) as e:
        helper.ready(told, f"{e}")
        raise SystemExit(1) from None
    for loop in loops:
        threading.Thread(target=loop, daemon=True).start()
    helper.ready(told)
    helper.stay(told)


if __name__ == "__main__":
    main()
