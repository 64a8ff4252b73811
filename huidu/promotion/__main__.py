"""`python -m huidu.promotion`: see `huidu.promotion.protocol`."""

import sys

from huidu.promotion.protocol import main

sys.exit(main())
