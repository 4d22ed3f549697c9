"""Failures: an exception's way from the worker through a result backend to the caller."""
