"""Runtimes: devices, and the ways in which members are executed on them."""
