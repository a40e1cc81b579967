"""The product's settings, for who works in it: Redis and the exchange lie behind lines that may be cut or lose answers.

`up`, the paper exchange and the pages keep the direct way: they are what the storm is made with.
"""

import os
import sys

from quantum.settings import *  # noqa: F403

if sys.argv[1:2] and sys.argv[1] in ("qcluster", "consume"):
    REDIS_URL = os.environ["CHAOS_REDIS_URL"]
    PAPER_URL = os.environ["CHAOS_PAPER_URL"]
