"""The contract between stubs and handlers: signatures, their comparison, and the file that carries them."""
