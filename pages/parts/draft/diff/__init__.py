"""A draft beside a base: what differs, and what each difference does."""
