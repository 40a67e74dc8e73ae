"""Session-state keys of the verify screen."""

HEALTH = "verify_health"
"""(which tensors were read, the records of their layers)."""
LOADED_REPORT = "verify_loaded_report"
"""(what was asked, the report of the loaded model)."""
ASKED_NAME = "verify_asked_name"
"""Name of the uploaded config that the adapter is held against."""
FITS_UNANSWERED = "verify_fits_unanswered"
"""(adapter's folder, why the torch process said nothing of it and its base model)."""

BY, PLACE, ROWS, ROWS_FILE, MOST_ROWS = (
    "truncate_by",
    "truncate_at",
    "truncate_rows",
    "truncate_rows_file",
    "truncate_most_rows",
)
"""Of the tab that truncates: by what, where the slider stands, and which rows are measured, how many at most."""
