"""Names: what plugins offer, which of them wins, and how to look one up."""
