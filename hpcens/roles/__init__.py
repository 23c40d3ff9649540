"""Roles: what reader, reducer and device workers decide. Pure: they yield Sends and do no I/O."""
