"""`hatch run demo`: starts the worker, sells a batch of orders, shows what comes back, stops the worker."""

import sys

try:
    from examples.quickstart.demo.run import main

    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)
