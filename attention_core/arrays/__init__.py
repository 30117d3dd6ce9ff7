"""Input arrays, products of arrays, and reused memory."""
