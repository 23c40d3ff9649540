"""From members' outputs to what is stored."""
