"""The devices that execute members: found, opened, fed."""
