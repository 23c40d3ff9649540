"""Everything of one run on disk: its directory, starts, events, submission and status."""
