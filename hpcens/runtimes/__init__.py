"""Runtimes: load members and run them on a device. With `engine` and below, the only door to torch."""
