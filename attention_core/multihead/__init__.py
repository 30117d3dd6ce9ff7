"""Multi-head attention: a layer of heads, each with a scorer."""
