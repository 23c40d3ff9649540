"""Launch: starts the ranks of a run, watches over them, and tells how it ended."""
