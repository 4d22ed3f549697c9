"""What a worker tells the tools that watch it: its health and metrics over HTTP, and the fields of its log records."""
