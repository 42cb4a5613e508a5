"""A worker that writes hung calls off after seconds: the product's own, with shorter deadlines."""

import sys

from worker import watchdog
from worker.cli import main
from worker.host import under_way
from worker.host.errors import Call

ATTACH_DEADLINE_S = 2.0

if __name__ == "__main__":
    under_way.DEADLINES_S = {**under_way.DEADLINES_S, Call.ATTACH: ATTACH_DEADLINE_S}
    watchdog.INTERVAL_S = 0.2
    sys.exit(main())
