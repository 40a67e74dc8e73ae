"""Every session-state key and query parameter, each a constant."""

# session state
PAGE_MAY_RUN = "page_may_run"
"""Set by `main` right before a page runs, taken away by the page's guard."""
SESSION_STARTED = "session_started"
FORM_REVISION = "config_form_revision"
"""Goes up when the text changed elsewhere, so that the form's fields are made anew."""
TEXT_REVISION = "config_text_revision"
"""Likewise for the text view, when the form changed the text."""
DIFF_FILTER = "config_diff_filter"
DOES_NOT_FIT = "config_does_not_fit"
"""(draft, its text, the refusal with its remedies)."""
HEALTH = "verify_health"
"""(which tensors were read, the records of their layers)."""
LOADED_REPORT = "verify_loaded_report"
"""(what was asked, the report of the loaded model)."""

# query parameters, which a link carries
LANGUAGE = "lang"
DRAFT = "draft"
RUN = "run"
ADAPTER = "adapter"
