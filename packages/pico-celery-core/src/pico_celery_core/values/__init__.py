"""Values of the types that were declared: to JSON and back, by the annotations of stubs and handlers."""
