"""`python -m llamacpp_server.cli`."""

import sys

from .command import main

sys.exit(main())
