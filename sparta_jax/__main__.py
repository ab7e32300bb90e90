"""`python -m sparta_jax`."""

import sys

from .cli import main

sys.exit(main())
