"""Arrays that may come in, products of them, and reused memory."""
