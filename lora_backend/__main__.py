"""`python -m lora_backend`, and the command `flightdeck`."""

import gc
import sys

gc.disable()  # what is imported stays, so looking through it for garbage is in vain
from lora_backend.cli import main  # noqa: E402

gc.enable()


def flightdeck() -> int:
    """The same command line under a shorter name; without a word it serves the dashboard."""
    code = main(sys.argv[1:] or ["serve"], program="flightdeck")
    gc.freeze()  # nor does it go at the end, where looking through torch takes a second
    return code


if __name__ == "__main__":
    code = main()
    gc.freeze()
    sys.exit(code)
