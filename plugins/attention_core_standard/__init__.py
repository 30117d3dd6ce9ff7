"""The bundled scorers, normalizers and biases, registered as a plugin like any other."""
