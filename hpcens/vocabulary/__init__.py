"""The words of the system as plain data: devices, segments, messages, profiles, plans."""
