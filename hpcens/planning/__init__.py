"""From profiles to a plan."""
