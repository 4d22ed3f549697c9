"""Publishing: a bound call becomes a message."""
