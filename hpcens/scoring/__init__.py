"""One start of a run, as one rank lives it."""
