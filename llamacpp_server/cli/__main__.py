"""`python -m llamacpp_server.cli`."""

import sys

from . import main

sys.exit(main())
