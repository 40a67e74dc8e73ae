"""Session-state keys of every page."""

PAGE_MAY_RUN = "page_may_run"
"""Set by `main` right before a page runs, taken away by the page's guard."""
SESSION_STARTED = "session_started"
FAILURES = "failures"
"""Why callbacks could not do what they were for, to be said once."""
NOTICES = "notices"
"""(sentence, icon) of each toast that a callback has for the page after it."""
