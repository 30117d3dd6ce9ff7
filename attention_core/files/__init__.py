"""Arrays and parameters in files, written whole or not at all."""
