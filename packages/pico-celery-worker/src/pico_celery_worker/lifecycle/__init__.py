"""What happens when a worker starts and stops."""
