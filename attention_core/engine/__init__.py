"""One call, from its arrays to its result: two ways of computing, tiles and edges, on one base."""
