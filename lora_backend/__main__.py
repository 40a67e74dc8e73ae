"""`python -m lora_backend`."""

import sys

from lora_backend.cli import main

sys.exit(main())
