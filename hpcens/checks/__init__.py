"""Refuse what cannot work before anything starts."""
