"""Ways to execute a member: which can be tried where, and how a member is prepared for each."""
