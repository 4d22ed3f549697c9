"""Execution: one message's handler on the event loop."""
