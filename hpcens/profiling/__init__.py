"""Measure members, links and disks, and keep the figures."""
