"""The bundled scorers, registered as a plugin like any other."""
