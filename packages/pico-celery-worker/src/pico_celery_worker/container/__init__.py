"""Resolution: how a task component is built, and cleaned up, as the container would."""
