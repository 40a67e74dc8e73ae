"""Find or install a Chromium for the browser tests: `python -m tests.browser.chromium` says which.

One that is there, else Debian's package, else Playwright's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """Path of a Chromium that is there: on the PATH, or Playwright's own."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return str(own) if own.exists() else None


def install_from_debian() -> bool:
    """Debian's package, where we are root or may become it without a password."""
    if shutil.which("apt-get") is None:
        return False
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another package manager may be at work, as on a machine that has just started: it is waited for.
    apt = [*prefix, "apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    for command in (["update"], ["install", "-y", "chromium", "fonts-noto-cjk"]):
        try:
            subprocess.run([*apt, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


def install_from_playwright() -> bool:
    """Playwright's own build, into the user's cache."""
    return subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False).returncode == 0


def main() -> int:
    """Say which Chromium the tests will use; install one where there is none."""
    for origin, install in (
        ("one that was there", lambda: True),
        ("Debian's package", install_from_debian),
        ("Playwright's own", install_from_playwright),
    ):
        if install() and (found := find_chromium()):
            print(f"Browser tests use {found} ({origin}).")
            return 0
    print("Browser tests need Chromium, and it could not be installed: sudo apt-get install chromium", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
