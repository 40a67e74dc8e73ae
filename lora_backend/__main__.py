"""`python -m lora_backend`."""

import gc
import sys

gc.disable()  # what is imported stays, so looking through it for garbage is in vain
from lora_backend.cli import main  # noqa: E402

gc.enable()
code = main()
gc.freeze()  # nor does it go at the end, where looking through torch takes a second
sys.exit(code)
